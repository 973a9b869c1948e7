//! Any configuration or list of targets is read, or refused with a place; what is read can be printed.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match promontory_config::parse_with_env(text, Path::new("fuzz.yml"), &|_| None) {
        Ok(config) => drop(config.to_yaml()),
        Err(errors) => assert!(!errors.0.is_empty(), "refused without a reason"),
    }
    let _ = promontory_config::discovery::parse_targets(text, Path::new("fuzz.yml"));
    let _ = promontory_config::discovery::parse_targets(text, Path::new("fuzz.json"));
});
