//! The bytes after the first decode to as many values as that one says, or are refused; taken for values themselves,
//! they come back bit by bit.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| promontory_fuzz::codec_decode(bytes));
