//! Our own scripts, run by the reference evaluator.

use super::*;
use crate::promqltest::run_file;

#[track_caller]
fn check(script: &str) {
    let report = run_file(script, "script", &Reference::new(ReferenceOptions::CONFORMANCE));
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
    assert!(report.passed > 0);
}

#[test]
fn selectors_look_back_until_the_series_ends() {
    check(
        "load 1m\n  a 1 2 stale _ _ 6\n\neval instant at 1m30s a\n  a 2\n\neval instant at 2m a\n\neval instant at 5m a\n  a 6\n",
    );
}

#[test]
fn names_are_dropped_at_the_end() {
    check(
        "load 1m\n  a{x=\"1\"} 1\n  b{x=\"1\"} 2\n\neval instant at 0 -a\n  {x=\"1\"} -1\n\neval_fail instant at 0 -{x=\"1\"}\n  expected_fail_message vector cannot contain metrics with the same labelset\n",
    );
}
