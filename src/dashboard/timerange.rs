//! The time window of a page: relative expressions (`now-6h`, `now/d`), absolute times, query steps.
//!
//! # Source
//! The grammar of relative times and the rounding of steps are Grafana's.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Unit, ZonedRound};

/// A window as written and as evaluated; `from_ms <= to_ms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    /// As in the address or the dashboard.
    pub(crate) from: String,
    /// As in the address or the dashboard.
    pub(crate) to: String,
    /// Start, ms since the epoch.
    pub(crate) from_ms: i64,
    /// End, ms since the epoch.
    pub(crate) to_ms: i64,
}

/// The longest window that is drawn.
const WINDOW_MS_MAX: i64 = 20 * 366 * 86_400_000;

impl Window {
    /// Evaluates both ends at `now_ms`. What cannot be read becomes the last hour.
    pub(crate) fn new(from: &str, to: &str, now_ms: i64, tz: &TimeZone) -> Self {
        let ends = (evaluate(from, now_ms, tz, false), evaluate(to, now_ms, tz, true));
        match ends {
            (Some(from_ms), Some(to_ms)) if from_ms < to_ms && to_ms - from_ms <= WINDOW_MS_MAX => {
                Self { from: from.to_owned(), to: to.to_owned(), from_ms, to_ms }
            }
            _ => Self { from: "now-1h".to_owned(), to: "now".to_owned(), from_ms: now_ms - 3_600_000, to_ms: now_ms },
        }
    }

    /// Length in ms.
    pub(crate) fn length_ms(&self) -> i64 {
        self.to_ms - self.from_ms
    }

    /// Whether the end moves with the clock.
    pub(crate) fn is_live(&self) -> bool {
        self.to.starts_with("now")
    }

    /// The window in words.
    pub(crate) fn describe(&self, tz: &TimeZone) -> String {
        if let Some((_, _, text)) = QUICK_RANGES.iter().find(|(f, t, _)| *f == self.from && *t == self.to) {
            return (*text).to_owned();
        }
        if self.to == "now"
            && let Some(rest) = self.from.strip_prefix("now-")
            && rest.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            return format!("Last {rest}");
        }
        format!("{} to {}", local(self.from_ms, tz), local(self.to_ms, tz))
    }
}

/// Text of a time, `YYYY-MM-DD HH:mm:ss`.
pub(crate) fn local(ms: i64, tz: &TimeZone) -> String {
    super::units::Unit::find("dateTimeAsIso").format(ms as f64, None, tz)
}

/// From, to, text of the quick ranges.
pub(crate) const QUICK_RANGES: [(&str, &str, &str); 14] = [
    ("now-5m", "now", "Last 5 minutes"),
    ("now-15m", "now", "Last 15 minutes"),
    ("now-30m", "now", "Last 30 minutes"),
    ("now-1h", "now", "Last 1 hour"),
    ("now-3h", "now", "Last 3 hours"),
    ("now-6h", "now", "Last 6 hours"),
    ("now-12h", "now", "Last 12 hours"),
    ("now-24h", "now", "Last 24 hours"),
    ("now-2d", "now", "Last 2 days"),
    ("now-7d", "now", "Last 7 days"),
    ("now-30d", "now", "Last 30 days"),
    ("now-90d", "now", "Last 90 days"),
    ("now/d", "now/d", "Today"),
    ("now-1d/d", "now-1d/d", "Yesterday"),
];

/// Milliseconds since the epoch of `text` at `now_ms`; `end` rounds `/d` up.
pub(crate) fn evaluate(text: &str, now_ms: i64, tz: &TimeZone, end: bool) -> Option<i64> {
    let text = text.trim();
    if let Some(steps) = text.strip_prefix("now") {
        return relative(steps, now_ms, tz, end);
    }
    if !text.is_empty() && text.len() < 16 && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok();
    }
    if let Ok(t) = text.parse::<Timestamp>() {
        return Some(t.as_millisecond());
    }
    // `2024-01-02 03:04:05` and `2024-01-02`, in the page's zone.
    let civil = text.parse::<jiff::civil::DateTime>().ok()?;
    Some(civil.to_zoned(tz.clone()).ok()?.timestamp().as_millisecond())
}

/// Steps of a relative expression that are read at most.
const STEPS_MAX: usize = 16;

fn relative(steps: &str, now_ms: i64, tz: &TimeZone, end: bool) -> Option<i64> {
    let mut time = Timestamp::from_millisecond(now_ms).ok()?.to_zoned(tz.clone());
    let mut rest = steps;
    for _ in 0..STEPS_MAX {
        let Some(op) = rest.chars().next() else {
            return Some(time.timestamp().as_millisecond());
        };
        rest = &rest[op.len_utf8()..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let n: i64 = if digits == 0 { 1 } else { rest[..digits].parse().ok()? };
        rest = &rest[digits..];
        rest = rest.strip_prefix('f').unwrap_or(rest);
        let unit = rest.chars().next()?;
        rest = &rest[unit.len_utf8()..];
        time = match op {
            '+' => time.checked_add(span(n, unit)?).ok()?,
            '-' => time.checked_sub(span(n, unit)?).ok()?,
            '/' => round(time, unit, end)?,
            _ => return None,
        };
    }
    None
}

fn span(n: i64, unit: char) -> Option<Span> {
    let span = Span::new();
    match unit {
        's' => span.try_seconds(n),
        'm' => span.try_minutes(n),
        'h' => span.try_hours(n),
        'd' => span.try_days(n),
        'w' => span.try_weeks(n),
        'M' => span.try_months(n),
        'Q' => span.try_months(n.checked_mul(3)?),
        'y' => span.try_years(n),
        _ => return None,
    }
    .ok()
}

fn round(time: jiff::Zoned, unit: char, end: bool) -> Option<jiff::Zoned> {
    let floor = |unit: Unit| time.round(ZonedRound::new().smallest(unit).mode(jiff::RoundMode::Trunc)).ok();
    let day = || time.start_of_day().ok();
    let start = match unit {
        's' => floor(Unit::Second)?,
        'm' => floor(Unit::Minute)?,
        'h' => floor(Unit::Hour)?,
        'd' => day()?,
        'w' => {
            let back = i64::from(time.weekday().to_sunday_zero_offset());
            day()?.checked_sub(back.days()).ok()?
        }
        'M' => day()?.first_of_month().ok()?,
        'Q' => {
            let back = i64::from((time.month() - 1) % 3);
            day()?.first_of_month().ok()?.checked_sub(back.months()).ok()?
        }
        'y' => day()?.first_of_year().ok()?,
        _ => return None,
    };
    if !end {
        return Some(start);
    }
    start.checked_add(span(1, unit)?).ok()?.checked_sub(1.millisecond()).ok()
}

/// Upper end (exclusive) of a raw interval and the rounded one, ms.
const ROUNDING: [(i64, i64); 29] = [
    (10, 1),
    (15, 10),
    (35, 20),
    (75, 50),
    (150, 100),
    (350, 200),
    (750, 500),
    (1500, 1000),
    (3500, 2000),
    (7500, 5000),
    (12_500, 10_000),
    (17_500, 15_000),
    (25_000, 20_000),
    (45_000, 30_000),
    (90_000, 60_000),
    (210_000, 120_000),
    (450_000, 300_000),
    (750_000, 600_000),
    (1_050_000, 900_000),
    (1_500_000, 1_200_000),
    (2_700_000, 1_800_000),
    (5_400_000, 3_600_000),
    (9_000_000, 7_200_000),
    (16_200_000, 10_800_000),
    (32_400_000, 21_600_000),
    (86_400_000, 43_200_000),
    (604_800_000, 86_400_000),
    (1_814_400_000, 604_800_000),
    (3_628_800_000, 2_592_000_000),
];

/// Rounds a raw step to a readable one.
pub(crate) fn round_interval(ms: i64) -> i64 {
    ROUNDING.iter().find(|(below, _)| ms < *below).map_or(31_536_000_000, |(_, rounded)| *rounded)
}

/// Text of a span in the largest unit that divides it: `90s`, `2m`, `1h`.
pub(crate) fn interval_text(ms: i64) -> String {
    for (unit, length) in [("y", 31_536_000_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
        if ms >= length && ms % length == 0 {
            return format!("{}{unit}", ms / length);
        }
    }
    format!("{ms}ms")
}

/// Reads `30s`, `1m`, `1h30m`, `1d`, `2.5s` and `>10s`; `None` when it is none of these.
pub(crate) fn parse_interval(text: &str) -> Option<i64> {
    let text = text.trim().trim_start_matches('>').trim();
    if let Ok(d) = promontory_model::Duration::parse(text) {
        return (d.ms() > 0).then_some(d.ms());
    }
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let n: f64 = text[..split].parse().ok()?;
    let unit = match &text[split..] {
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 6e4,
        "h" => 3.6e6,
        "d" => 8.64e7,
        "w" => 6.048e8,
        "M" => 2.592e9,
        "y" => 3.1536e10,
        _ => return None,
    };
    let ms = (n * unit).round();
    (1.0..1e15).contains(&ms).then_some(ms as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::oracle;

    const NOW: i64 = 1_700_000_000_000; // 2023-11-14 22:13:20 UTC, a Tuesday

    #[track_caller]
    fn check(text: &str, end: bool, expected: &str) {
        let got = evaluate(text, NOW, &TimeZone::UTC, end).map_or("none".into(), |ms| local(ms, &TimeZone::UTC));
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn relative_and_absolute_times_evaluate() {
        check("now", false, "2023-11-14 22:13:20");
        check("now-6h", false, "2023-11-14 16:13:20");
        check("now/d", false, "2023-11-14 00:00:00");
        check("now/d", true, "2023-11-14 23:59:59");
        check("now-1d/d", false, "2023-11-13 00:00:00");
        check("now/w", false, "2023-11-12 00:00:00");
        check("now-1M/M", false, "2023-10-01 00:00:00");
        check("now/Q", false, "2023-10-01 00:00:00");
        check("now-1y/y", true, "2022-12-31 23:59:59");
        check("now/fy", false, "2023-01-01 00:00:00");
        check("1700000000000", false, "2023-11-14 22:13:20");
        check("2023-11-14T22:13:20.000Z", false, "2023-11-14 22:13:20");
        check("2023-11-14 10:00:00", false, "2023-11-14 10:00:00");
        check("2023-11-14", false, "2023-11-14 00:00:00");
        check("yesterday", false, "none");
        check("now-", false, "none");
        check("now*2h", false, "none");
    }

    #[test]
    fn unreadable_windows_become_the_last_hour() {
        for (from, to) in [("x", "now"), ("now", "now-1h"), ("0", "now")] {
            assert_eq!(Window::new(from, to, NOW, &TimeZone::UTC).length_ms(), 3_600_000, "{from} {to}");
        }
    }

    #[test]
    fn intervals_round_as_the_oracle_says() {
        let Some(text) = oracle::read("round_interval.tsv") else { return };
        for line in text.lines().skip(1) {
            let cells: Vec<&str> = line.split('\t').collect();
            let got = round_interval(cells[0].parse().unwrap());
            assert_eq!(got.to_string(), cells[1], "{line}");
            assert_eq!(interval_text(got), cells[2], "{line}");
        }
        eprintln!("intervals: {} compared, 0 differ", text.lines().skip(1).count());
    }

    #[test]
    fn intervals_read_and_print() {
        for (text, expected) in [
            ("30s", Some(30_000)),
            (">1m", Some(60_000)),
            ("1h30m", Some(5_400_000)),
            ("2.5s", Some(2500)),
            ("x", None),
            ("$a", None),
            ("0s", None),
        ] {
            assert_eq!(parse_interval(text), expected, "{text}");
        }
        assert_eq!(interval_text(90_000), "90s");
    }
}
