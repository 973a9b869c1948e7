//! Any configuration or list of targets is read, or refused with a place; what is read can be printed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| promontory_fuzz::config_yaml(bytes));
