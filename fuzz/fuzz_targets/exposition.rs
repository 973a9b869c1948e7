//! Any body of a scrape is read to its end or refused, in both formats.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promontory::scrape::exposition::{Format, Item, Parser};

fuzz_target!(|body: &[u8]| {
    for format in [Format::Text, Format::OpenMetrics] {
        let mut parser = Parser::new(body, format);
        while let Ok(item) = parser.next_item() {
            if matches!(item, Item::End) {
                break;
            }
        }
    }
});
