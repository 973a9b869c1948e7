//! Straight lines through the samples of a window, and smoothing with a trend.

use super::Samples;
use super::sum;

/// Slope per second and the value at `at` (ms) of the least-squares line through at least one sample.
pub(crate) fn line(s: Samples<'_>, at: i64) -> (f64, f64) {
    let first = s.v[0];
    if s.v.iter().all(|v| *v == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let mut n = 0.0;
    let (mut x_sum, mut y_sum, mut xy_sum, mut xx_sum) = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0));
    for (t, y) in s.t.iter().zip(s.v) {
        n += 1.0;
        let x = (t - at) as f64 / 1e3;
        x_sum = sum::add(x, x_sum.0, x_sum.1);
        y_sum = sum::add(*y, y_sum.0, y_sum.1);
        xy_sum = sum::add(x * y, xy_sum.0, xy_sum.1);
        xx_sum = sum::add(x * x, xx_sum.0, xx_sum.1);
    }
    let (x, y, xy, xx) = (x_sum.0 + x_sum.1, y_sum.0 + y_sum.1, xy_sum.0 + xy_sum.1, xx_sum.0 + xx_sum.1);
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// `double_exponential_smoothing` of at least two values, with factors already checked.
pub(crate) fn smooth(v: &[f64], smoothing: f64, trend: f64) -> f64 {
    let (mut before, mut now, mut slope) = (0.0, v[0], v[1] - v[0]);
    for (i, x) in v.iter().enumerate().skip(1) {
        if i > 1 {
            slope = trend * (now - before) + (1.0 - trend) * slope;
        }
        (before, now) = (now, smoothing * x + (1.0 - smoothing) * (now + slope));
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_through_points_on_a_line() {
        let (slope, value) = line(Samples { t: &[0, 10_000, 20_000], v: &[1.0, 3.0, 5.0] }, 30_000);
        assert!((slope - 0.2).abs() < 1e-12 && (value - 7.0).abs() < 1e-12, "{slope} {value}");
    }

    #[test]
    fn equal_values_have_no_slope_and_infinities_no_line() {
        assert_eq!(line(Samples { t: &[0, 1], v: &[2.0, 2.0] }, 5), (0.0, 2.0));
        assert!(line(Samples { t: &[0, 1], v: &[f64::INFINITY; 2] }, 5).0.is_nan());
    }

    #[test]
    fn a_straight_trend_smooths_to_itself() {
        let v: Vec<f64> = (0..6).map(|i| 10.0 * f64::from(i)).collect();
        assert!((smooth(&v, 0.01, 0.1) - 50.0).abs() < 1e-9);
    }
}
