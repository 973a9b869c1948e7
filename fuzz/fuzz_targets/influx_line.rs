//! Any line of InfluxDB is read or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| promontory_fuzz::influx_line(bytes));
