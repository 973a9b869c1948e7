//! Any query is evaluated or refused within a limit of memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| promontory_fuzz::promql_eval(bytes));
