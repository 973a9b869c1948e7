//! Any head segment, its checksums mended, is opened, read and maintained, or damage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| promontory_fuzz::head_segment(bytes));
