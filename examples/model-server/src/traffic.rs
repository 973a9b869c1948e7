//! What a crowd of clients asks for and when: decided by a seed and the time since the start alone.
//!
//! Arrivals are a Poisson process whose rate swings like a day's, compressed to minutes, with a short burst now and
//! then. Prompts mix short questions, long passages and common preambles; in drift phases they come from another world
//! than the training text. A few requests are wrong, and a few clients lose patience.

use std::f64::consts::TAU;
use std::time::Duration;

use serde_json::json;

use crate::rng::Rng;

/// One "day" of the swing.
const DAY_SECONDS: f64 = 150.0;
/// Share of the mean rate by which the swing goes up and down.
const DAY_SWING: f64 = 0.5;
/// Each window of this length has one burst.
const BURST_WINDOW_SECONDS: f64 = 50.0;
const BURST_SECONDS: f64 = 7.0;
const BURST_FACTOR: f64 = 2.5;
/// In each cycle of this length, prompts drift for a while.
const DRIFT_CYCLE_SECONDS: f64 = 240.0;
const DRIFT_FROM_SECONDS: f64 = 80.0;
const DRIFT_TO_SECONDS: f64 = 125.0;
/// Share of foreign prompts in a drift phase.
const DRIFT_SHARE: f64 = 0.7;
const MALFORMED_SHARE: f64 = 0.015;
const IMPATIENT_SHARE: f64 = 0.03;
const STREAM_SHARE: f64 = 0.3;

/// Beginnings that many requests have in common, as system prompts are.
const PREAMBLES: [&str; 3] = [
    "The second rule is that a missing reading is better than a wrong one. The first rule of the station is to write \
     down what you see before you decide what it means. A message that arrives late is still a message; a message that \
     arrives twice is a mistake. ",
    "From the gallery one can see the harbour, the northern headland, and on a clear day the islands. Every machine \
     has a sound that it makes when it is well, and the keeper knew all of them. ",
    "A good rope is made slowly, and it is tested by someone who did not make it. A lamp that burns twenty hours on \
     one filling is worth more than a lamp that is bright. What is measured every day becomes familiar, and what is \
     familiar is easily forgotten. The work is never finished, but at noon it is finished enough to sit down. ",
];

/// A request and what its client does with it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Planned {
    /// Since the start.
    pub(crate) at: Duration,
    pub(crate) body: String,
    /// The client hangs up after this long.
    pub(crate) patience: Option<Duration>,
}

/// An endless sequence of requests to one server.
#[derive(Debug)]
pub(crate) struct Traffic {
    rate: f64,
    seed: u64,
    rng: Rng,
    seconds: f64,
}

impl Traffic {
    /// `rate` is the mean of the swing in requests per second, above 0.
    pub(crate) fn new(rate: f64, seed: u64) -> Self {
        Self { rate, seed, rng: Rng::new(seed), seconds: 0.0 }
    }

    pub(crate) fn next(&mut self) -> Planned {
        // Thinning: draw at the highest rate there is, keep each arrival with the present share of it.
        let highest = self.rate * (1.0 + DAY_SWING) * BURST_FACTOR;
        loop {
            self.seconds += self.rng.exponential(highest);
            if self.rng.chance(self.rate_at(self.seconds) / highest) {
                break;
            }
        }
        let patience = self.rng.chance(IMPATIENT_SHARE).then(|| Duration::from_secs_f64(0.1 + self.rng.unit()));
        let body = if self.rng.chance(MALFORMED_SHARE) { self.malformed() } else { self.completion() };
        Planned { at: Duration::from_secs_f64(self.seconds), body, patience }
    }

    fn rate_at(&self, seconds: f64) -> f64 {
        let window = (seconds / BURST_WINDOW_SECONDS).floor();
        let room = BURST_WINDOW_SECONDS - BURST_SECONDS;
        let burst_from = window * BURST_WINDOW_SECONDS + room * Rng::new(self.seed ^ window as u64).unit();
        let burst = (burst_from..burst_from + BURST_SECONDS).contains(&seconds);
        let day = 1.0 + DAY_SWING * (TAU * seconds / DAY_SECONDS).sin();
        self.rate * day * if burst { BURST_FACTOR } else { 1.0 }
    }

    fn malformed(&mut self) -> String {
        let bodies = ["{\"prompt\": \"The keeper", "{\"prompt\":\"\"}", "{\"prompt\":\"The\",\"max_tokens\":100000}"];
        (*self.rng.pick(&bodies)).to_owned()
    }

    fn completion(&mut self) -> String {
        let phase = self.seconds % DRIFT_CYCLE_SECONDS;
        let drifts = (DRIFT_FROM_SECONDS..DRIFT_TO_SECONDS).contains(&phase) && self.rng.chance(DRIFT_SHARE);
        let prompt = if drifts { self.foreign_prompt() } else { self.familiar_prompt() };
        let max_tokens = match self.rng.unit() {
            u if u < 0.5 => self.rng.between(12, 48),
            u if u < 0.9 => self.rng.between(48, 128),
            _ => self.rng.between(128, 280),
        };
        let temperature = *self.rng.pick(&[0.0, 0.5, 0.8, 1.0, 1.0, 1.2]);
        let stream = self.rng.chance(STREAM_SHARE);
        json!({ "prompt": prompt, "max_tokens": max_tokens, "temperature": temperature, "stream": stream }).to_string()
    }

    fn familiar_prompt(&mut self) -> String {
        match self.rng.unit() {
            u if u < 0.55 => self.passage(15, 90),
            u if u < 0.9 => {
                let preamble = *self.rng.pick(&PREAMBLES);
                format!("{preamble}{}", self.passage(15, 90))
            }
            _ => self.passage(300, 650),
        }
    }

    /// A stretch of the training text from the beginning of a word on.
    fn passage(&mut self, min: usize, max: usize) -> String {
        let text = crate::TRAINING_TEXT;
        let len = self.rng.between(min, max);
        let from = self.rng.between(0, text.len() - max - 1);
        // The text is ASCII; a test holds that, and lossy slicing keeps it harmless.
        let rest = text.get(from..).unwrap_or(text);
        let word = rest.find(' ').map_or(0, |space| space + 1);
        rest[word..].chars().take(len).collect()
    }

    /// Log lines and readings: capitals, digits and signs that the model has rarely seen.
    fn foreign_prompt(&mut self) -> String {
        let words = ["TEMP", "RPM", "ERR", "GPU_MEM", "NODE", "VOLT", "QPS", "ACK", "0xFF", "<NULL>"];
        let mut prompt = String::new();
        for _ in 0..self.rng.between(4, 20) {
            let word = *self.rng.pick(&words);
            let (a, b) = (self.rng.between(0, 9_999), self.rng.between(0, 99));
            prompt.push_str(&format!("[{a:04}] {word}={b}.{a}; "));
        }
        prompt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(n: usize, seed: u64) -> Vec<Planned> {
        let mut traffic = Traffic::new(10.0, seed);
        (0..n).map(|_| traffic.next()).collect()
    }

    #[test]
    fn seed_decides_the_traffic() {
        assert_eq!(first(50, 1), first(50, 1));
        assert_ne!(first(50, 1), first(50, 2));
    }

    #[test]
    fn rate_swings_around_its_mean_and_bursts() {
        let arrivals = first(4_000, 5);
        let seconds = arrivals.last().unwrap().at.as_secs_f64();
        let mean = 4_000.0 / seconds;
        assert!((9.0..16.0).contains(&mean), "{mean} per second");
        let mut by_second = vec![0; seconds as usize + 1];
        arrivals.iter().for_each(|planned| by_second[planned.at.as_secs_f64() as usize] += 1);
        assert!(by_second.iter().max() > Some(&25), "bursts stand out");
        let quiet = by_second[105..120].iter().sum::<i32>();
        assert!(quiet < 15 * 10, "nights are quieter than the mean: {quiet}");
    }

    #[test]
    fn drift_phases_ask_for_something_else() {
        let share = |from: f64, to: f64| {
            let all = first(3_000, 3);
            let phase: Vec<_> = all.iter().filter(|p| (from..to).contains(&p.at.as_secs_f64())).collect();
            phase.iter().filter(|p| p.body.contains("=")).count() as f64 / phase.len() as f64
        };
        assert_eq!(share(0.0, DRIFT_FROM_SECONDS), 0.0);
        assert!(share(DRIFT_FROM_SECONDS, DRIFT_TO_SECONDS) > 0.5);
    }

    #[test]
    fn some_clients_are_wrong_and_some_are_impatient() {
        let all = first(2_000, 9);
        let parses = |planned: &&Planned| {
            serde_json::from_str::<serde_json::Value>(&planned.body)
                .is_ok_and(|v| v["max_tokens"].as_u64() < Some(1_000))
        };
        let good = all.iter().filter(parses).count();
        assert!((1_900..2_000).contains(&good), "{good}");
        assert!(all.iter().filter(|planned| planned.patience.is_some()).count() > 20);
    }

    #[test]
    fn training_text_can_be_cut_anywhere() {
        assert!(crate::TRAINING_TEXT.is_ascii());
    }
}
