//! Any bytes are a mini-block of as many rows as the first two say at most, or are refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| promontory_fuzz::mini_block(bytes));
