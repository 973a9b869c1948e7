//! Round trips of whole columns.

use super::*;
use proptest::prelude::*;

#[track_caller]
fn check(values: &[f64]) -> usize {
    let mut out = vec![0xaa];
    encode(values, &mut out);
    let mut got = vec![1.0];
    decode(&out[1..], values.len(), &mut got).unwrap();
    let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&got[1..]), bits(values));
    assert!(out.len() <= 2 + 8 * values.len(), "never larger than raw");
    out.len() - 1
}

#[track_caller]
fn check_size(values: &[f64], bytes_max: usize) {
    let bytes = check(values);
    assert!(bytes <= bytes_max, "{bytes} bytes, at most {bytes_max} expected");
}

/// Deterministic noise in 0..n.
fn noise(i: u64, n: u64) -> u64 {
    (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % n
}

#[test]
fn typical_columns_are_small() {
    check_size(&[], 0);
    check_size(&[0.0; 480], 2);
    check_size(&[1.25; 480], 4);
    check_size(&[0.1 + 0.2; 480], 9);
    check_size(&[-692.166_376_974_134; 480], 9);
    check_size(&[f64::from_bits(STALE_NAN_BITS); 5], 9);
    check_size(&(0..480).map(f64::from).collect::<Vec<_>>(), 4);
    let counter: Vec<f64> = (0..480)
        .scan(0, |s, i| {
            *s += 100 + noise(i, 16);
            Some(*s as f64)
        })
        .collect();
    check_size(&counter, 480 / 2 + 20);
    let seconds: Vec<f64> = (0..480)
        .scan(0, |s, i| {
            *s += noise(i, 16);
            Some(*s as f64 / 100.0)
        })
        .collect();
    check_size(&seconds, 480 / 2 + 24);
    let memory: Vec<f64> = (0..480).map(|i| (1_000_000 + noise(i, 64)) as f64 * 4096.0).collect();
    check_size(&memory, 480 * 6 / 8 + 24);
    let mut ended = counter.clone();
    ended[479] = f64::from_bits(STALE_NAN_BITS);
    check_size(&ended, 480 * 5 / 8 + 28);
    let rare: Vec<f64> = (0..480).map(|i| f64::from(i / 200)).collect();
    check_size(&rare, 30);
    let drifted: Vec<f64> = (0..480)
        .scan(0.0, |s, i| {
            *s += noise(i, 3000) as f64 / 1e6;
            Some(*s)
        })
        .collect();
    check_size(&drifted, 480 * 2 + 30);
    let random: Vec<f64> = (0..480).map(|i| noise(i, 1 << 31) as f64 / (1u64 << 31) as f64).collect();
    check_size(&random, 480 * 4 + 64);
}

#[test]
fn odd_values_keep_their_bits() {
    let odd = [0x7ff8_0000_0000_0001, STALE_NAN_BITS, 0xfff8_dead_beef_0001, 1 << 63, 0x7ff0 << 48, 0xfff0 << 48, 1];
    for bits in odd {
        check(&[f64::from_bits(bits)]);
        check(&[f64::from_bits(bits), 1.0]);
        let mut column: Vec<f64> = (0..100).map(f64::from).collect();
        column[0] = f64::from_bits(bits);
        column[50] = f64::from_bits(bits);
        check(&column);
    }
    check(&odd.map(f64::from_bits));
}

fn any_bits() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => any::<u64>().prop_map(f64::from_bits),
        1 => Just(f64::from_bits(STALE_NAN_BITS)),
        1 => Just(-0.0),
        1 => Just(f64::INFINITY),
        1 => (0u64..1 << 52).prop_map(f64::from_bits),
        3 => (-1000i32..1000).prop_map(f64::from),
    ]
}

/// Walks of integers scaled by a power of ten, with the odd value now and then: what exporters send.
fn realistic() -> impl Strategy<Value = Vec<f64>> {
    let steps = proptest::collection::vec((-50i64..500, 0u8..40), 1..600);
    (steps, 0u32..12, any::<bool>(), 0i64..1 << 40).prop_map(|(steps, decimals, monotone, start)| {
        let mut at = start;
        let scale = 10f64.powi(decimals as i32);
        let value = |(step, rare): &(i64, u8)| {
            at += if monotone { step.abs() } else { *step };
            match rare {
                0 => f64::from_bits(STALE_NAN_BITS),
                1 => {
                    at = 0;
                    0.0
                }
                2 => 1.0 / (at as f64 + 3.0),
                _ => at as f64 / scale,
            }
        };
        steps.iter().map(value).collect()
    })
}

proptest! {
    #[test]
    fn any_bit_patterns_round_trip(values in proptest::collection::vec(any_bits(), 0..300)) {
        check(&values);
    }

    #[test]
    fn realistic_columns_round_trip(values in realistic()) {
        check(&values);
    }

    #[test]
    fn levels_under_noise_round_trip(
        steps in proptest::collection::vec((-128i64..128, -128i64..128), 64..700),
        (scale, noise, rise) in (1i64..1 << 34, 1i64..20, prop_oneof![Just(0i64), 1i64..5000]),
        decimals in 0i32..4,
    ) {
        let (mut level, mut sum) = (0, 0);
        let value = |(step, around): &(i64, i64)| {
            level += step;
            let number = scale * (level + noise * around) + rise * scale;
            sum = if rise == 0 { number } else { sum + number };
            sum as f64 / 10f64.powi(decimals)
        };
        check(&steps.iter().map(value).collect::<Vec<_>>());
    }

    #[test]
    fn hostile_bytes_never_panic_nor_exceed(bytes in proptest::collection::vec(any::<u8>(), 0..80), n in 0usize..400) {
        let mut got = Vec::new();
        let _ = decode(&bytes, n, &mut got);
        prop_assert!(got.len() <= n);
    }

    #[test]
    fn damaged_columns_never_panic(values in realistic(), at in any::<usize>(), bit in 0u8..8, cut in any::<usize>()) {
        let mut out = Vec::new();
        encode(&values, &mut out);
        let at = at % out.len();
        out[at] ^= 1 << bit;
        let mut got = Vec::new();
        let _ = decode(&out, values.len(), &mut got);
        let _ = decode(&out[..cut % out.len()], values.len(), &mut got);
    }
}
/// The examples of the format description: fence, input line, hex line.
fn documented(fence: &str) -> Vec<(&'static str, Vec<u8>)> {
    const PAGE: &str = include_str!("../../docs/format/codec.md");
    let open = format!("```{fence}\n");
    let examples: Vec<_> = PAGE
        .split(open.as_str())
        .skip(1)
        .map(|rest| {
            let mut lines = rest.lines();
            let input = lines.next().unwrap();
            let hex = lines.next().unwrap().split(' ').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
            (input, hex)
        })
        .collect();
    assert!(examples.len() > 2);
    examples
}

#[test]
fn documented_values_are_what_is_written() {
    for (input, bytes) in documented("values") {
        let value = |text: &str| match text {
            "stale" => f64::from_bits(STALE_NAN_BITS),
            "nan" => f64::from_bits(NORMAL_NAN_BITS),
            number => number.parse().unwrap(),
        };
        let values: Vec<f64> = input.split(' ').map(value).collect();
        let mut out = Vec::new();
        encode(&values, &mut out);
        assert_eq!(out, bytes, "{input}: {out:02x?}");
        let mut got = Vec::new();
        decode(&bytes, values.len(), &mut got).unwrap();
        assert!(std::iter::zip(&got, &values).all(|(a, b)| a.to_bits() == b.to_bits()), "{input}");
    }
}

#[test]
fn documented_timestamps_are_what_is_written() {
    for (input, bytes) in documented("timestamps") {
        let times: Vec<i64> = input.split(' ').map(|t| t.parse().unwrap()).collect();
        let mut out = Vec::new();
        encode_timestamps(&times, &mut out);
        assert_eq!(out, bytes, "{input}: {out:02x?}");
        let mut got = Vec::new();
        decode_timestamps(&bytes, times.len(), &mut got).unwrap();
        assert_eq!(got, times);
    }
}
