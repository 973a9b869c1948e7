//! Any bytes decode to the asked number of values or are refused; encoded values come back bit by bit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promontory_storage::codec;

fuzz_target!(|bytes: &[u8]| {
    let Some((&n, bytes)) = bytes.split_first() else { return };
    let mut values = Vec::new();
    if codec::decode(bytes, usize::from(n), &mut values).is_ok() {
        assert_eq!(values.len(), usize::from(n));
    }
    let floats: Vec<f64> = bytes.chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().expect("8 bytes"))).collect();
    let mut encoded = Vec::new();
    codec::encode(&floats, &mut encoded);
    values.clear();
    codec::decode(&encoded, floats.len(), &mut values).expect("what was encoded decodes");
    assert!(values.iter().map(|v| v.to_bits()).eq(floats.iter().map(|v| v.to_bits())));
});
