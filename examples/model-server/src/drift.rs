//! Data drift: how far the recent input is from the text that the model was trained on.
//!
//! The score is the Jensen-Shannon divergence in bits between two distributions: 0 where they are equal, 1 where they
//! have nothing in common. Recent means an exponentially fading memory of prompts. A small sample alone makes a small
//! score: about (kinds − 1) / (1.4 × observations).

use std::collections::HashMap;
use std::hash::Hash;

/// Characters after which half of an observation is forgotten.
const HALF_LIFE_CHARACTERS: f64 = 6_000.0;
/// Different things counted apart; all further ones count as one, so that hostile input cannot fill the memory.
const KINDS_MAX: usize = 512;
/// Longer words count as this long.
const WORD_LEN_MAX: usize = 24;

/// Compares what is served with what was learned.
#[derive(Debug)]
pub(crate) struct DriftMonitor {
    characters: Feature<char>,
    word_lengths: Feature<usize>,
}

#[derive(Debug)]
struct Feature<K> {
    reference: Counts<K>,
    recent: Counts<K>,
}

#[derive(Debug, Clone)]
struct Counts<K> {
    by_kind: HashMap<K, f64>,
    other: f64,
    total: f64,
}

impl DriftMonitor {
    pub(crate) fn new(training_text: &str) -> Self {
        Self {
            characters: Feature::new(characters(training_text)),
            word_lengths: Feature::new(word_lengths(training_text)),
        }
    }

    /// Takes note of a prompt.
    pub(crate) fn observe(&mut self, prompt: &str) {
        let kept = 0.5f64.powf(prompt.chars().count() as f64 / HALF_LIFE_CHARACTERS);
        self.characters.observe(kept, characters(prompt));
        self.word_lengths.observe(kept, word_lengths(prompt));
    }

    /// Each feature set's name and score.
    pub(crate) fn scores(&self) -> [(&'static str, f64); 2] {
        [("characters", self.characters.score()), ("word_lengths", self.word_lengths.score())]
    }
}

fn characters(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(|c| if c == '\n' { ' ' } else { c })
}

fn word_lengths(text: &str) -> impl Iterator<Item = usize> {
    text.split_whitespace().map(|word| word.chars().count().min(WORD_LEN_MAX))
}

impl<K: Hash + Eq> Feature<K> {
    fn new(reference: impl Iterator<Item = K>) -> Self {
        let empty = || Counts { by_kind: HashMap::new(), other: 0.0, total: 0.0 };
        let mut feature = Self { reference: empty(), recent: empty() };
        reference.for_each(|kind| feature.reference.add(kind));
        feature
    }

    fn observe(&mut self, kept: f64, kinds: impl Iterator<Item = K>) {
        self.recent.fade(kept);
        kinds.for_each(|kind| self.recent.add(kind));
    }

    fn score(&self) -> f64 {
        if self.recent.total <= 0.0 || self.reference.total <= 0.0 {
            return 0.0;
        }
        let (p, q) = (&self.reference, &self.recent);
        let only_recent = q.by_kind.iter().filter(|(kind, _)| !p.by_kind.contains_key(kind)).map(|(_, &n)| (0.0, n));
        let pairs = p.by_kind.iter().map(|(kind, &n)| (n, q.by_kind.get(kind).copied().unwrap_or(0.0)));
        let divergence: f64 = pairs
            .chain(only_recent)
            .chain([(p.other, q.other)])
            .map(|(n_p, n_q)| half_divergence(n_p / p.total, n_q / q.total))
            .sum();
        divergence.clamp(0.0, 1.0)
    }
}

/// One kind's part of the Jensen-Shannon divergence.
fn half_divergence(p: f64, q: f64) -> f64 {
    let mean = (p + q) / 2.0;
    let part = |x: f64| if x > 0.0 { x / 2.0 * (x / mean).log2() } else { 0.0 };
    part(p) + part(q)
}

impl<K: Hash + Eq> Counts<K> {
    fn add(&mut self, kind: K) {
        self.total += 1.0;
        if self.by_kind.len() < KINDS_MAX || self.by_kind.contains_key(&kind) {
            *self.by_kind.entry(kind).or_insert(0.0) += 1.0;
        } else {
            self.other += 1.0;
        }
    }

    fn fade(&mut self, kept: f64) {
        self.by_kind.retain(|_, n| {
            *n *= kept;
            *n > 1e-6
        });
        self.other *= kept;
        self.total = self.by_kind.values().sum::<f64>() + self.other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score_after(prompts: &[&str]) -> f64 {
        let mut monitor = DriftMonitor::new(crate::TRAINING_TEXT);
        prompts.iter().for_each(|prompt| monitor.observe(prompt));
        monitor.scores()[0].1
    }

    #[test]
    fn training_text_itself_has_no_drift() {
        assert_eq!(score_after(&[]), 0.0);
        assert!(score_after(&[&crate::TRAINING_TEXT[..8_000]]) < 0.01);
    }

    #[test]
    fn foreign_input_drifts_and_familiar_input_brings_it_back() {
        assert!(score_after(&["0123456789".repeat(500).as_str()]) > 0.9);
        let shouted = crate::TRAINING_TEXT[..8_000].to_uppercase();
        let shouted_score = score_after(&[&shouted]);
        assert!(shouted_score > 0.25, "{shouted_score}");
        let back = score_after(&[&shouted, &crate::TRAINING_TEXT[..30_000]]);
        assert!(back < 0.05, "{back}");
    }

    #[test]
    fn many_kinds_of_characters_are_bounded() {
        let mut monitor = DriftMonitor::new("abc");
        let many: String = (0x4e00..0x6e00).filter_map(char::from_u32).collect();
        monitor.observe(&many);
        assert_eq!(monitor.characters.recent.by_kind.len(), KINDS_MAX);
        assert!((monitor.scores()[0].1 - 1.0).abs() < 1e-9);
    }
}
