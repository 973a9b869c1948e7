//! Any index of a block, its checksums mended, is searched or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| promontory_fuzz::block_index(bytes));
