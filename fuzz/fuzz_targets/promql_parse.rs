//! Any text parses or is refused; what parses, printed, parses to the same text again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| promontory_fuzz::promql_parse(bytes));
