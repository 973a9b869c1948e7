//! `/query`, `/query_range`, and what only needs the text of a query.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use promontory_model::{Cancel, Cancelled};
use promontory_promql::ast::{Expr, ValueType};
use promontory_promql::engine::{Engine, EngineOptions, Operator, Times};
use promontory_promql::value::{QueryOutput, QueryStats, RangeSpec, Value};
use promontory_promql::{parser, printer};
use serde_json::json;

use super::answer::{ApiError, ErrorType, Remarks, success, success_value};
use super::backend::{Backend, QueryCost};
use super::params::{Params, parse_duration};
use super::query_log::Origin;
use super::{Http, body, json, language, query_log, tree};

/// Steps of a range query, less one.
const STEPS_MAX: i64 = 11_000;

/// `/api/v1/query`.
pub(crate) async fn instant(
    State(http): State<Arc<Http>>,
    origin: Origin,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit("limit")?;
    let t_ms = params.time("time")?.unwrap_or_else(|| http.clock.now().0);
    let settings = Settings::read(&http, &params)?;
    let (expr, text) = parse(&params)?;
    let measured = params.get("stats") == "all";
    let (run, query) = (http.clone(), text.clone());
    let ran = http
        .run_query(settings.timeout_ms, move |cancel| {
            let engine = settings.engine(&run);
            let (output, operators) = match measured {
                true => engine.analyze(&*run.data, &expr, Times::At(t_ms), &|| run.clock.monotonic_ns(), cancel)?,
                false => (engine.instant(&*run.data, &expr, t_ms, cancel)?, Vec::new()),
            };
            Ok(Answered { output, operators, text })
        })
        .await;
    query_log::note(&http, &origin, &query, Times::At(t_ms), &ran);
    answer(&params, ran?, limit)
}

/// `/api/v1/query_range`.
pub(crate) async fn range(State(http): State<Arc<Http>>, origin: Origin, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit("limit")?;
    let steps = read_steps(&params)?;
    let settings = Settings::read(&http, &params)?;
    let (expr, text) = parse(&params)?;
    let kind = expr.value_type();
    if !matches!(kind, ValueType::Scalar | ValueType::InstantVector) {
        let kind = kind.as_str();
        let reason = format!("invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector");
        return Err(ApiError::parameter("query", reason));
    }
    // As VictoriaMetrics names it: an answer made from stored samples alone.
    let fresh = matches!(params.get("nocache"), "1" | "true");
    let measured = params.get("stats") == "all";
    let (run, query) = (http.clone(), text.clone());
    let ran = http
        .run_query(settings.timeout_ms, move |cancel| {
            let engine = settings.engine(&run);
            let (output, operators) = match (measured, fresh) {
                // Kept steps would hide what the operators do.
                (true, _) => {
                    engine.analyze(&*run.data, &expr, Times::Range(steps), &|| run.clock.monotonic_ns(), cancel)?
                }
                (false, true) => (engine.range(&*run.data, &expr, steps, cancel)?, Vec::new()),
                (false, false) => (run.results.range(&engine, &*run.data, &text, &expr, steps, cancel)?, Vec::new()),
            };
            Ok(Answered { output, operators, text })
        })
        .await;
    query_log::note(&http, &origin, &query, Times::Range(steps), &ran);
    answer(&params, ran?, limit)
}

/// The value of a query, and its operators where they were measured.
pub(super) struct Answered {
    pub(super) output: QueryOutput,
    operators: Vec<Operator>,
    text: String,
}

/// The steps that `start`, `end` and `step` say.
pub(super) fn read_steps(params: &Params) -> Result<RangeSpec, ApiError> {
    let start_ms = params.required_time("start")?;
    let end_ms = params.required_time("end")?;
    if end_ms < start_ms {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step_ms = match params.duration("step")? {
        None => return Err(ApiError::parameter("step", "cannot parse \"\" to a valid duration")),
        Some(step) if step > 0 => step,
        Some(_) => {
            let reason = "zero or negative query resolution step widths are not accepted. Try a positive integer";
            return Err(ApiError::parameter("step", reason));
        }
    };
    // Bounds the size of an answer: 60 s steps over a week, or an hour over a year. Counted by the step as it was given,
    // of which the part below a millisecond is lost.
    let step_ns = params.duration_ns("step").filter(|ns| *ns > 0).map_or(1, i128::from);
    if i128::from(end_ms.saturating_sub(start_ms)) * 1_000_000 / step_ns > i128::from(STEPS_MAX) {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution \
             (?step=XX)",
        ));
    }
    Ok(RangeSpec { start_ms, end_ms, step_ms })
}

/// What a request may say about its evaluation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) timeout_ms: i64,
    lookback_ms: Option<i64>,
}

impl Settings {
    pub(super) fn read(http: &Http, params: &Params) -> Result<Self, ApiError> {
        let server_ms = http.options.query_timeout.ms();
        let timeout_ms = params.duration("timeout")?.map_or(server_ms, |ms| ms.min(server_ms));
        let lookback_ms = match params.get("lookback_delta") {
            "" => None,
            text => Some(
                parse_duration(text)
                    .map_err(|e| ApiError::bad_data(format!("error parsing lookback delta duration: {e}")))?,
            ),
        };
        Ok(Self { timeout_ms, lookback_ms: lookback_ms.filter(|ms| *ms > 0) })
    }

    pub(super) fn engine(self, http: &Http) -> Engine {
        let options = http.backend.engine_options();
        let options = EngineOptions { lookback_ms: self.lookback_ms.unwrap_or(options.lookback_ms), ..options };
        Engine::with_pool(options, http.memory.clone())
    }
}

pub(super) fn parse(params: &Params) -> Result<(Expr, String), ApiError> {
    let text = params.query()?;
    let expr = parser::parse(text).map_err(|e| ApiError::parameter("query", e))?;
    Ok((expr, text.to_owned()))
}

fn answer(params: &Params, ran: Ran<Answered>, limit: Option<usize>) -> Result<Response, ApiError> {
    let Ran { value: Answered { output, operators, text }, queue_ns, run_ns } = ran;
    let QueryOutput { mut value, annotations, stats } = output;
    let mut remarks = Remarks::of(&annotations, &text);
    if truncate(&mut value, limit) {
        remarks.truncated();
    }
    let stats = match params.get("stats") {
        "" => None,
        asked => {
            if !matches!(asked, "true" | "all") {
                remarks.warnings.push(format!(
                    "value \"{asked}\" for parameter \"stats\" is deprecated and will be rejected in the next major \
                     release, use \"true\" or \"all\""
                ));
            }
            Some(show_stats(stats, &operators, queue_ns, run_ns).to_string())
        }
    };
    Ok(body::answer(value, stats, &remarks))
}

/// Keeps at most `limit` series; answers whether there were more.
fn truncate(value: &mut Value, limit: Option<usize>) -> bool {
    let Some(limit) = limit else { return false };
    let n = match value {
        Value::Vector(samples) => samples.len(),
        Value::Matrix(series) => series.len(),
        Value::Scalar(..) | Value::String(..) => return false,
    };
    match value {
        Value::Vector(samples) => samples.truncate(limit),
        Value::Matrix(series) => series.truncate(limit),
        Value::Scalar(..) | Value::String(..) => {}
    }
    n > limit
}

pub(super) fn show_stats(stats: QueryStats, operators: &[Operator], queue_ns: u64, run_ns: u64) -> serde_json::Value {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let mut shown = json!({
        "timings": {
            "evalTotalTime": seconds(run_ns),
            "resultSortTime": 0.0,
            "queryPreparationTime": 0.0,
            "innerEvalTime": seconds(run_ns),
            "execQueueTime": seconds(queue_ns),
            "execTotalTime": seconds(queue_ns.saturating_add(run_ns)),
        },
        "samples": {
            "totalQueryableSamples": stats.samples_read,
            "samplesRead": stats.samples_read,
            "peakSamples": stats.samples_peak,
        },
        "memory": { "peakBytes": stats.bytes_peak },
    });
    if !operators.is_empty() {
        shown["operators"] = language::operators(operators);
    }
    shown
}

/// What a piece of blocking work answered, and how long it waited and ran.
pub(crate) struct Ran<T> {
    pub(crate) value: T,
    pub(crate) queue_ns: u64,
    pub(crate) run_ns: u64,
}

/// Stops the work when the request's future is dropped, which happens when the client goes away.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel(Cancelled::ByUser);
    }
}

/// Tells the backend that a query ended, even when its request's future is dropped.
struct Meter {
    backend: Arc<dyn Backend>,
    cost: QueryCost,
}

impl Meter {
    fn new(backend: &Arc<dyn Backend>) -> Self {
        backend.query_began();
        let cost = QueryCost { queue_seconds: 0.0, run_seconds: 0.0, samples_read: 0 };
        Self { backend: backend.clone(), cost }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.backend.query_ended(self.cost);
    }
}

impl Http {
    /// [`Http::run`] for queries, which are counted.
    async fn run_query(
        self: &Arc<Self>,
        timeout_ms: i64,
        work: impl FnOnce(&Cancel) -> Result<Answered, ApiError> + Send + 'static,
    ) -> Result<Ran<Answered>, ApiError> {
        let mut meter = Meter::new(&self.backend);
        let ran = self.run(timeout_ms, work).await?;
        meter.cost = QueryCost {
            queue_seconds: ran.queue_ns as f64 / 1e9,
            run_seconds: ran.run_ns as f64 / 1e9,
            samples_read: ran.value.output.stats.samples_read,
        };
        Ok(ran)
    }

    /// Runs `work` on a thread of its own, when one of `query.max-concurrency` places is free and for at most
    /// `timeout_ms`, waiting included. The place is given back when the work ends, not when the answer is sent.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        timeout_ms: i64,
        work: impl FnOnce(&Cancel) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<Ran<T>, ApiError> {
        if timeout_ms <= 0 {
            return Err(ApiError::new(ErrorType::Timeout, "query timed out in query queue"));
        }
        let cancel = Cancel::new();
        let _stop_when_dropped = CancelOnDrop(cancel.clone());
        let timeout = std::time::Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
        let deadline = tokio::time::sleep(timeout);
        tokio::pin!(deadline);
        let asked_ns = self.clock.monotonic_ns();
        let place = tokio::select! {
            place = self.query_places.clone().acquire_owned() => {
                place.map_err(|_| ApiError::new(ErrorType::Canceled, "server is shutting down"))?
            }
            () = &mut deadline => return Err(ApiError::new(ErrorType::Timeout, "query timed out in query queue")),
        };
        let started_ns = self.clock.monotonic_ns();
        let flag = cancel.clone();
        let handle = tokio::task::spawn_blocking(move || {
            let _place = place;
            work(&flag)
        });
        let result = tokio::select! {
            result = handle => result,
            () = &mut deadline => {
                cancel.cancel(Cancelled::Timeout);
                return Err(ApiError::new(ErrorType::Timeout, "query timed out in expression evaluation"));
            }
        };
        let value = result.unwrap_or_else(|e| {
            tracing::error!(error = %e, "a query ended in a panic");
            Err(ApiError::new(ErrorType::Internal, "the query ended in a panic, which the server's log shows"))
        })?;
        let ended_ns = self.clock.monotonic_ns();
        let queue_ns = started_ns.saturating_sub(asked_ns);
        Ok(Ran { value, queue_ns, run_ns: ended_ns.saturating_sub(started_ns) })
    }
}

/// `/api/v1/format_query`.
pub(crate) async fn format(params: Params) -> Result<Response, ApiError> {
    let (expr, _) = parse(&params)?;
    Ok(success(&Remarks::default(), |out| json::push_string(out, &printer::pretty(&expr))))
}

/// `/api/v1/parse_query`.
pub(crate) async fn parse_query(params: Params) -> Result<Response, ApiError> {
    let (expr, _) = parse(&params)?;
    Ok(success_value(&tree::of(&expr)))
}
