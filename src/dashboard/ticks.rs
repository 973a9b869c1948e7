//! Scales and ticks of axes.
//!
//! # Source
//! Ranges, increments and time formats follow what Grafana draws.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::units::moment;

/// How values map to the height of a plot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// Base of a logarithmic scale.
    pub(crate) log: Option<f64>,
    /// Below this size a logarithmic scale is linear, so that it has room for zero and what is below.
    pub(crate) linear: Option<f64>,
}

impl Scale {
    /// Position of `v` from the bottom, 0–1 inside.
    pub(crate) fn position(self, v: f64) -> f64 {
        match (self.log, self.linear) {
            (Some(_), Some(linear)) => {
                let at = |x: f64| (x / linear).asinh();
                (at(v) - at(self.min)) / (at(self.max) - at(self.min))
            }
            (Some(base), None) => {
                let at = |x: f64| x.max(f64::MIN_POSITIVE).log(base);
                (at(v) - at(self.min)) / (at(self.max) - at(self.min))
            }
            (None, _) => (v - self.min) / (self.max - self.min),
        }
    }
}

/// What a configuration says of a range.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct RangeConfig {
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) soft_min: Option<f64>,
    pub(crate) soft_max: Option<f64>,
    pub(crate) centered_zero: bool,
    pub(crate) log: Option<f64>,
    /// As of [`Scale`].
    pub(crate) linear: Option<f64>,
    pub(crate) whole: bool,
}

/// The scale that shows data from `low` to `high`.
pub(crate) fn scale(data: Option<(f64, f64)>, config: RangeConfig) -> Scale {
    if let Some(base) = config.log {
        return match config.linear {
            Some(linear) => symmetric_scale(data, config, base, linear),
            None => log_scale(data, config, base),
        };
    }
    let (low, high) = match data {
        Some(bounds) => bounds,
        None => (0.0, config.max.or(config.soft_max).unwrap_or(100.0)),
    };
    let (mut min, mut max) = if low == high {
        if low == 0.0 { (0.0, 100.0) } else { (low.min(2.0 * low).min(0.0), (2.0 * high).max(0.0)) }
    } else if data.is_some() {
        padded(low, high)
    } else {
        (low, high)
    };
    if let Some(soft) = config.soft_min {
        min = if low >= soft { soft } else { min };
    }
    if let Some(soft) = config.soft_max {
        max = if high <= soft { soft } else { max };
    }
    if config.centered_zero {
        max = max.abs().max(min.abs());
        min = -max;
    }
    if config.whole {
        // Ticks stand at whole numbers, of which there must be some.
        (min, max) = (min.floor(), max.ceil());
    }
    min = config.min.unwrap_or(min);
    max = config.max.unwrap_or(max);
    if min >= max || !(max - min).is_finite() {
        (min, max) = if config.max.is_some() && config.min.is_none() { (max - 1.0, max) } else { (min, min + 1.0) };
    }
    Scale { min, max, log: None, linear: None }
}

/// A tenth of room on both sides, but not across zero.
fn padded(low: f64, high: f64) -> (f64, f64) {
    let room = (high - low) * 0.1;
    let min = if low >= 0.0 && low - room < 0.0 { 0.0 } else { low - room };
    let max = if high <= 0.0 && high + room > 0.0 { 0.0 } else { high + room };
    (min, max)
}

fn log_scale(data: Option<(f64, f64)>, config: RangeConfig, base: f64) -> Scale {
    let (low, high) = data.unwrap_or((1.0, 100.0));
    let positive = |v: f64, other: f64| if v > 0.0 { v } else { other };
    let high = positive(config.max.unwrap_or(high), 1.0);
    let low = positive(config.min.unwrap_or(low), high / base.powi(4)).min(high);
    let min = if config.min.is_some() { low } else { base.powf(low.log(base).floor()) };
    let max = if config.max.is_some() { high } else { base.powf(high.log(base).ceil()) };
    Scale { min, max: if max > min { max } else { min * base }, log: Some(base), linear: None }
}

/// Logarithmic away from zero on both sides, and linear around it. The ends are powers of the base, or zero.
fn symmetric_scale(data: Option<(f64, f64)>, config: RangeConfig, base: f64, linear: f64) -> Scale {
    let (low, high) = data.unwrap_or((0.0, 100.0));
    let outwards = |v: f64| if v.abs() <= linear { linear } else { base.powf((v.abs().log(base) - 1e-9).ceil()) };
    let end = |v: f64, is_low: bool| match v {
        0.0 => 0.0,
        v if (v < 0.0) == is_low => outwards(v) * v.signum(),
        // The end that looks towards zero is zero.
        _ => 0.0,
    };
    let min = config.min.unwrap_or_else(|| end(low, true));
    let max = config.max.unwrap_or_else(|| end(high, false));
    Scale { min, max: if max > min { max } else { min + linear }, log: Some(base), linear: Some(linear) }
}

/// Ticks that any axis shows at most.
const TICKS_MAX: usize = 60;

/// Values and the step of the ticks of `scale` on `px` pixels.
pub(crate) fn value_ticks(scale: Scale, px: f64, binary: bool, whole: bool) -> (Vec<f64>, f64) {
    if let (Some(base), Some(linear)) = (scale.log, scale.linear) {
        return (symmetric_ticks(scale, base, linear, px), 0.0);
    }
    if let Some(base) = scale.log {
        // The logarithm of a power is a hair off its exponent at times.
        let (first, last) = ((scale.min.log(base) - 1e-9).ceil() as i32, (scale.max.log(base) + 1e-9).floor() as i32);
        let room = (px / 20.0).max(2.0) as i32;
        let every = ((last - first + 1).max(1) as f64 / f64::from(room)).ceil().max(1.0) as usize;
        return ((first..=last).step_by(every).take(TICKS_MAX).map(|e| base.powi(e)).collect(), 0.0);
    }
    let gap = if px <= 150.0 { 15.0_f64.max(px / 5.0) } else { 30.0 };
    let least = (scale.max - scale.min) * gap / px.max(1.0);
    let step = increment(least, binary, whole);
    let first = (scale.min / step - 1e-9).ceil();
    let mut out = Vec::new();
    for i in 0..TICKS_MAX {
        let v = (first + i as f64) * step;
        if v > scale.max + step * 1e-9 {
            break;
        }
        out.push(if v.abs() < step * 1e-9 { 0.0 } else { v });
    }
    (out, step)
}

/// Zero, and powers of the base on both sides of it.
fn symmetric_ticks(scale: Scale, base: f64, linear: f64, px: f64) -> Vec<f64> {
    let first = (linear.log(base) - 1e-9).ceil() as i32;
    let last = (scale.min.abs().max(scale.max.abs()).log(base) + 1e-9).floor().clamp(-400.0, 400.0) as i32;
    let sides = if scale.min < 0.0 && scale.max > 0.0 { 2.0 } else { 1.0 };
    let room = (px / 20.0 / sides).max(1.0);
    let every = (f64::from((last - first + 1).max(1)) / room).ceil().max(1.0) as usize;
    let powers: Vec<f64> = (first..=last).rev().step_by(every).take(TICKS_MAX / 2).map(|e| base.powi(e)).collect();
    let below = powers.iter().map(|p| -p);
    let all = below.chain(std::iter::once(0.0)).chain(powers.iter().rev().copied());
    let (least, greatest) = (scale.min - scale.min.abs() * 1e-9, scale.max + scale.max.abs() * 1e-9);
    all.filter(|v| (least..=greatest).contains(v)).collect()
}

/// The smallest readable step that is at least `least`.
fn increment(least: f64, binary: bool, whole: bool) -> f64 {
    if !least.is_finite() || least <= 0.0 {
        return 1.0;
    }
    if binary && least > 1.0 {
        return 2f64.powi(least.log2().ceil() as i32);
    }
    let power = 10f64.powf(least.log10().floor());
    let steps: &[f64] =
        if power * 2.5 % 1.0 != 0.0 && whole { &[1.0, 2.0, 5.0, 10.0] } else { &[1.0, 2.0, 2.5, 5.0, 10.0] };
    let step = steps.iter().map(|s| s * power).find(|s| *s >= least * (1.0 - 1e-9)).unwrap_or(power * 10.0);
    if whole { step.max(1.0) } else { step }
}

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

const TIME_STEPS: [i64; 27] = [
    1,
    10,
    100,
    500,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    4 * HOUR,
    6 * HOUR,
    8 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
    14 * DAY,
];

/// Times and labels of the ticks of a time axis of `px` pixels.
pub(crate) fn time_ticks(from_ms: i64, to_ms: i64, px: f64, tz: &TimeZone) -> Vec<(i64, String)> {
    let length = (to_ms - from_ms).max(1);
    // A label needs its own width and about the same again to its neighbour.
    let chars = |step: i64| time_format(step, length).len() as f64;
    let fits = |step: i64| step as f64 / length as f64 * px >= chars(step) * 6.5 + 16.0;
    match TIME_STEPS.iter().copied().find(|s| fits(*s)) {
        Some(step) if step < DAY => even_ticks(from_ms, to_ms, step, tz),
        Some(step) => day_ticks(from_ms, to_ms, step / DAY, tz),
        None => {
            let months = [1, 2, 3, 6, 12, 24, 60];
            let n = months.into_iter().find(|m| fits(m * 30 * DAY)).unwrap_or(120);
            month_ticks(from_ms, to_ms, n, tz)
        }
    }
}

fn time_format(step: i64, length: i64) -> &'static str {
    if step < SECOND {
        "HH:mm:ss.SSS"
    } else if step < MINUTE {
        "HH:mm:ss"
    } else if length <= DAY + HOUR {
        "HH:mm"
    } else if step < DAY {
        "MM/DD HH:mm"
    } else if length <= 366 * DAY {
        "MM/DD"
    } else if step < 365 * DAY {
        "YYYY-MM"
    } else {
        "YYYY"
    }
}

fn even_ticks(from_ms: i64, to_ms: i64, step: i64, tz: &TimeZone) -> Vec<(i64, String)> {
    let offset = Timestamp::from_millisecond(from_ms).map_or(0, |t| i64::from(tz.to_offset(t).seconds()) * 1000);
    let format = time_format(step, to_ms - from_ms);
    let mut t = (from_ms + offset).div_euclid(step) * step - offset;
    let mut out = Vec::new();
    while t <= to_ms && out.len() < TICKS_MAX {
        if t >= from_ms {
            out.push((t, moment(t as f64, format, tz)));
        }
        t += step;
    }
    out
}

fn civil_ticks(
    from_ms: i64,
    to_ms: i64,
    format: &str,
    tz: &TimeZone,
    start: impl Fn(jiff::civil::Date) -> jiff::civil::Date,
    next: jiff::Span,
) -> Vec<(i64, String)> {
    let Ok(from) = Timestamp::from_millisecond(from_ms) else { return Vec::new() };
    let mut date = start(from.to_zoned(tz.clone()).date());
    let mut out = Vec::new();
    for _ in 0..TICKS_MAX {
        let Ok(zoned) = date.to_zoned(tz.clone()) else { break };
        let t = zoned.timestamp().as_millisecond();
        if t > to_ms {
            break;
        }
        if t >= from_ms {
            out.push((t, moment(t as f64, format, tz)));
        }
        let Ok(after) = date.checked_add(next) else { break };
        date = after;
    }
    out
}

fn day_ticks(from_ms: i64, to_ms: i64, days: i64, tz: &TimeZone) -> Vec<(i64, String)> {
    let format = time_format(days * DAY, to_ms - from_ms);
    civil_ticks(from_ms, to_ms, format, tz, |d| d, days.days())
}

fn month_ticks(from_ms: i64, to_ms: i64, months: i64, tz: &TimeZone) -> Vec<(i64, String)> {
    let format =
        if to_ms - from_ms <= 366 * DAY { "MM/DD" } else { time_format(months * 30 * DAY + 5 * DAY, to_ms - from_ms) };
    // Steps of several months begin in January.
    let start = |d: jiff::civil::Date| {
        let back = i64::from(d.month() - 1) % months.min(12);
        d.first_of_month().checked_sub(back.months()).unwrap_or(d)
    };
    civil_ticks(from_ms, to_ms, format, tz, start, months.months())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_scale(data: Option<(f64, f64)>, config: RangeConfig, expected: (f64, f64)) {
        let s = scale(data, config);
        assert!((s.min - expected.0).abs() < 1e-9 && (s.max - expected.1).abs() < 1e-9, "{s:?} not {expected:?}");
    }

    #[test]
    fn ranges_leave_room_but_do_not_cross_zero() {
        let auto = RangeConfig::default();
        check_scale(Some((50.0, 100.0)), auto, (45.0, 105.0));
        check_scale(Some((3.0, 100.0)), auto, (0.0, 109.7));
        check_scale(Some((5.0, 5.0)), auto, (0.0, 10.0));
        check_scale(Some((0.0, 0.0)), auto, (0.0, 100.0));
        check_scale(None, auto, (0.0, 100.0));
        check_scale(Some((0.2, 0.4)), RangeConfig { min: Some(0.0), max: Some(1.0), ..auto }, (0.0, 1.0));
        check_scale(Some((50.0, 100.0)), RangeConfig { soft_min: Some(0.0), ..auto }, (0.0, 105.0));
        check_scale(Some((-1.0, 3.0)), RangeConfig { centered_zero: true, ..auto }, (-3.4, 3.4));
        check_scale(Some((0.2, 0.4)), RangeConfig { whole: true, ..auto }, (0.0, 1.0));
        check_scale(Some((3.0, 70.0)), RangeConfig { log: Some(10.0), ..auto }, (1.0, 100.0));
        check_scale(Some((5.0, 6.0)), RangeConfig { min: Some(10.0), ..auto }, (10.0, 11.0));
        check_scale(Some((0.0, 0.0)), RangeConfig { log: Some(2.0), ..auto }, (0.0625, 1.0));
        let symlog = RangeConfig { log: Some(10.0), linear: Some(1.0), ..auto };
        check_scale(Some((-30.0, 700.0)), symlog, (-100.0, 1000.0));
        check_scale(Some((0.0, 0.3)), symlog, (0.0, 1.0));
        check_scale(Some((5.0, 2000.0)), symlog, (0.0, 10_000.0));
    }

    #[track_caller]
    fn check_ticks(min: f64, max: f64, px: f64, binary: bool, whole: bool, expected: &[f64]) {
        let (ticks, _) = value_ticks(Scale { min, max, log: None, linear: None }, px, binary, whole);
        assert_eq!(ticks.len(), expected.len(), "{ticks:?}");
        assert!(ticks.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{ticks:?}");
    }

    #[test]
    fn ticks_are_round() {
        check_ticks(0.0, 1.0, 150.0, false, false, &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        check_ticks(45.0, 105.0, 200.0, false, false, &[50.0, 60.0, 70.0, 80.0, 90.0, 100.0]);
        check_ticks(0.0, 3e9, 150.0, true, false, &[0.0, 1073741824.0, 2147483648.0]);
        check_ticks(0.0, 2.0, 300.0, false, true, &[0.0, 1.0, 2.0]);
        check_ticks(-1.0, 1.0, 130.0, false, false, &[-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert_eq!(
            value_ticks(Scale { min: 1.0, max: 1000.0, log: Some(10.0), linear: None }, 200.0, false, false).0,
            [1.0, 10.0, 100.0, 1000.0]
        );
        let symmetric = Scale { min: -100.0, max: 1000.0, log: Some(10.0), linear: Some(1.0) };
        assert_eq!(value_ticks(symmetric, 400.0, false, false).0, [-100.0, -10.0, -1.0, 0.0, 1.0, 10.0, 100.0, 1000.0]);
        assert!((symmetric.position(0.0) - 0.41).abs() < 0.01, "{}", symmetric.position(0.0));
    }

    #[track_caller]
    fn check_times(from_ms: i64, length: i64, px: f64, zone: &str, first: &str, n: usize) {
        let ticks = time_ticks(from_ms, from_ms + length, px, &TimeZone::get(zone).unwrap());
        assert_eq!((ticks[0].1.as_str(), ticks.len()), (first, n), "{ticks:?}");
    }

    #[test]
    fn times_are_round_in_their_zone() {
        let t = 1_700_000_000_000; // 22:13:20 UTC
        check_times(t, HOUR, 600.0, "UTC", "22:15", 12);
        check_times(t, 5 * MINUTE, 600.0, "UTC", "22:14", 5);
        check_times(t, DAY, 600.0, "Asia/Kolkata", "04:00", 12);
        check_times(t, 7 * DAY, 600.0, "UTC", "11/15", 7);
        check_times(t, 90 * DAY, 600.0, "Europe/Berlin", "11/28", 6);
        check_times(t, 3 * 365 * DAY, 600.0, "UTC", "2024-01", 6);
    }
}
