//! What is measured, under the names, labels and buckets that vLLM's dashboards and the public ML dashboards query.
//!
//! Counters of colon names come out with `_total`, as vLLM's do. All series exist from the start, so that a rate over
//! the first event is right.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use crate::server::ServerConfig;

type Ratio = Gauge<f64, AtomicU64>;

const FIRST_TOKEN_BUCKETS: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];
const TOKEN_BUCKETS: [f64; 19] =
    [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0];
const REQUEST_BUCKETS: [f64; 21] = [
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
];
const STEP_TOKENS_BUCKETS: [f64; 13] =
    [1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];
const PREDICTION_BUCKETS: [f64; 13] = [0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0];
const CONFIDENCE_BUCKETS: [f64; 14] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0];

/// How a request ended, in vLLM's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the variants' names are the label's values")]
pub(crate) enum FinishedReason {
    /// The model ended the text.
    stop,
    /// It reached `max_tokens`.
    length,
    /// The client went away, or the server stopped.
    abort,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FinishedLabels {
    finished_reason: FinishedReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the variants' names are the label's values")]
enum Status {
    success,
    error,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: Status,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FeatureLabels {
    feature_set: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// The times of a request that ran to its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finished {
    pub(crate) reason: FinishedReason,
    pub(crate) prompt_tokens: usize,
    pub(crate) generated_tokens: usize,
    pub(crate) max_tokens: usize,
    /// From arrival to the first step that computed for it.
    pub(crate) queued: Duration,
    /// From there to the first token.
    pub(crate) prefill: Duration,
    /// From there to the last token.
    pub(crate) decode: Duration,
    /// Geometric mean of the probabilities of its tokens.
    pub(crate) confidence: f64,
}

/// All metrics of a server.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) registry: Registry,
    pub(crate) running: Gauge,
    pub(crate) waiting: Gauge,
    cache_usage: [Ratio; 2],
    pub(crate) cache_queries: Counter,
    pub(crate) cache_hits: Counter,
    pub(crate) preemptions: Counter,
    pub(crate) prompt_tokens: Counter,
    pub(crate) generated_tokens: Counter,
    finished: Family<FinishedLabels, Counter>,
    first_token_seconds: Histogram,
    between_tokens_seconds: [Histogram; 2],
    step_tokens: Histogram,
    request: RequestHistograms,
    predictions: Family<StatusLabels, Counter>,
    errors: Family<ReasonLabels, Counter>,
    prediction_seconds: Histogram,
    confidence: Histogram,
    drift: Family<FeatureLabels, Ratio>,
}

#[derive(Debug)]
struct RequestHistograms {
    total_seconds: Histogram,
    queue_seconds: Histogram,
    prefill_seconds: Histogram,
    decode_seconds: Histogram,
    inference_seconds: Histogram,
    token_seconds: Histogram,
    prompt_tokens: Histogram,
    generated_tokens: Histogram,
    generated_tokens_max: Histogram,
    max_tokens: Histogram,
    n: Histogram,
}

fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// 1, 2, 5, 10, 20, … up to `max`.
fn buckets_1_2_5(max: usize) -> impl Iterator<Item = f64> {
    let decades = std::iter::successors(Some(1usize), |decade| decade.checked_mul(10));
    decades
        .flat_map(|decade| [1, 2, 5].map(|m| decade.saturating_mul(m)))
        .take_while(move |&bound| bound <= max)
        .map(|bound| bound as f64)
}

impl Metrics {
    pub(crate) fn new(config: &ServerConfig) -> Self {
        let mut root = Registry::default();
        let engine = [("model_name".into(), config.model_name.clone().into()), ("engine".into(), "0".into())];

        let info = [
            ("block_size".into(), config.block_tokens.to_string().into()),
            ("num_gpu_blocks".into(), config.cache_blocks.to_string().into()),
            ("enable_prefix_caching".into(), "True".into()),
            ("cache_dtype".into(), "auto".into()),
        ];
        let r = root.sub_registry_with_labels([("engine".into(), "0".into())].into_iter().chain(info));
        add(r, "vllm:cache_config_info", "Shape of the context cache", Gauge::<i64>::default()).set(1);

        let r = root.sub_registry_with_labels(engine.into_iter());
        let seconds = |r: &mut Registry, name: &str, help: &str, buckets: &[f64]| {
            add(r, name, help, Histogram::new(buckets.iter().copied()))
        };
        let tokens = |r: &mut Registry, name: &str, help: &str| {
            add(r, name, help, Histogram::new(buckets_1_2_5(config.model_tokens_max)))
        };
        let finished = add(r, "vllm:request_success", "Requests by how they ended", Family::default());
        for finished_reason in [FinishedReason::stop, FinishedReason::length, FinishedReason::abort] {
            drop(finished.get_or_create(&FinishedLabels { finished_reason }));
        }
        let running = add(r, "vllm:num_requests_running", "Requests in the running batch", Gauge::default());
        let waiting =
            add(r, "vllm:num_requests_waiting", "Requests waiting for a place in the batch", Gauge::default());
        let cache_usage = [
            add(r, "vllm:kv_cache_usage_perc", "Share of the context cache in use, 1 is all", Ratio::default()),
            add(r, "vllm:gpu_cache_usage_perc", "Older name of vllm:kv_cache_usage_perc", Ratio::default()),
        ];
        let cache_queries =
            add(r, "vllm:prefix_cache_queries", "Tokens looked up in the context cache", Counter::default());
        let cache_hits = add(r, "vllm:prefix_cache_hits", "Tokens found in the context cache", Counter::default());
        let preemptions = add(r, "vllm:num_preemptions", "Requests pushed out of the batch", Counter::default());
        let prompt_tokens = add(r, "vllm:prompt_tokens", "Prompt tokens processed", Counter::default());
        let generated_tokens = add(r, "vllm:generation_tokens", "Tokens generated", Counter::default());
        let step_tokens = seconds(r, "vllm:iteration_tokens_total", "Tokens computed per step", &STEP_TOKENS_BUCKETS);
        let first_token_seconds =
            seconds(r, "vllm:time_to_first_token_seconds", "From arrival to the first token", &FIRST_TOKEN_BUCKETS);
        let between_tokens_seconds = [
            seconds(r, "vllm:inter_token_latency_seconds", "Between two tokens of a request", &TOKEN_BUCKETS),
            seconds(
                r,
                "vllm:time_per_output_token_seconds",
                "Older name of vllm:inter_token_latency_seconds",
                &TOKEN_BUCKETS,
            ),
        ];
        let request = RequestHistograms {
            total_seconds: seconds(
                r,
                "vllm:e2e_request_latency_seconds",
                "From arrival to the last token",
                &REQUEST_BUCKETS,
            ),
            queue_seconds: seconds(r, "vllm:request_queue_time_seconds", "Waiting for the batch", &REQUEST_BUCKETS),
            prefill_seconds: seconds(
                r,
                "vllm:request_prefill_time_seconds",
                "From the batch to the first token",
                &REQUEST_BUCKETS,
            ),
            decode_seconds: seconds(
                r,
                "vllm:request_decode_time_seconds",
                "From the first to the last token",
                &REQUEST_BUCKETS,
            ),
            inference_seconds: seconds(
                r,
                "vllm:request_inference_time_seconds",
                "From the batch to the last token",
                &REQUEST_BUCKETS,
            ),
            token_seconds: seconds(
                r,
                "vllm:request_time_per_output_token_seconds",
                "Mean time between tokens per request",
                &TOKEN_BUCKETS,
            ),
            prompt_tokens: tokens(r, "vllm:request_prompt_tokens", "Prompt tokens per request"),
            generated_tokens: tokens(r, "vllm:request_generation_tokens", "Tokens generated per request"),
            generated_tokens_max: tokens(
                r,
                "vllm:request_max_num_generation_tokens",
                "Most tokens of one choice per request",
            ),
            max_tokens: tokens(r, "vllm:request_params_max_tokens", "The max_tokens parameter"),
            n: seconds(r, "vllm:request_params_n", "The n parameter", &[1.0, 2.0, 5.0, 10.0, 20.0]),
        };

        let model = [
            ("model_name".into(), config.model_name.clone().into()),
            ("model_version".into(), config.model_version.clone().into()),
        ];
        let r = root.sub_registry_with_labels(model.into_iter());
        let predictions = add(r, "ml_predictions", "Completions by outcome", Family::default());
        for status in [Status::success, Status::error] {
            drop(predictions.get_or_create(&StatusLabels { status }));
        }
        let errors = add(r, "ml_prediction_errors", "Failed completions by reason", Family::default());
        for reason in ["invalid_request", "overloaded", "aborted"] {
            drop(errors.get_or_create(&ReasonLabels { reason }));
        }
        let prediction_seconds =
            seconds(r, "ml_prediction_latency_seconds", "From arrival to the last token", &PREDICTION_BUCKETS);
        let confidence = seconds(
            r,
            "ml_prediction_confidence",
            "Geometric mean of a completion's token probabilities",
            &CONFIDENCE_BUCKETS,
        );
        let drift = add(
            r,
            "ml_data_drift_score",
            "Divergence of the recent prompts from the training text, 0 is none, 1 is all",
            Family::default(),
        );

        Self {
            running,
            waiting,
            cache_usage,
            cache_queries,
            cache_hits,
            preemptions,
            prompt_tokens,
            generated_tokens,
            finished,
            first_token_seconds,
            between_tokens_seconds,
            step_tokens,
            request,
            predictions,
            errors,
            prediction_seconds,
            confidence,
            drift,
            registry: root,
        }
    }

    pub(crate) fn cache_usage(&self, usage: f64) {
        for gauge in &self.cache_usage {
            gauge.set(usage);
        }
    }

    pub(crate) fn step(&self, tokens: usize) {
        self.step_tokens.observe(tokens as f64);
    }

    pub(crate) fn first_token(&self, since_arrival: Duration) {
        self.first_token_seconds.observe(since_arrival.as_secs_f64());
    }

    pub(crate) fn next_token(&self, since_last: Duration) {
        self.between_tokens_seconds.iter().for_each(|h| h.observe(since_last.as_secs_f64()));
    }

    pub(crate) fn drift(&self, scores: &[(&'static str, f64)]) {
        for &(feature_set, score) in scores {
            self.drift.get_or_create(&FeatureLabels { feature_set }).set(score);
        }
    }

    pub(crate) fn finished(&self, request: &Finished) {
        self.count_finished(request.reason);
        let h = &self.request;
        let total = (request.queued + request.prefill + request.decode).as_secs_f64();
        h.total_seconds.observe(total);
        h.queue_seconds.observe(request.queued.as_secs_f64());
        h.prefill_seconds.observe(request.prefill.as_secs_f64());
        h.decode_seconds.observe(request.decode.as_secs_f64());
        h.inference_seconds.observe((request.prefill + request.decode).as_secs_f64());
        if request.generated_tokens > 1 {
            h.token_seconds.observe(request.decode.as_secs_f64() / (request.generated_tokens - 1) as f64);
        }
        h.prompt_tokens.observe(request.prompt_tokens as f64);
        h.generated_tokens.observe(request.generated_tokens as f64);
        h.generated_tokens_max.observe(request.generated_tokens as f64);
        h.max_tokens.observe(request.max_tokens as f64);
        h.n.observe(1.0);
        self.predictions.get_or_create(&StatusLabels { status: Status::success }).inc();
        self.prediction_seconds.observe(total);
        self.confidence.observe(request.confidence);
    }

    /// A request that was running or waiting is given up. Its times are not recorded: they would say when it was given
    /// up, not how fast it was.
    pub(crate) fn aborted(&self) {
        self.count_finished(FinishedReason::abort);
        self.failed("aborted");
    }

    pub(crate) fn invalid_request(&self) {
        self.failed("invalid_request");
    }

    pub(crate) fn overloaded(&self) {
        self.failed("overloaded");
    }

    fn count_finished(&self, finished_reason: FinishedReason) {
        self.finished.get_or_create(&FinishedLabels { finished_reason }).inc();
    }

    fn failed(&self, reason: &'static str) {
        self.predictions.get_or_create(&StatusLabels { status: Status::error }).inc();
        self.errors.get_or_create(&ReasonLabels { reason }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_buckets_end_at_the_model_length() {
        assert_eq!(buckets_1_2_5(100).collect::<Vec<_>>(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        assert_eq!(buckets_1_2_5(1024).last(), Some(1000.0));
    }
}
