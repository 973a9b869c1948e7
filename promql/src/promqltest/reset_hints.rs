//! What a store knows of counter resets of the histograms it is given.
//!
//! Prometheus compares each histogram with the one before it as it stores them, so that a query sees the hints
//! that this gives and not those that were loaded.

use promontory_model::FloatHistogram;
use promontory_model::histogram::CounterResetHint;

use crate::histogram::{detect_reset, is_custom};

/// `current` with the hint that a store keeps, given the histogram before it.
pub(super) fn stored(current: &FloatHistogram, previous: Option<&FloatHistogram>) -> FloatHistogram {
    use CounterResetHint::{Gauge, NotReset, Reset, Unknown};
    let hint = match (current.counter_reset_hint, previous) {
        (Gauge, _) => Gauge,
        (Reset, _) => Reset,
        (_, None) => Unknown,
        // After a gauge, or where the layout changes, a new chunk begins, of which nothing is known.
        (_, Some(previous)) if previous.counter_reset_hint == Gauge => Unknown,
        (_, Some(previous)) => {
            let unhinted = FloatHistogram { counter_reset_hint: Unknown, ..current.clone() };
            // At a reset a new chunk begins, and of the first sample of a chunk a reader is told nothing.
            if detect_reset(&unhinted, previous)
                || previous.schema != current.schema
                || previous.zero_threshold != current.zero_threshold
                || (is_custom(current) && previous.custom_values != current.custom_values)
            {
                Unknown
            } else {
                NotReset
            }
        }
    };
    FloatHistogram { counter_reset_hint: hint, ..current.clone() }
}
