//! Round trips of columns of native histograms, and bytes that no writer gives.

use promontory_model::STALE_NAN_BITS;
use promontory_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use proptest::prelude::*;

use super::*;

/// Everything of a histogram, comparable bit for bit.
fn bits(h: &FloatHistogram) -> (String, Vec<u64>) {
    let numbers = [h.zero_threshold, h.zero_count, h.count, h.sum];
    let rest = [&h.positive_buckets, &h.negative_buckets, &h.custom_values];
    let all = numbers.iter().chain(rest.into_iter().flatten()).map(|v| v.to_bits()).collect();
    let lens = rest.map(Vec::len);
    let shape = (h.schema, h.counter_reset_hint, &h.positive_spans, &h.negative_spans, lens);
    (format!("{shape:?}"), all)
}

#[track_caller]
fn check(histograms: &[FloatHistogram]) -> usize {
    let mut out = vec![9];
    encode_histograms(histograms, &mut out);
    let mut got = vec![Arc::new(FloatHistogram::default())];
    decode_histograms(&out[1..], histograms.len(), &mut got).unwrap();
    assert_eq!(got.len(), histograms.len() + 1);
    for (got, expected) in got[1..].iter().zip(histograms) {
        assert_eq!(bits(got), bits(expected));
    }
    out.len() - 1
}

fn spans(spans: &[(i32, u32)]) -> Vec<Span> {
    spans.iter().map(|&(offset, length)| Span { offset, length }).collect()
}

/// A counting histogram that gets `n` observations in each of `rows` scrapes, bucket after bucket coming into use.
fn counting(rows: usize, n_buckets: usize) -> Vec<FloatHistogram> {
    let mut counts = vec![0u64; n_buckets];
    let mut noise = 7u64;
    (0..rows)
        .map(|row| {
            for (i, count) in counts.iter_mut().enumerate().take(n_buckets - n_buckets / 4 + row / 20) {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *count += (noise >> 60) / (i as u64 + 1);
            }
            let used = counts.iter().rposition(|c| *c > 0).map_or(0, |i| i + 1);
            let positive_buckets: Vec<f64> = counts[..used].iter().map(|c| *c as f64).collect();
            FloatHistogram {
                counter_reset_hint: if row == 0 { CounterResetHint::Unknown } else { CounterResetHint::NotReset },
                schema: 3,
                zero_threshold: USUAL_THRESHOLD,
                zero_count: (row / 3) as f64,
                count: positive_buckets.iter().sum::<f64>() + (row / 3) as f64,
                sum: counts.iter().enumerate().map(|(i, c)| i as f64 * *c as f64 / 1000.0).sum(),
                positive_spans: spans(&[(-3, used as u32)]),
                positive_buckets,
                ..FloatHistogram::default()
            }
        })
        .collect()
}

#[test]
fn counting_histograms_take_less_than_a_byte_per_bucket() {
    assert_eq!(check(&[]), 0);
    let bytes = check(&counting(480, 40));
    assert!(bytes <= 480 * 40 / 4, "{bytes} bytes");
    let short = check(&counting(16, 40));
    assert!(short <= 16 * 40, "{short} bytes");
    let still = vec![counting(30, 40).pop().unwrap(); 480];
    let bytes = check(&still);
    assert!(bytes <= 40 * 4 + 30, "{bytes} bytes");
}

#[test]
fn resets_stale_markers_and_changes_of_resolution_come_back() {
    let mut column = counting(60, 20);
    column[20..40].iter_mut().for_each(|h| {
        h.counter_reset_hint = CounterResetHint::Reset;
        h.schema = 2;
        h.positive_buckets.truncate(10);
        h.positive_spans = spans(&[(-1, 4), (3, 6)]);
    });
    column.push(FloatHistogram { sum: f64::from_bits(STALE_NAN_BITS), ..FloatHistogram::default() });
    column.extend(counting(3, 5));
    check(&column);
    column.iter_mut().for_each(|h| h.counter_reset_hint = CounterResetHint::Gauge);
    check(&column);
}

#[test]
fn custom_buckets_come_back() {
    let h = |n: usize, bounds: &[f64]| FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 3.0 * n as f64,
        sum: 0.1 * n as f64,
        positive_spans: spans(&[(0, 2), (1, 1)]),
        positive_buckets: vec![n as f64; 3],
        custom_values: bounds.to_vec(),
        ..FloatHistogram::default()
    };
    let bounds = [0.005, 0.25, 1.0, 1.0 / 3.0, 1e300];
    let mut column: Vec<_> = (0..50).map(|n| h(n, &bounds)).collect();
    let bytes = check(&column);
    assert!(bytes < 100, "{bytes} bytes");
    column.push(h(50, &[1.0, 2.0, 3.0]));
    column.push(h(51, &[f64::NAN, -0.0, f64::INFINITY]));
    column.push(h(52, &[1.0; 300]));
    check(&column);
}

#[test]
fn shapes_that_contradict_themselves_come_back() {
    let h = |positive: &[(i32, u32)], n: usize| FloatHistogram {
        positive_spans: spans(positive),
        positive_buckets: (0..n).map(|i| i as f64).collect(),
        negative_spans: spans(positive),
        negative_buckets: (0..n / 2).map(|i| i as f64).collect(),
        count: -0.0,
        ..FloatHistogram::default()
    };
    check(&[
        h(&[(i32::MIN, 1), (i32::MAX, 1)], 2),
        h(&[(0, 3)], 2),
        h(&[(0, 3), (-2, 3)], 6),
        h(&[(0, 0), (5, 0), (0, 2)], 2),
        h(&[], 7),
        h(&[(0, u32::MAX)], 0),
    ]);
}

#[test]
fn few_bytes_that_claim_many_buckets_are_refused() {
    let mut out = Vec::new();
    encode_histograms(&[FloatHistogram::default()], &mut out);
    let at = out.iter().position(|b| *b == 0).unwrap();
    // One span of four billion buckets in place of none.
    let mut hostile = out[..at + 2].to_vec();
    hostile.extend_from_slice(&[1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    hostile.extend_from_slice(&out[at + 3..]);
    let mut got = Vec::new();
    assert_eq!(decode_histograms(&hostile, 1, &mut got).unwrap_err().what, "number of buckets");
}

fn any_f64() -> impl Strategy<Value = f64> {
    prop_oneof![any::<u64>().prop_map(f64::from_bits), (-5i32..1000).prop_map(f64::from), Just(0.0)]
}

fn any_spans() -> impl Strategy<Value = Vec<Span>> {
    let span = prop_oneof![4 => (0i32..4, 0u32..4), 1 => (any::<i32>(), any::<u32>())];
    proptest::collection::vec(span.prop_map(|(offset, length)| Span { offset, length }), 0..4)
}

fn any_histogram() -> impl Strategy<Value = FloatHistogram> {
    let buckets = || (any::<bool>(), proptest::collection::vec(any_f64(), 0..12));
    let numbers = (any_f64(), any_f64(), any_f64(), any_f64(), any::<bool>());
    (
        0u64..4,
        -4i32..9,
        numbers,
        any_spans(),
        buckets(),
        any_spans(),
        buckets(),
        proptest::collection::vec(any_f64(), 0..4),
    )
        .prop_map(|(hint, schema, numbers, positive_spans, p, negative_spans, n, custom_values)| {
            let (zero_threshold, zero_count, count, sum, is_total) = numbers;
            // Mostly as many buckets as the spans say.
            let fit = |(is_fit, buckets): (bool, Vec<f64>), spans: &[Span]| {
                let n: u64 = spans.iter().map(|s| u64::from(s.length)).sum();
                let n = if is_fit && n < 50 { n as usize } else { buckets.len() };
                (0..n).map(|i| buckets.get(i).copied().unwrap_or(1.0)).collect::<Vec<f64>>()
            };
            let mut h = FloatHistogram {
                counter_reset_hint: hint_of(hint),
                schema,
                zero_threshold,
                zero_count,
                count,
                sum,
                positive_buckets: fit(p, &positive_spans),
                negative_buckets: fit(n, &negative_spans),
                positive_spans,
                negative_spans,
                custom_values,
            };
            if is_total {
                h.count = total(&h);
            }
            h
        })
}

proptest! {
    #[test]
    fn any_histograms_round_trip(
        some in proptest::collection::vec(any_histogram(), 1..6), order in proptest::collection::vec(any::<usize>(), 0..40)
    ) {
        let column: Vec<FloatHistogram> = order.iter().map(|i| some[i % some.len()].clone()).collect();
        check(&column);
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), n in 0usize..100) {
        let mut got = Vec::new();
        let _ = decode_histograms(&bytes, n, &mut got);
        prop_assert!(got.len() <= n);
    }

    #[test]
    fn damaged_columns_never_panic(
        column in proptest::collection::vec(any_histogram(), 1..8), at in any::<usize>(), bit in 0u8..8
    ) {
        let mut out = Vec::new();
        encode_histograms(&column, &mut out);
        let at = at % out.len();
        out[at] ^= 1 << bit;
        let mut got = Vec::new();
        let _ = decode_histograms(&out, column.len(), &mut got);
        let _ = decode_histograms(&out[..at], column.len(), &mut got);
    }
}

#[test]
fn documented_histograms_are_what_is_written() {
    let h = |n: u32| FloatHistogram {
        counter_reset_hint: CounterResetHint::NotReset,
        schema: 0,
        zero_threshold: USUAL_THRESHOLD,
        zero_count: 0.0,
        count: f64::from(3 * n),
        sum: f64::from(n) / 2.0,
        positive_spans: spans(&[(-1, 2)]),
        positive_buckets: vec![f64::from(n), f64::from(2 * n)],
        ..FloatHistogram::default()
    };
    let column = [1, 2, 3].map(h);
    let mut out = Vec::new();
    encode_histograms(&column, &mut out);
    assert_eq!(out, documented("histograms"), "{out:02x?}");
    check(&column);
}

/// The bytes of the format's example: hexadecimal in front of each comment.
fn documented(fence: &str) -> Vec<u8> {
    const PAGE: &str = include_str!("../../../docs/format/codec.md");
    let (_, rest) = PAGE.split_once(&format!("```{fence}\n")).unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let hex = example.lines().map(|line| line.split('|').next().unwrap()).flat_map(str::split_whitespace);
    hex.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}
