//! Units that are no ladder: booleans, clock times, durations in words, dates, other number systems.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{js_number, to_fixed};

/// A unit with a form of its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Special {
    Text,
    Bool(&'static str, &'static str),
    Locale,
    Sci,
    Hex(&'static str),
    /// `1 day, 2 hours`; the factor brings a value to seconds.
    Words(f64),
    /// `25:01:01`.
    Hms,
    /// `1 d 01:01:01`.
    DayHms,
    /// `20m:34s:567ms`; the factor brings a value to ms.
    Clock(f64),
    /// Milliseconds since the epoch, written with moment.js tokens.
    Moment(String),
}

const ISO: &str = "YYYY-MM-DD HH:mm:ss";
const US: &str = "MM/DD/YYYY h:mm:ss a";

impl Special {
    pub(super) fn find(id: &str) -> Option<Self> {
        Some(match id {
            "string" => Self::Text,
            "bool" => Self::Bool("True", "False"),
            "bool_yes_no" => Self::Bool("Yes", "No"),
            "bool_on_off" => Self::Bool("On", "Off"),
            "locale" => Self::Locale,
            "sci" => Self::Sci,
            "hex" => Self::Hex(""),
            "hex0x" => Self::Hex("0x"),
            "dtdurations" => Self::Words(1.0),
            "dtdurationms" => Self::Words(0.001),
            "dthms" => Self::Hms,
            "dtdhms" => Self::DayHms,
            "clocks" => Self::Clock(1000.0),
            "clockms" => Self::Clock(1.0),
            "dateTimeAsUS" | "dateTimeAsUSNoDateIfToday" => Self::Moment(US.to_owned()),
            "dateTimeAsIso"
            | "dateTimeAsIsoNoDateIfToday"
            | "dateTimeAsLocal"
            | "dateTimeAsLocalNoDateIfToday"
            | "dateTimeAsSystem"
            | "dateTimeFromNow" => Self::Moment(ISO.to_owned()),
            _ => return None,
        })
    }

    pub(super) fn format(&self, v: f64, decimals: Option<i32>, tz: &TimeZone) -> String {
        if !v.is_finite() {
            return if v.is_nan() {
                "NaN"
            } else if v > 0.0 {
                "∞"
            } else {
                "-∞"
            }
            .to_owned();
        }
        match self {
            Self::Text => js_number(v),
            Self::Bool(yes, no) => (if v == 0.0 { no } else { yes }).to_string(),
            Self::Locale => locale(v, decimals),
            Self::Sci => sci(v, decimals),
            Self::Hex(prefix) => hex(v, decimals, prefix),
            Self::Words(factor) if v == 0.0 && *factor < 1.0 => "0 milliseconds".to_owned(),
            Self::Words(factor) => words(v * factor, decimals),
            Self::Hms => ago(v, |s| clock_of(s, false)),
            Self::DayHms => ago(v, |s| clock_of(s, true)),
            Self::Clock(factor) => clock(v * factor, decimals),
            Self::Moment(format) => moment(v, format, tz),
        }
    }
}

fn locale(v: f64, decimals: Option<i32>) -> String {
    let max = usize::try_from(decimals.unwrap_or(3).clamp(0, 20)).unwrap_or(3);
    let factor = 10f64.powi(i32::try_from(max).unwrap_or(3));
    // Half away from zero, as en-US number formatting rounds.
    let rounded = (v.abs() * factor).round() / factor;
    let rounded = if rounded.is_finite() { rounded } else { v.abs() };
    let text = format!("{rounded:.max$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    let mut out = String::new();
    if v < 0.0 && rounded != 0.0 {
        out.push('-');
    }
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

fn sci(v: f64, decimals: Option<i32>) -> String {
    let text = match decimals {
        Some(d) => {
            let d = usize::try_from(d.clamp(0, 20)).unwrap_or(0);
            // What lies in the middle goes away from zero, as in JavaScript; `format!` would go to the even digit.
            let exact = format!("{v:.60e}");
            let tail = exact.split('e').next().and_then(|m| m.split_once('.')).map_or("", |(_, f)| &f[d..]);
            let is_middle = tail.strip_prefix('5').is_some_and(|rest| rest.bytes().all(|b| b == b'0'));
            let beyond = if v > 0.0 { v.next_up() } else { v.next_down() };
            format!("{:.d$e}", if is_middle { beyond } else { v })
        }
        None => format!("{v:e}"),
    };
    if text.contains("e-") { text } else { text.replace('e', "e+") }
}

/// Digits behind the point; those of all but the tiniest numbers.
const HEX_DIGITS_MAX: usize = 64;

fn hex(v: f64, decimals: Option<i32>, prefix: &str) -> String {
    let text = to_fixed(v, decimals);
    let Ok(v) = text.parse::<f64>() else { return text };
    let mut whole = v.abs().trunc();
    let mut digits = Vec::new();
    while whole >= 1.0 && digits.len() < 64 {
        digits.push(char::from_digit((whole % 16.0) as u32, 16).unwrap_or('0'));
        whole = (whole / 16.0).trunc();
    }
    if digits.is_empty() {
        digits.push('0');
    }
    let mut out = String::new();
    if v < 0.0 {
        out.push('-');
    }
    out.push_str(prefix);
    out.extend(digits.iter().rev().map(char::to_ascii_uppercase));
    let mut fraction = v.abs().fract();
    if fraction > 0.0 {
        out.push('.');
        // Binary fractions end: 52 digits of the number, shifted by at most 30 places of four bits.
        for _ in 0..HEX_DIGITS_MAX {
            fraction *= 16.0;
            out.push(char::from_digit(fraction.trunc() as u32, 16).unwrap_or('0').to_ascii_uppercase());
            fraction = fraction.fract();
            if fraction == 0.0 {
                break;
            }
        }
    }
    out
}

const WORDS: [(&str, f64); 8] = [
    ("year", 31_536_000.0),
    ("month", 2_592_000.0),
    ("week", 604_800.0),
    ("day", 86_400.0),
    ("hour", 3600.0),
    ("minute", 60.0),
    ("second", 1.0),
    ("millisecond", 0.001),
];

fn words(seconds: f64, decimals: Option<i32>) -> String {
    if seconds == 0.0 {
        return "0 seconds".to_owned();
    }
    if seconds < 0.0 {
        return format!("{} ago", words(-seconds, decimals));
    }
    let mut parts_left = decimals.unwrap_or(0).max(0) + 1;
    let mut ms = seconds * 1000.0;
    let mut parts: Vec<String> = Vec::new();
    for (name, length) in WORDS {
        let length_ms = length * 1000.0;
        let n = (ms / length_ms).floor();
        if (n > 0.0 || !parts.is_empty()) && parts_left > 0 {
            parts.push(format!("{} {name}{}", js_number(n), if n == 1.0 { "" } else { "s" }));
            parts_left -= 1;
        }
        ms -= n * length_ms;
    }
    parts.join(", ")
}

fn ago(v: f64, form: impl Fn(f64) -> String) -> String {
    if v < 0.0 { format!("{} ago", form(-v)) } else { form(v) }
}

fn clock_of(seconds: f64, with_days: bool) -> String {
    let mut hours = (seconds / 3600.0).floor();
    let minutes = (seconds % 3600.0 / 60.0).floor();
    let rest = (seconds % 60.0).floor();
    let mut out = String::new();
    if with_days && hours >= 24.0 {
        out = format!("{} d ", js_number((hours / 24.0).floor()));
        hours %= 24.0;
    }
    out.push_str(&format!("{hours:02}:{minutes:02}:{rest:02}"));
    out
}

fn clock(ms: f64, decimals: Option<i32>) -> String {
    let (s, m, h) = (1000.0, 60_000.0, 3_600_000.0);
    let part = |n: f64, unit: &str| format!("{n:02}{unit}");
    let millis = ms.trunc().rem_euclid(1000.0).abs();
    if ms < s {
        return format!("{millis:03}ms");
    }
    let mut parts = Vec::new();
    if ms >= h {
        parts.push(format!("{}h", js_number((ms / h).floor())));
        if decimals != Some(0) {
            parts.push(part((ms % h / m).floor(), "m"));
        }
    } else if ms >= m {
        parts.push(part((ms / m).floor(), "m"));
    }
    if decimals != Some(0) || ms < m {
        parts.push(part((ms % m / s).floor(), "s"));
    }
    // With hours and limited decimals Grafana stops at the seconds.
    if decimals.is_none() || (decimals != Some(0) && ms < h) {
        parts.push(format!("{millis:03}ms"));
    }
    parts.join(":")
}

/// Writes ms since the epoch with moment.js tokens.
pub(crate) fn moment(ms: f64, format: &str, tz: &TimeZone) -> String {
    let time = if ms.abs() < 8e15 { Timestamp::from_millisecond(ms.trunc() as i64).ok() } else { None };
    let Some(time) = time else { return "Invalid date".to_owned() };
    let z = time.to_zoned(tz.clone());
    let hour12 = if z.hour() % 12 == 0 { 12 } else { z.hour() % 12 };
    let tokens: [(&str, String); 23] = [
        ("YYYY", format!("{:04}", z.year())),
        ("YY", format!("{:02}", z.year().rem_euclid(100))),
        ("MMMM", z.strftime("%B").to_string()),
        ("MMM", z.strftime("%b").to_string()),
        ("MM", format!("{:02}", z.month())),
        ("M", z.month().to_string()),
        ("DD", format!("{:02}", z.day())),
        ("D", z.day().to_string()),
        ("dddd", z.strftime("%A").to_string()),
        ("ddd", z.strftime("%a").to_string()),
        ("HH", format!("{:02}", z.hour())),
        ("H", z.hour().to_string()),
        ("hh", format!("{hour12:02}")),
        ("h", hour12.to_string()),
        ("mm", format!("{:02}", z.minute())),
        ("m", z.minute().to_string()),
        ("ss", format!("{:02}", z.second())),
        ("s", z.second().to_string()),
        ("SSS", format!("{:03}", z.millisecond())),
        ("A", (if z.hour() < 12 { "AM" } else { "PM" }).to_owned()),
        ("a", (if z.hour() < 12 { "am" } else { "pm" }).to_owned()),
        ("X", time.as_second().to_string()),
        ("Z", z.strftime("%:z").to_string()),
    ];
    let mut out = String::new();
    let mut rest = format;
    while let Some(first) = rest.chars().next() {
        if first == '['
            && let Some(end) = rest.find(']')
        {
            out.push_str(&rest[1..end]);
            rest = &rest[end + 1..];
        } else if let Some((token, text)) = tokens.iter().find(|(t, _)| rest.starts_with(t)) {
            out.push_str(text);
            rest = &rest[token.len()..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}
