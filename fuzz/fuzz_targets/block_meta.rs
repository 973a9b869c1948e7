//! Any meta file of a block, its CRC mended, is read or refused; what is read is written as it was.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| promontory_fuzz::block_meta(bytes));
