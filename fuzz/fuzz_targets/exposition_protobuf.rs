//! Any body of protocol buffers is read or refused, and what it becomes is readable.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| promontory_fuzz::exposition_protobuf(bytes));
