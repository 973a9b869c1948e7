//! Anything that a server of ZooKeeper sends is understood or ends the session.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| promontory_fuzz::zookeeper(bytes));
