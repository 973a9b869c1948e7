//! Continuous batching: which sequences compute how many tokens in the next step.
//!
//! Every step gives each running sequence its next token (or the next stretch of its prompt) and fills what is left of
//! the step's token budget with waiting ones, first come, first served. A sequence that cannot get a block for its next
//! token pushes out the youngest running one, which gives all its blocks back and starts over from the head of the
//! queue. A single sequence of the longest allowed length always fits the pool, so that the oldest always advances.
//! Knows no time, network or metrics.

use std::collections::VecDeque;

use crate::blocks::{BlockId, BlockPool, PrefixHash};
use crate::model::{Model, Token};
use crate::rng::Rng;

/// Identifies a sequence for as long as the server lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SequenceId(pub(crate) u64);

/// What a step may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SchedulerLimits {
    pub(crate) running_max: usize,
    pub(crate) step_tokens_max: usize,
    pub(crate) n_blocks: usize,
    pub(crate) block_tokens: usize,
}

/// A prompt to be continued.
#[derive(Debug)]
pub(crate) struct NewSequence {
    pub(crate) id: SequenceId,
    pub(crate) prompt: Vec<Token>,
    pub(crate) generate_max: usize,
    pub(crate) temperature: f64,
    pub(crate) seed: u64,
}

/// Why a sequence ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The model said so.
    Stop,
    /// It has all tokens that were asked for.
    Length,
}

/// What [`Scheduler::schedule`] decided.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Place in the running queue and tokens to compute.
    work: Vec<(usize, usize)>,
    /// Sequences that leave the waiting queue with this step.
    pub(crate) admitted: Vec<SequenceId>,
    pub(crate) prefill_tokens: usize,
    pub(crate) decode_sequences: usize,
    pub(crate) preemptions: u64,
    /// Tokens looked up in the context cache, and found there.
    pub(crate) cache_queries: u64,
    pub(crate) cache_hits: u64,
}

/// A new token of a sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Produced {
    pub(crate) id: SequenceId,
    /// None where the model ended the text.
    pub(crate) character: Option<char>,
    pub(crate) probability: f64,
    pub(crate) ended: Option<Ended>,
}

#[derive(Debug)]
struct Sequence {
    id: SequenceId,
    tokens: Vec<Token>,
    prompt_len: usize,
    generate_max: usize,
    temperature: f64,
    rng: Rng,
    /// Blocks that hold `tokens[..computed]`; the last one may have room.
    table: Vec<BlockId>,
    computed: usize,
    hash: PrefixHash,
}

impl Sequence {
    /// The last `n` tokens as the blocks hold them.
    fn context(&self, n: usize, pool: &BlockPool, out: &mut Vec<Token>) {
        let size = pool.block_tokens();
        out.clear();
        out.extend(
            (self.computed.saturating_sub(n)..self.computed).map(|i| pool.tokens(self.table[i / size])[i % size]),
        );
    }
}

/// The queues and the context cache.
#[derive(Debug)]
pub(crate) struct Scheduler {
    limits: SchedulerLimits,
    pool: BlockPool,
    waiting: VecDeque<Sequence>,
    /// Oldest first.
    running: Vec<Sequence>,
    context: Vec<Token>,
    distribution: Vec<f64>,
}

impl Scheduler {
    pub(crate) fn new(limits: SchedulerLimits) -> Self {
        let pool = BlockPool::new(limits.n_blocks, limits.block_tokens);
        Self {
            limits,
            pool,
            waiting: VecDeque::new(),
            running: Vec::new(),
            context: Vec::new(),
            distribution: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, new: NewSequence) {
        let NewSequence { id, prompt, generate_max, temperature, seed } = new;
        let total = prompt.len() + generate_max;
        assert!(!prompt.is_empty() && generate_max > 0, "a sequence has a prompt and something to generate");
        assert!(total <= self.limits.n_blocks * self.limits.block_tokens, "a sequence fits the pool alone");
        let prompt_len = prompt.len();
        let (rng, hash) = (Rng::new(seed), PrefixHash::default());
        let sequence = Sequence {
            id,
            tokens: prompt,
            prompt_len,
            generate_max,
            temperature,
            rng,
            table: Vec::new(),
            computed: 0,
            hash,
        };
        self.waiting.push_back(sequence);
    }

    pub(crate) fn n_waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn n_running(&self) -> usize {
        self.running.len()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    pub(crate) fn cache_usage(&self) -> f64 {
        self.pool.usage()
    }

    /// Takes a sequence out of the queues, wherever it is.
    pub(crate) fn abort(&mut self, id: SequenceId) {
        self.waiting.retain(|sequence| sequence.id != id);
        if let Some(i) = self.running.iter().position(|sequence| sequence.id == id) {
            let mut sequence = self.running.remove(i);
            give_back(&mut self.pool, &mut sequence);
        }
    }

    /// Empties the queues.
    pub(crate) fn abort_all(&mut self) {
        self.waiting.clear();
        for mut sequence in self.running.drain(..) {
            give_back(&mut self.pool, &mut sequence);
        }
    }

    /// Decides the next step and allocates its blocks. Every decision must be carried out by [`Scheduler::execute`]
    /// before the next call.
    pub(crate) fn schedule(&mut self) -> Step {
        let mut step = Step::default();
        let mut budget = self.limits.step_tokens_max;
        let mut i = 0;
        while i < self.running.len() && budget > 0 {
            let n = (self.running[i].tokens.len() - self.running[i].computed).min(budget);
            while i < self.running.len() && !self.reserve(i, n) {
                self.preempt_youngest(&mut step);
            }
            if i < self.running.len() {
                self.plan(&mut step, i, n);
                budget -= n;
            }
            i += 1;
        }
        while step.preemptions == 0 && budget > 0 && self.running.len() < self.limits.running_max {
            let Some(mut sequence) = self.waiting.pop_front() else { break };
            let (table, hash) = self.pool.take_prefix(&sequence.tokens);
            let hits = table.len() * self.pool.block_tokens();
            (sequence.table, sequence.hash, sequence.computed) = (table, hash, hits);
            let n = (sequence.tokens.len() - hits).min(budget);
            let (id, queries) = (sequence.id, sequence.tokens.len());
            self.running.push(sequence);
            let last = self.running.len() - 1;
            if !self.reserve(last, n) {
                let mut sequence = self.running.pop().expect("just pushed");
                give_back(&mut self.pool, &mut sequence);
                self.waiting.push_front(sequence);
                break;
            }
            step.cache_queries += queries as u64;
            step.cache_hits += hits as u64;
            step.admitted.push(id);
            self.plan(&mut step, last, n);
            budget -= n;
        }
        step
    }

    fn plan(&self, step: &mut Step, i: usize, n: usize) {
        let sequence = &self.running[i];
        if sequence.computed >= sequence.prompt_len && n == 1 {
            step.decode_sequences += 1;
        } else {
            step.prefill_tokens += n;
        }
        step.work.push((i, n));
    }

    /// Allocates the blocks for the next `n` tokens of a running sequence; what it got stays with it on failure.
    fn reserve(&mut self, i: usize, n: usize) -> bool {
        let sequence = &mut self.running[i];
        let needed = (sequence.computed + n).div_ceil(self.pool.block_tokens());
        while sequence.table.len() < needed {
            let Some(id) = self.pool.allocate() else { return false };
            sequence.table.push(id);
        }
        true
    }

    fn preempt_youngest(&mut self, step: &mut Step) {
        let mut sequence = self.running.pop().expect("a sequence that needs blocks is running");
        give_back(&mut self.pool, &mut sequence);
        self.waiting.push_front(sequence);
        step.preemptions += 1;
    }

    /// Computes a step: stores the planned tokens and gives each sequence that has all of its own stored one new token.
    pub(crate) fn execute(&mut self, step: &Step, model: &Model) -> Vec<Produced> {
        let mut produced = Vec::with_capacity(step.work.len());
        for &(i, n) in &step.work {
            let sequence = &mut self.running[i];
            for position in sequence.computed..sequence.computed + n {
                let block = sequence.table[position / self.pool.block_tokens()];
                if let Some(hash) = self.pool.push(block, sequence.tokens[position], sequence.hash) {
                    sequence.hash = hash;
                }
            }
            sequence.computed += n;
            if sequence.computed < sequence.tokens.len() {
                continue;
            }
            sequence.context(model.context_tokens_max(), &self.pool, &mut self.context);
            model.distribution(&self.context, &mut self.distribution);
            let sampled = model.sample(&self.distribution, sequence.temperature, &mut sequence.rng);
            sequence.tokens.push(sampled.token);
            let character = model.character(sampled.token);
            let ended = if character.is_none() {
                Some(Ended::Stop)
            } else if sequence.tokens.len() - sequence.prompt_len == sequence.generate_max {
                Some(Ended::Length)
            } else {
                None
            };
            produced.push(Produced { id: sequence.id, character, probability: sampled.probability, ended });
        }
        for done in produced.iter().filter(|produced| produced.ended.is_some()) {
            self.abort(done.id);
        }
        produced
    }
}

/// Releases the tail first: it is the part that the fewest other sequences can use.
fn give_back(pool: &mut BlockPool, sequence: &mut Sequence) {
    for id in sequence.table.drain(..).rev() {
        pool.release(id);
    }
    sequence.computed = 0;
    sequence.hash = PrefixHash::default();
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const ROOMY: SchedulerLimits =
        SchedulerLimits { running_max: 8, step_tokens_max: 256, n_blocks: 256, block_tokens: 4 };

    fn model() -> Model {
        Model::train(crate::TRAINING_TEXT, 4).unwrap()
    }

    fn sequence(model: &Model, id: u64, prompt: &str, generate_max: usize) -> NewSequence {
        let mut tokens = Vec::new();
        model.encode(prompt, &mut tokens);
        NewSequence { id: SequenceId(id), prompt: tokens, generate_max, temperature: 1.0, seed: id }
    }

    #[derive(Default)]
    struct Run {
        texts: BTreeMap<u64, String>,
        order: Vec<u64>,
        steps: usize,
        preemptions: u64,
        cache_hits: u64,
        running_max: usize,
    }

    /// Steps until nothing is left to do.
    fn run(scheduler: &mut Scheduler, model: &Model) -> Run {
        let mut run = Run::default();
        while !scheduler.is_idle() {
            let step = scheduler.schedule();
            assert!(!step.work.is_empty(), "every step advances something");
            run.preemptions += step.preemptions;
            run.cache_hits += step.cache_hits;
            run.running_max = run.running_max.max(scheduler.n_running());
            for produced in scheduler.execute(&step, model) {
                run.texts.entry(produced.id.0).or_default().extend(produced.character);
                if produced.ended.is_some() {
                    run.order.push(produced.id.0);
                }
            }
            run.steps += 1;
            assert!(run.steps < 10_000, "the scheduler comes to an end");
        }
        run
    }

    fn run_prompts(limits: SchedulerLimits, prompts: &[(&str, usize)]) -> Run {
        let model = model();
        let mut scheduler = Scheduler::new(limits);
        for (id, (prompt, generate_max)) in prompts.iter().enumerate() {
            scheduler.add(sequence(&model, id as u64, prompt, *generate_max));
        }
        let run = run(&mut scheduler, &model);
        assert_eq!(scheduler.cache_usage(), 0.0, "all blocks came back");
        run
    }

    const PROMPTS: &[(&str, usize)] = &[
        ("The keeper of the light", 30),
        ("The keeper of the lamp and the rope", 40),
        ("In the winter", 25),
        ("x", 10),
        ("The keeper of the light was patient", 30),
    ];

    #[test]
    fn batched_sequences_share_each_step() {
        let run = run_prompts(ROOMY, PROMPTS);
        assert_eq!(run.running_max, PROMPTS.len());
        assert!(run.steps <= 40, "as many steps as the longest needs: {}", run.steps);
    }

    #[test]
    fn texts_do_not_depend_on_batching_sharing_or_preemption() {
        let alone: Vec<String> = (0..PROMPTS.len())
            .map(|i| {
                let model = model();
                let mut scheduler = Scheduler::new(ROOMY);
                scheduler.add(sequence(&model, i as u64, PROMPTS[i].0, PROMPTS[i].1));
                run(&mut scheduler, &model).texts.remove(&(i as u64)).unwrap()
            })
            .collect();
        for limits in [
            ROOMY,
            SchedulerLimits { running_max: 2, ..ROOMY },
            SchedulerLimits { step_tokens_max: 3, ..ROOMY },
            SchedulerLimits { n_blocks: 20, ..ROOMY },
        ] {
            let run = run_prompts(limits, PROMPTS);
            assert_eq!(run.texts.into_values().collect::<Vec<_>>(), alone, "{limits:?}");
        }
    }

    #[test]
    fn running_sequences_are_limited() {
        assert_eq!(run_prompts(SchedulerLimits { running_max: 2, ..ROOMY }, PROMPTS).running_max, 2);
    }

    #[test]
    fn lack_of_blocks_preempts_the_youngest() {
        let prompts = &[("The keeper of the", 40), ("In the winter the", 40)];
        let run = run_prompts(SchedulerLimits { n_blocks: 16, ..ROOMY }, prompts);
        assert!(run.preemptions > 0);
        assert_eq!(run.order[0], 0, "the older one ends first");
        assert_eq!(run_prompts(ROOMY, prompts).preemptions, 0);
    }

    #[test]
    fn long_prompts_are_computed_in_stretches() {
        let model = model();
        let mut scheduler = Scheduler::new(SchedulerLimits { step_tokens_max: 10, ..ROOMY });
        scheduler.add(sequence(&model, 0, "The keeper of the light w", 1));
        let mut produced_by_step = Vec::new();
        while !scheduler.is_idle() {
            let step = scheduler.schedule();
            produced_by_step.push((step.prefill_tokens, scheduler.execute(&step, &model).len()));
        }
        assert_eq!(produced_by_step, [(10, 0), (10, 0), (5, 1)]);
    }

    #[test]
    fn common_beginnings_are_found_in_the_cache() {
        let model = model();
        let mut scheduler = Scheduler::new(ROOMY);
        scheduler.add(sequence(&model, 0, "The keeper of the light", 4));
        assert_eq!(run(&mut scheduler, &model).cache_hits, 0);
        scheduler.add(sequence(&model, 1, "The keeper of the rope", 4));
        assert_eq!(run(&mut scheduler, &model).cache_hits, 16, "four blocks of \"The keeper of the \"");
    }

    #[test]
    fn aborted_sequences_leave_both_queues() {
        let model = model();
        let mut scheduler = Scheduler::new(SchedulerLimits { running_max: 1, ..ROOMY });
        scheduler.add(sequence(&model, 0, "The keeper", 100));
        scheduler.add(sequence(&model, 1, "The pilot", 100));
        let step = scheduler.schedule();
        scheduler.execute(&step, &model);
        assert_eq!((scheduler.n_running(), scheduler.n_waiting()), (1, 1));
        scheduler.abort(SequenceId(1));
        scheduler.abort(SequenceId(0));
        assert!(scheduler.is_idle());
        assert_eq!(scheduler.cache_usage(), 0.0);
    }
}
