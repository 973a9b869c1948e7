//! The loop that steps the scheduler: takes requests from the queue, computes step after step at the configured pace,
//! measures, and hands each token to the request it belongs to.
//!
//! One task owns the scheduler; everything else talks to it through bounded channels. A request whose client went away
//! is aborted before the next step.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::drift::DriftMonitor;
use crate::metrics::{Finished, FinishedReason, Metrics};
use crate::model::Model;
use crate::scheduler::{Ended, NewSequence, Produced, Scheduler, SchedulerLimits, SequenceId, Step};
use crate::server::stop_asked;

/// How long a step lasts at least. Stands in for the GPU's time, which so small a model does not need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepCost {
    /// Each step.
    pub step: Duration,
    /// Each prompt token computed in it.
    pub prefill_token: Duration,
    /// Each sequence that gets its next token in it.
    pub decode_sequence: Duration,
}

impl StepCost {
    /// No time but what the computation takes.
    pub const NONE: Self =
        Self { step: Duration::ZERO, prefill_token: Duration::ZERO, decode_sequence: Duration::ZERO };

    fn of(&self, step: &Step) -> Duration {
        let times = |each: Duration, n: usize| each.saturating_mul(u32::try_from(n).unwrap_or(u32::MAX));
        self.step + times(self.prefill_token, step.prefill_tokens) + times(self.decode_sequence, step.decode_sequences)
    }
}

/// A request on its way into the engine.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) id: SequenceId,
    pub(crate) prompt: String,
    pub(crate) max_tokens: usize,
    pub(crate) temperature: f64,
    pub(crate) seed: u64,
    pub(crate) arrived: Instant,
    /// Has room for every event of this request. Closed by the receiver when the client goes away.
    pub(crate) events: mpsc::Sender<Event>,
    /// The request's place among those that the server holds at once.
    pub(crate) place: OwnedSemaphorePermit,
}

/// What happens to a request. The last event is `Finished`, or the channel closes before: the server stopped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Event {
    Character(char),
    Finished { reason: &'static str, prompt_tokens: usize, generated_tokens: usize },
}

#[derive(Debug)]
struct Request {
    events: mpsc::Sender<Event>,
    prompt_tokens: usize,
    max_tokens: usize,
    arrived: Instant,
    scheduled: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Instant,
    generated_tokens: usize,
    log_probability: f64,
    _place: OwnedSemaphorePermit,
}

/// Owns the model's queues.
#[derive(Debug)]
pub(crate) struct Engine {
    model: Arc<Model>,
    metrics: Arc<Metrics>,
    scheduler: Scheduler,
    cost: StepCost,
    drift: DriftMonitor,
    submissions: mpsc::Receiver<Submission>,
    requests: HashMap<SequenceId, Request>,
}

impl Engine {
    pub(crate) fn new(
        model: Arc<Model>,
        metrics: Arc<Metrics>,
        limits: SchedulerLimits,
        cost: StepCost,
        submissions: mpsc::Receiver<Submission>,
    ) -> Self {
        let drift = DriftMonitor::new(crate::TRAINING_TEXT);
        metrics.drift(&drift.scores());
        Self { model, metrics, scheduler: Scheduler::new(limits), cost, drift, submissions, requests: HashMap::new() }
    }

    /// Serves until `stop` becomes true; what is unfinished then is aborted.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            while let Ok(submission) = self.submissions.try_recv() {
                self.accept(submission);
            }
            self.abort_abandoned();
            if self.scheduler.is_idle() {
                self.set_gauges();
                tokio::select! {
                    submission = self.submissions.recv() => match submission {
                        Some(submission) => self.accept(submission),
                        None => break,
                    },
                    () = stop_asked(&mut stop) => break,
                }
                continue;
            }
            let started = Instant::now();
            let step = self.scheduler.schedule();
            self.set_gauges();
            let produced = self.scheduler.execute(&step, &self.model);
            tokio::select! {
                () = sleep_until(started + self.cost.of(&step)) => {}
                () = stop_asked(&mut stop) => break,
            }
            self.account_step(&step, started);
            // Whoever gets an answer finds the request gone from the gauges.
            self.set_gauges();
            let now = Instant::now();
            for produced in produced {
                self.deliver(&produced, now);
            }
            // A step without cost does not wait above; the server's other tasks need their turn.
            tokio::task::yield_now().await;
        }
        self.submissions.close();
        while let Ok(submission) = self.submissions.try_recv() {
            self.accept(submission);
        }
        self.requests.drain().for_each(|_| self.metrics.aborted());
        self.scheduler.abort_all();
        self.set_gauges();
    }

    fn accept(&mut self, submission: Submission) {
        let Submission { id, prompt, max_tokens, temperature, seed, arrived, events, place } = submission;
        self.drift.observe(&prompt);
        self.metrics.drift(&self.drift.scores());
        let mut tokens = Vec::with_capacity(prompt.len());
        self.model.encode(&prompt, &mut tokens);
        let request = Request {
            events,
            prompt_tokens: tokens.len(),
            max_tokens,
            arrived,
            scheduled: None,
            first_token: None,
            last_token: arrived,
            generated_tokens: 0,
            log_probability: 0.0,
            _place: place,
        };
        self.requests.insert(id, request);
        self.scheduler.add(NewSequence { id, prompt: tokens, generate_max: max_tokens, temperature, seed });
    }

    fn abort_abandoned(&mut self) {
        let abandoned: Vec<_> =
            self.requests.iter().filter(|(_, request)| request.events.is_closed()).map(|(&id, _)| id).collect();
        for id in abandoned {
            self.scheduler.abort(id);
            self.requests.remove(&id);
            self.metrics.aborted();
        }
    }

    fn set_gauges(&self) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.running.set(count(self.scheduler.n_running()));
        self.metrics.waiting.set(count(self.scheduler.n_waiting()));
        self.metrics.cache_usage(self.scheduler.cache_usage());
    }

    fn account_step(&mut self, step: &Step, started: Instant) {
        self.metrics.step(step.prefill_tokens + step.decode_sequences);
        self.metrics.preemptions.inc_by(step.preemptions);
        self.metrics.cache_queries.inc_by(step.cache_queries);
        self.metrics.cache_hits.inc_by(step.cache_hits);
        for id in &step.admitted {
            if let Some(request) = self.requests.get_mut(id) {
                // A preempted request comes here again; it waited for the batch only once.
                request.scheduled.get_or_insert(started);
            }
        }
    }

    fn deliver(&mut self, produced: &Produced, now: Instant) {
        let Some(request) = self.requests.get_mut(&produced.id) else { return };
        request.generated_tokens += 1;
        request.log_probability += produced.probability.ln();
        self.metrics.generated_tokens.inc();
        if request.first_token.is_none() {
            request.first_token = Some(now);
            self.metrics.first_token(now - request.arrived);
            self.metrics.prompt_tokens.inc_by(request.prompt_tokens as u64);
        } else {
            self.metrics.next_token(now - request.last_token);
        }
        request.last_token = now;
        if let Some(character) = produced.character {
            // The channel has room for all of a request's events; it fails only for a client that went away.
            let _ = request.events.try_send(Event::Character(character));
        }
        if let Some(ended) = produced.ended {
            self.finish(produced.id, ended);
        }
    }

    fn finish(&mut self, id: SequenceId, ended: Ended) {
        let Some(request) = self.requests.remove(&id) else { return };
        let scheduled = request.scheduled.unwrap_or(request.arrived);
        let first_token = request.first_token.unwrap_or(scheduled);
        let (reason, name) = match ended {
            Ended::Stop => (FinishedReason::stop, "stop"),
            Ended::Length => (FinishedReason::length, "length"),
        };
        self.metrics.finished(&Finished {
            reason,
            prompt_tokens: request.prompt_tokens,
            generated_tokens: request.generated_tokens,
            max_tokens: request.max_tokens,
            queued: scheduled - request.arrived,
            prefill: first_token - scheduled,
            decode: request.last_token - first_token,
            confidence: (request.log_probability / request.generated_tokens as f64).exp(),
        });
        let _ = request.events.try_send(Event::Finished {
            reason: name,
            prompt_tokens: request.prompt_tokens,
            generated_tokens: request.generated_tokens,
        });
    }
}
