//! The bytes are records of the log: all come back from a segment, and a database opens with them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| promontory_fuzz::wal(bytes));
