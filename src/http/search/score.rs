//! How much a text is like what is searched for, from 0 to 1.
//!
//! # Source
//! Scores are those of Prometheus 3.14. A beginning is worth 1. As a subsequence, a text is worth the squares of the
//! lengths of its runs, less the gaps between them and half the gap at the end as parts of its length, of the square of
//! the length of what is searched. As Jaro and Winkler have it, with a tenth for each of up to 4 equal characters at
//! the start; what contains the text is worth 0.9.

/// How a text may differ from what is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// Other characters between.
    Subsequence,
    /// Not at all, or, with a threshold, by the measure of Jaro and Winkler.
    JaroWinkler,
}

/// Where a subsequence may begin in a text: as many places are tried.
const STARTS_MAX: usize = 256;
/// What contains the text is worth this.
const CONTAINED: f64 = 0.9;
/// Characters at the start that count, and what each is worth.
const PREFIX_MAX: usize = 4;
const PREFIX_WEIGHT: f64 = 0.1;

/// What is searched for: any of these.
#[derive(Debug)]
pub(super) struct Terms {
    terms: Vec<Term>,
    algorithm: Algorithm,
    threshold: f64,
    is_case_sensitive: bool,
}

#[derive(Debug)]
struct Term {
    text: String,
    chars: Vec<char>,
}

impl Terms {
    pub(super) fn new(terms: &[&str], algorithm: Algorithm, threshold: f64, is_case_sensitive: bool) -> Self {
        let term = |text: &&str| {
            let text = if is_case_sensitive { (*text).to_owned() } else { text.to_lowercase() };
            Term { chars: text.chars().collect(), text }
        };
        Self { terms: terms.iter().map(term).collect(), algorithm, threshold, is_case_sensitive }
    }

    /// What `text` is worth; `None` when it is not among what is searched for.
    pub(super) fn score(&self, text: &str) -> Option<f64> {
        if self.terms.is_empty() {
            return Some(1.0);
        }
        let lower;
        let text = if self.is_case_sensitive {
            text
        } else {
            lower = text.to_lowercase();
            &lower
        };
        self.terms.iter().filter_map(|term| self.score_of(term, text)).max_by(f64::total_cmp)
    }

    fn score_of(&self, term: &Term, text: &str) -> Option<f64> {
        // That of nothing, too.
        if text.starts_with(&term.text) {
            return Some(1.0);
        }
        if self.algorithm == Algorithm::JaroWinkler && text.contains(&term.text) {
            return Some(CONTAINED);
        }
        let is_ascii = text.is_ascii() && term.text.is_ascii();
        let chars: Vec<char> = if is_ascii { Vec::new() } else { text.chars().collect() };
        let bytes = (term.text.as_bytes(), text.as_bytes());
        let score = match (self.algorithm, is_ascii) {
            (Algorithm::Subsequence, true) => subsequence(bytes.0, bytes.1),
            (Algorithm::Subsequence, false) => subsequence(&term.chars, &chars),
            (Algorithm::JaroWinkler, _) if self.threshold <= 0.0 => 0.0,
            (Algorithm::JaroWinkler, true) => jaro_winkler(bytes.0, bytes.1),
            (Algorithm::JaroWinkler, false) => jaro_winkler(&term.chars, &chars),
        };
        (score > 0.0 && score >= self.threshold).then_some(score)
    }
}

/// The best of the ways in which `text` has all of `wanted` in order; 0 when it has not.
fn subsequence<T: PartialEq>(wanted: &[T], text: &[T]) -> f64 {
    let starts = text.iter().enumerate().filter(|(_, c)| Some(*c) == wanted.first()).map(|(i, _)| i);
    // What cannot be completed from one place cannot from a later one.
    let scores = starts.take(STARTS_MAX).map_while(|start| subsequence_from(start, wanted, text));
    let best = scores.fold(0.0, f64::max);
    best / (wanted.len() * wanted.len()) as f64
}

fn subsequence_from<T: PartialEq>(start: usize, wanted: &[T], text: &[T]) -> Option<f64> {
    let (mut score, mut rest, mut end, mut from) = (0.0, wanted, 0, start);
    let part = |n: usize| n as f64 / text.len() as f64;
    while let Some(next) = rest.first() {
        let begin = from + text[from..].iter().position(|c| c == next)?;
        let run = text[begin..].iter().zip(rest).take_while(|(a, b)| a == b).count();
        score += (run * run) as f64 - part(begin - end);
        (rest, end, from) = (&rest[run..], begin + run, begin + run);
    }
    Some(score - part(text.len() - end) / 2.0)
}

fn jaro_winkler<T: PartialEq>(a: &[T], b: &[T]) -> f64 {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let distance = (long.len() / 2).saturating_sub(1);
    let mut is_taken = vec![false; long.len()];
    let mut matched = Vec::new();
    for (i, c) in short.iter().enumerate() {
        let near = i.saturating_sub(distance)..(i + distance + 1).min(long.len());
        if let Some(j) = near.into_iter().find(|&j| !is_taken[j] && long[j] == *c) {
            is_taken[j] = true;
            matched.push(c);
        }
    }
    if matched.is_empty() {
        return 0.0;
    }
    let in_order = long.iter().zip(&is_taken).filter(|(_, is_taken)| **is_taken).map(|(c, _)| c);
    let n_moved = in_order.zip(&matched).filter(|(a, b)| a != *b).count() as f64;
    let n = matched.len() as f64;
    let jaro = (n / short.len() as f64 + n / long.len() as f64 + (n - n_moved / 2.0) / n) / 3.0;
    let prefix = short.iter().zip(long).take(PREFIX_MAX).take_while(|(a, b)| a == b).count() as f64;
    jaro + prefix * PREFIX_WEIGHT * (1.0 - jaro)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(terms: &[&str], algorithm: Algorithm, threshold: f64, text: &str, expected: Option<f64>) {
        let got = Terms::new(terms, algorithm, threshold, false).score(text);
        let is_equal = match (got, expected) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-9,
            (a, b) => a == b,
        };
        assert!(is_equal, "{terms:?} in {text:?}: {got:?}, expected {expected:?}");
    }

    #[test]
    fn subsequences_are_worth_their_runs_less_the_gaps() {
        let check = |term: &str, text: &str, expected| check(&[term], Algorithm::Subsequence, 0.0, text, expected);
        check("", "anything", Some(1.0));
        check("Up", "uptime", Some(1.0));
        check("up", "group", Some((4.0 - 3.0 / 5.0) / 4.0));
        // Two runs of one, a gap of one and a half of one at the end, in a text of five.
        check("ac", "xabcx", Some((2.0 - 1.0 / 5.0 - 1.0 / 5.0 - 0.5 / 5.0) / 4.0));
        // The later of two starts is better.
        check("ab", "axab", Some((4.0 - 2.0 / 4.0) / 4.0));
        check("ba", "ab", None);
        check("abc", "ab", None);
        check("é", "caché", Some(1.0 - 4.0 / 5.0));
        check("é", "cache", None);
    }

    #[test]
    fn likeness_is_that_of_jaro_and_winkler() {
        let check = |term: &str, text: &str, threshold, expected| {
            check(&[term], Algorithm::JaroWinkler, threshold, text, expected);
        };
        check("martha", "marhta", 0.5, Some(0.961_111_111_111));
        check("dixon", "dicksonx", 0.5, Some(0.813_333_333_333));
        check("dixon", "dicksonx", 0.9, None);
        check("dixon", "dicksonx", 0.0, None);
        check("dicks", "dicksonx", 0.0, Some(1.0));
        check("SON", "dicksonx", 0.0, Some(0.9));
        check("zz", "dicksonx", 0.1, None);
        check("märtha", "märhta", 0.5, Some(0.961_111_111_111));
    }

    #[test]
    fn the_best_of_several_texts_counts() {
        check(&["time", "up"], Algorithm::JaroWinkler, 0.0, "uptime", Some(1.0));
        check(&["time", "x"], Algorithm::JaroWinkler, 0.0, "uptime", Some(0.9));
        check(&[], Algorithm::Subsequence, 1.0, "uptime", Some(1.0));
        assert_eq!(Terms::new(&["UP"], Algorithm::Subsequence, 0.0, true).score("uptime"), None);
    }

    #[test]
    fn long_texts_do_not_take_long() {
        let text = "a".repeat(1 << 14) + "b";
        let terms = Terms::new(&["cb", "ab"], Algorithm::Subsequence, 0.0, true);
        assert!(terms.score(&("x".to_owned() + &text)).is_some());
    }
}
