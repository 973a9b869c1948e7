//! Any files of a block of Prometheus, their checksums passed over, are read or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| promontory_fuzz::prometheus_block(bytes));
