//! Histograms written down by hand, and what arithmetic makes of them.

use super::*;
use proptest::prelude::*;

fn exponential(schema: i32, offset: i32, buckets: &[f64]) -> FloatHistogram {
    let count = buckets.iter().sum();
    FloatHistogram {
        schema,
        count,
        sum: count,
        positive_spans: vec![Span { offset, length: u32::try_from(buckets.len()).unwrap() }],
        positive_buckets: buckets.to_vec(),
        ..FloatHistogram::default()
    }
}

fn custom(bounds: &[f64], buckets: &[f64]) -> FloatHistogram {
    FloatHistogram { custom_values: bounds.to_vec(), ..exponential(CUSTOM_BUCKETS_SCHEMA, 0, buckets) }
}

fn added(a: &FloatHistogram, b: &FloatHistogram) -> (FloatHistogram, Merged) {
    let mut sum = Accumulator::new(a);
    let merged = sum.add(b).unwrap();
    (sum.finish(), merged)
}

#[test]
fn bounds_are_powers_of_two() {
    assert_eq!(exponential_bound(3, 0), 8.0);
    assert_eq!(exponential_bound(0, 8), 1.0);
    assert_eq!(exponential_bound(-2, -1), 2f64.powi(-4));
    assert!((exponential_bound(1, 2) - 2f64.powf(0.25)).abs() < 1e-15);
    assert_eq!(exponential_bound(1024, 0), f64::MAX);
}

#[test]
fn packing_leaves_out_empty_buckets() {
    let h = exponential(0, -1, &[1.0, 0.0, 0.0, 2.0]);
    let c = compact(&h);
    assert_eq!(c.positive_buckets, [1.0, 2.0]);
    assert_eq!(c.positive_spans, [Span { offset: -1, length: 1 }, Span { offset: 2, length: 1 }]);
    assert!(equals(&h, &c));
}

#[test]
fn sums_have_the_lower_resolution() {
    let (sum, _) = added(&exponential(1, 1, &[1.0, 2.0, 3.0]), &exponential(0, 1, &[10.0]));
    assert_eq!((sum.schema, sum.count), (0, 16.0));
    assert_eq!(indexed(&sum.positive_spans, &sum.positive_buckets).collect::<Vec<_>>(), [(1, 13.0), (2, 3.0)]);
}

#[test]
fn sums_have_the_wider_zero_bucket() {
    let narrow = exponential(0, 0, &[1.0, 2.0]);
    let wide = FloatHistogram { zero_threshold: 0.75, zero_count: 5.0, count: 5.0, ..FloatHistogram::default() };
    let (sum, _) = added(&narrow, &wide);
    // 0.75 lies inside the populated bucket (0.5, 1], so the zero bucket grows to 1.
    assert_eq!((sum.zero_threshold, sum.zero_count), (1.0, 6.0));
    assert_eq!(sum.positive_buckets, [2.0]);
}

#[test]
fn custom_bounds_meet_at_the_common_ones() {
    let (sum, merged) = added(&custom(&[1.0, 2.0, 4.0], &[1.0, 1.0, 1.0, 1.0]), &custom(&[1.0, 3.0, 4.0], &[1.0; 4]));
    assert!(merged.bounds_reconciled);
    assert_eq!(sum.custom_values, [1.0, 4.0]);
    assert_eq!(sum.positive_buckets, [2.0, 4.0, 2.0]);
    assert!(Accumulator::new(&custom(&[1.0], &[1.0])).add(&exponential(0, 0, &[1.0])).is_err());
}

#[test]
fn resets_are_seen_per_bucket() {
    let before = exponential(0, 0, &[1.0, 2.0, 3.0]);
    assert!(!detect_reset(&exponential(0, 0, &[1.0, 2.0, 4.0]), &before));
    assert!(detect_reset(&exponential(0, 0, &[2.0, 1.0, 9.0]), &before));
    assert!(detect_reset(&exponential(1, 0, &[10.0]), &before));
    assert!(!detect_reset(&exponential(-1, 0, &[1.0, 9.0]), &before));
    let hinted = FloatHistogram { counter_reset_hint: CounterResetHint::Reset, ..before.clone() };
    assert!(detect_reset(&hinted, &before));
}

#[test]
fn quantiles_interpolate_on_the_logarithm() {
    let h = exponential(0, 0, &[1.0, 2.0, 1.0]);
    assert!((quantile(0.5, &h) - 2f64.sqrt()).abs() < 1e-12);
    assert_eq!(fraction(1.0, 2.0, &h), 0.5);
    assert_eq!(quantile(0.5, &custom(&[10.0], &[4.0, 0.0])), 5.0);
    assert!(quantile(0.5, &FloatHistogram::default()).is_nan());
}

#[test]
fn trimming_keeps_one_side() {
    let h = custom(&[5.0, 10.0], &[2.0, 4.0, 6.0]);
    let below = trim(&h, Side::Below, 7.5);
    assert_eq!((below.count, below.sum), (4.0, 2.0 * 2.5 + 2.0 * 6.25));
    assert_eq!(trim(&h, Side::Above, f64::NEG_INFINITY), h);
    assert_eq!(trim(&h, Side::Above, 10.0).positive_buckets, [6.0]);
}

/// Histograms as damaged or hostile sources may give them.
fn any_histogram() -> impl Strategy<Value = FloatHistogram> {
    let number = || prop_oneof![any::<f64>(), -10.0..10.0, Just(0.0), Just(f64::NAN), Just(f64::INFINITY)];
    let buckets = move || proptest::collection::vec(number(), 0..6);
    let offset = prop_oneof![-5..5, any::<i32>()];
    let span = (offset, prop_oneof![0..4u32, any::<u32>()]).prop_map(|(offset, length)| Span { offset, length });
    let spans = proptest::collection::vec(span, 0..3);
    let schema = prop_oneof![-4..9i32, Just(CUSTOM_BUCKETS_SCHEMA), any::<i32>()];
    (schema, (number(), number(), number(), number()), (spans.clone(), buckets()), (spans, buckets()), buckets())
        .prop_map(|(schema, (zero_threshold, zero_count, count, sum), positive, negative, custom_values)| {
            FloatHistogram {
                schema,
                zero_threshold,
                zero_count,
                count,
                sum,
                positive_spans: positive.0,
                positive_buckets: positive.1,
                negative_spans: negative.0,
                negative_buckets: negative.1,
                custom_values,
                ..FloatHistogram::default()
            }
        })
}

proptest! {
    #[test]
    fn no_histogram_makes_arithmetic_panic(a in any_histogram(), b in any_histogram(), v in any::<f64>()) {
        let mut sum = Accumulator::new(&a);
        let _ = sum.add(&b);
        let _ = sum.sub(&a);
        let sum = sum.finish();
        for h in [&a, &b, &sum] {
            let _ = (quantile(0.3, h), quantile(0.7, h), fraction(-1.0, v, h), stdvar(h), nan_observations(h));
            let _ = (trim(h, Side::Below, v), trim(h, Side::Above, v), compact(h), divided(h, v), all_buckets(h));
        }
        let _ = (detect_reset(&a, &b), detect_reset(&b, &a), equals(&a, &b));
    }

    #[test]
    fn adding_keeps_count_and_observations(
        a in proptest::collection::vec(0..100u8, 1..8),
        b in proptest::collection::vec(0..100u8, 1..8),
        schemas in (-2..3i32, -2..3i32),
        offsets in (-9..9i32, -9..9i32),
    ) {
        let floats = |counts: &[u8]| counts.iter().map(|c| f64::from(*c)).collect::<Vec<_>>();
        let x = exponential(schemas.0, offsets.0, &floats(&a));
        let y = exponential(schemas.1, offsets.1, &floats(&b));
        let (sum, _) = added(&x, &y);
        prop_assert_eq!(sum.schema, schemas.0.min(schemas.1));
        prop_assert_eq!(sum.count, x.count + y.count);
        prop_assert_eq!(sum.positive_buckets.iter().sum::<f64>(), sum.count);
        let mut back = Accumulator::new(&sum);
        prop_assert!(back.sub(&y).is_ok());
        prop_assert_eq!(back.finish().count, x.count);
        prop_assert!(!detect_reset(&sum, &x));
    }
}
