//! Any body of a scrape is read to its end or refused, in both formats.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| promontory_fuzz::exposition(bytes));
