//! Any text parses or is refused; what parses, printed, parses to the same text again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promontory_promql::{parser, printer};

fuzz_target!(|text: &str| {
    let Ok(expr) = parser::parse(text) else { return };
    let printed = printer::to_string(&expr);
    let again = parser::parse(&printed).unwrap_or_else(|e| panic!("{printed:?}, printed from {text:?}: {e}"));
    assert_eq!(printer::to_string(&again), printed, "printed from {text:?}");
});
