//! The language model: how often each character followed each short context in the training text.
//!
//! An interpolated n-gram model over characters. The distribution after a context mixes the counts of the longest
//! known suffix with those of all shorter ones (Witten and Bell's weights: a context that was followed by many
//! different characters trusts the shorter contexts more), down to the uniform distribution, so that every token but
//! [`Token::UNKNOWN`] has a positive probability and all of them sum to 1. Training and evaluation are deterministic.

use std::collections::HashMap;

use crate::rng::Rng;

/// Longest context plus one that a model may have; contexts are packed into 64 bits.
pub const ORDER_MAX: usize = 8;
/// Most different characters in a training text.
pub const VOCABULARY_MAX: usize = 250;
/// Most bytes of a training text.
pub const TRAINING_BYTES_MAX: usize = 16 << 20;

/// A token: the number of a character in the model's vocabulary, or one of the two special ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(u8);

impl Token {
    /// Begins and ends a text; sampled, it stops a completion.
    pub const END: Self = Self(0);
    /// A character that the training text does not have. Never sampled.
    pub const UNKNOWN: Self = Self(1);
    const FIRST_CHARACTER: usize = 2;
}

/// Why a text cannot be trained on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrainError {
    /// The order is 0 or above [`ORDER_MAX`].
    #[error("train model: order {order} is not in 1..={ORDER_MAX}")]
    Order {
        /// The order asked for.
        order: usize,
    },
    /// The text is empty or too long.
    #[error("train model: the text has {bytes} bytes, it needs 1..={TRAINING_BYTES_MAX}")]
    Length {
        /// The text's length.
        bytes: usize,
    },
    /// The text has too many different characters.
    #[error("train model: the text has {characters} different characters, at most {VOCABULARY_MAX} are possible")]
    Vocabulary {
        /// Different characters in the text.
        characters: usize,
    },
}

/// A trained model. Immutable; share it with an `Arc`.
#[derive(Debug)]
pub struct Model {
    order: usize,
    characters: Vec<char>,
    tokens: HashMap<char, Token>,
    contexts: HashMap<ContextKey, Followers>,
}

/// Up to seven tokens, newest in the lowest byte, and their number in the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ContextKey(u64);

impl ContextKey {
    fn of(context: &[Token]) -> Self {
        debug_assert!(context.len() < ORDER_MAX);
        let packed = context.iter().fold(0, |key, token| key << 8 | u64::from(token.0));
        Self(packed | (context.len() as u64) << 56)
    }
}

/// What followed a context, in order of first appearance.
#[derive(Debug, Default)]
struct Followers {
    total: u32,
    counts: Vec<(Token, u32)>,
}

/// One sampled token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: Token,
    /// Its probability by the model, before the temperature was applied: the model's confidence in it.
    pub probability: f64,
}

impl Model {
    /// Counts all contexts of up to `order - 1` characters in `text`. Blank lines part the text into documents.
    ///
    /// # Errors
    /// An order, a length or a vocabulary out of its limits.
    pub fn train(text: &str, order: usize) -> Result<Self, TrainError> {
        if !(1..=ORDER_MAX).contains(&order) {
            return Err(TrainError::Order { order });
        }
        if text.trim().is_empty() || text.len() > TRAINING_BYTES_MAX {
            return Err(TrainError::Length { bytes: text.len() });
        }
        let mut characters: Vec<char> = text.chars().filter(|&c| c != '\n').chain([' ']).collect();
        characters.sort_unstable();
        characters.dedup();
        if characters.len() > VOCABULARY_MAX {
            return Err(TrainError::Vocabulary { characters: characters.len() });
        }
        let tokens = characters.iter().enumerate().map(|(i, &c)| (c, token_of_character(i))).collect();
        let mut model = Self { order, characters, tokens, contexts: HashMap::new() };
        for document in text.split("\n\n").map(str::trim).filter(|d| !d.is_empty()) {
            model.count(document);
        }
        Ok(model)
    }

    fn count(&mut self, document: &str) {
        let mut tokens = vec![Token::END];
        self.encode(document, &mut tokens);
        tokens.push(Token::END);
        for end in 1..tokens.len() {
            for context_len in 0..self.order.min(end + 1) {
                let key = ContextKey::of(&tokens[end - context_len..end]);
                let followers = self.contexts.entry(key).or_default();
                followers.total += 1;
                match followers.counts.iter_mut().find(|(token, _)| *token == tokens[end]) {
                    Some((_, count)) => *count += 1,
                    None => followers.counts.push((tokens[end], 1)),
                }
            }
        }
    }

    /// Tokens of the longest context that the model looks at.
    #[must_use]
    pub fn context_tokens_max(&self) -> usize {
        self.order - 1
    }

    /// Number of tokens, the special ones included; the length of a distribution.
    #[must_use]
    pub fn vocabulary_len(&self) -> usize {
        self.characters.len() + Token::FIRST_CHARACTER
    }

    /// Number of contexts that the model has counted.
    #[must_use]
    pub fn contexts_len(&self) -> usize {
        self.contexts.len()
    }

    /// Appends one token for each character of `text`; line breaks count as spaces.
    pub fn encode(&self, text: &str, out: &mut Vec<Token>) {
        out.extend(text.chars().map(|c| {
            let c = if c == '\n' { ' ' } else { c };
            self.tokens.get(&c).copied().unwrap_or(Token::UNKNOWN)
        }));
    }

    /// The character of a token; none for the special ones.
    #[must_use]
    pub fn character(&self, token: Token) -> Option<char> {
        usize::from(token.0).checked_sub(Token::FIRST_CHARACTER).and_then(|i| self.characters.get(i)).copied()
    }

    /// Writes the probability of each token after `context` (of which only the last few matter) into `out`.
    pub fn distribution(&self, context: &[Token], out: &mut Vec<f64>) {
        let uniform = 1.0 / (self.vocabulary_len() - 1) as f64;
        out.clear();
        out.resize(self.vocabulary_len(), uniform);
        out[usize::from(Token::UNKNOWN.0)] = 0.0;
        for context_len in 0..=context.len().min(self.context_tokens_max()) {
            let key = ContextKey::of(&context[context.len() - context_len..]);
            // What was never seen was never seen with more before it either.
            let Some(followers) = self.contexts.get(&key) else { break };
            let kinds = followers.counts.len() as f64;
            let weight = 1.0 / (f64::from(followers.total) + kinds);
            for p in out.iter_mut() {
                *p *= kinds * weight;
            }
            for &(token, count) in &followers.counts {
                out[usize::from(token.0)] += f64::from(count) * weight;
            }
        }
    }

    /// Draws a token from `distribution`. Temperature 0 takes the most probable one; above 1 flattens.
    pub(crate) fn sample(&self, distribution: &[f64], temperature: f64, rng: &mut Rng) -> Sampled {
        let index = if temperature == 0.0 {
            most_probable(distribution)
        } else {
            let sharpen = |p: f64| if p > 0.0 { p.powf(temperature.recip()) } else { 0.0 };
            let total: f64 = distribution.iter().map(|&p| sharpen(p)).sum();
            let mut left = rng.unit() * total;
            // Rounding, or a temperature so low that every power vanishes, may leave nothing to stop at.
            let drawn = distribution.iter().position(|&p| {
                left -= sharpen(p);
                p > 0.0 && left < 0.0
            });
            drawn.unwrap_or_else(|| most_probable(distribution))
        };
        let token = Token(u8::try_from(index).expect("a vocabulary has at most 252 tokens"));
        Sampled { token, probability: distribution[index] }
    }
}

fn token_of_character(index: usize) -> Token {
    Token(u8::try_from(index + Token::FIRST_CHARACTER).expect("the vocabulary's size was checked"))
}

/// The first of the largest.
fn most_probable(distribution: &[f64]) -> usize {
    let larger = |best: usize, i: usize| if distribution[i] > distribution[best] { i } else { best };
    (0..distribution.len()).fold(0, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probabilities(model: &Model, context: &str) -> Vec<f64> {
        let (mut tokens, mut out) = (vec![Token::END], Vec::new());
        model.encode(context, &mut tokens);
        model.distribution(&tokens, &mut out);
        out
    }

    fn complete(model: &Model, prompt: &str, n: usize, temperature: f64, seed: u64) -> String {
        let (mut tokens, mut distribution, mut rng) = (Vec::new(), Vec::new(), Rng::new(seed));
        model.encode(prompt, &mut tokens);
        let mut text = String::new();
        for _ in 0..n {
            model.distribution(&tokens, &mut distribution);
            let sampled = model.sample(&distribution, temperature, &mut rng);
            text.extend(model.character(sampled.token));
            tokens.push(sampled.token);
        }
        text
    }

    #[test]
    fn probabilities_sum_to_one_after_any_context() {
        for order in 1..=ORDER_MAX {
            let model = Model::train(crate::TRAINING_TEXT, order).unwrap();
            for context in ["", "T", "The harbour", "the light", "zzzzqqq", "日本語", "a 日", "…"] {
                let p = probabilities(&model, context);
                assert_eq!(p.len(), model.vocabulary_len());
                let sum: f64 = p.iter().sum();
                assert!((sum - 1.0).abs() < 1e-12, "order {order}, {context:?}: {sum}");
                assert_eq!(p[1], 0.0, "the unknown character is never predicted");
                assert!(p.iter().enumerate().all(|(i, &p)| i == 1 || p > 0.0));
            }
        }
    }

    #[test]
    fn probabilities_follow_the_counts() {
        // Tokens: end, unknown, space, a, b, c; "b" follows "a" three times, "c" once.
        let model = Model::train("abababac", 2).unwrap();
        let after_a = probabilities(&model, "a");
        // Without context: 4 a, 3 b, 1 c and the end are 9 of 4 kinds, over the uniform 1/5.
        let (b, c) = ((3.0 + 4.0 / 5.0) / 13.0, (1.0 + 4.0 / 5.0) / 13.0);
        // After "a": 4 of 2 kinds.
        let of = |c: char| after_a[usize::from(model.tokens[&c].0)];
        assert!((of('b') - (3.0 + 2.0 * b) / 6.0).abs() < 1e-12);
        assert!((of('c') - (1.0 + 2.0 * c) / 6.0).abs() < 1e-12);
    }

    #[test]
    fn text_is_decided_by_the_seed() {
        let model = Model::train(crate::TRAINING_TEXT, 5).unwrap();
        let text = complete(&model, "The keeper", 80, 1.0, 3);
        assert_eq!(text, complete(&model, "The keeper", 80, 1.0, 3));
        assert_ne!(text, complete(&model, "The keeper", 80, 1.0, 4));
        assert_eq!(complete(&model, "The", 40, 0.0, 1), complete(&model, "The", 40, 0.0, 2));
    }

    #[test]
    fn lowest_temperature_still_draws_a_probable_token() {
        let model = Model::train("abababac", 2).unwrap();
        assert_eq!(complete(&model, "ab", 4, f64::MIN_POSITIVE, 1), "abab");
    }

    #[test]
    fn untrainable_texts_are_refused() {
        assert_eq!(Model::train("abc", 0).unwrap_err(), TrainError::Order { order: 0 });
        assert_eq!(Model::train("abc", 9).unwrap_err(), TrainError::Order { order: 9 });
        assert_eq!(Model::train(" \n", 2).unwrap_err(), TrainError::Length { bytes: 2 });
        let many: String = (0x4e00..0x4e00 + 300).filter_map(char::from_u32).collect();
        assert_eq!(Model::train(&many, 2).unwrap_err(), TrainError::Vocabulary { characters: 301 });
    }
}
