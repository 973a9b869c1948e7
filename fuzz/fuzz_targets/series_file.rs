//! Any series file, its checksums mended, is opened and used, or damage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| promontory_fuzz::series_file(bytes));
