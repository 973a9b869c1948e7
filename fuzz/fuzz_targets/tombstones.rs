//! Any list of tombstones, its checksum mended, is obeyed or refused; what is read is written as it was.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| promontory_fuzz::tombstones(bytes));
