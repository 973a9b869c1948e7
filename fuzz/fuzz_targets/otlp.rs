//! Any OTLP request becomes samples or is refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| promontory_fuzz::otlp(bytes));
