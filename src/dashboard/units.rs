//! Numbers with units as text: `1.50 K`, `88.0 KiB`, `250 ms`, `1 day`.
//!
//! Most units are a *ladder*: a value takes the rung with the largest `from` not above its absolute value, is
//! divided by the rung's `scale` and gets its suffix. A ladder is plain data, so that the page's script formats
//! with the same numbers. What is no ladder (clock times, dates, words) is formatted here only.
//!
//! # Source
//! The ids and results are those of Grafana's value formats; an unknown id is a plain suffix, as there.

mod special;
mod table;

use jiff::tz::TimeZone;

pub(crate) use special::{Special, moment};

/// A way to write numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Unit {
    Ladder(Ladder),
    Special(Special),
}

/// Scaled steps with suffixes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ladder {
    /// Written before the number.
    pub(crate) prefix: String,
    /// Whether the minus sign stands before the prefix (`-$1`).
    pub(crate) sign_first: bool,
    /// Ascending by `from`; the first is from 0.
    pub(crate) rungs: Vec<Rung>,
    /// The rung of 0.
    pub(crate) zero: usize,
    /// Whether 0 ignores decimals (`0 s`).
    pub(crate) bare_zero: bool,
    /// Ticks on axes at powers of two.
    pub(crate) binary: bool,
}

/// One step of a [`Ladder`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rung {
    /// Smallest absolute value of this rung.
    pub(crate) from: f64,
    /// Values are divided by this.
    pub(crate) scale: f64,
    /// Suffix.
    pub(crate) one: String,
    /// Suffix when the scaled value is beyond ±1.
    pub(crate) many: String,
}

impl Unit {
    /// The unit of this id; never fails.
    pub(crate) fn find(id: &str) -> Self {
        table::find(id)
    }

    /// The text of `v`. `decimals` as configured; `None` gives three significant digits.
    pub(crate) fn format(&self, v: f64, decimals: Option<i32>, tz: &TimeZone) -> String {
        match self {
            Self::Ladder(ladder) => ladder.format(v, decimals),
            Self::Special(special) => special.format(v, decimals, tz),
        }
    }

    /// The text of a tick: the decimals of the step, then without trailing zeros.
    pub(crate) fn format_tick(&self, v: f64, step: f64, tz: &TimeZone) -> String {
        match self {
            Self::Ladder(ladder) => ladder.format_tick(v, step),
            Self::Special(special) => special.format(v, None, tz),
        }
    }

    /// Whether axes tick at powers of two.
    pub(crate) fn is_binary(&self) -> bool {
        matches!(self, Self::Ladder(l) if l.binary)
    }
}

impl Ladder {
    fn rung(&self, v: f64) -> &Rung {
        if v == 0.0 {
            return &self.rungs[self.zero];
        }
        let abs = v.abs();
        self.rungs.iter().rev().find(|r| abs >= r.from).unwrap_or(&self.rungs[0])
    }

    fn format(&self, v: f64, decimals: Option<i32>) -> String {
        if v.is_nan() {
            return "NaN".to_owned();
        }
        if v.is_infinite() {
            return if v > 0.0 { "∞" } else { "-∞" }.to_owned();
        }
        let rung = self.rung(v);
        let scaled = v / rung.scale;
        let decimals = if self.bare_zero && v == 0.0 { Some(0) } else { decimals };
        if self.sign_first && v < 0.0 {
            // The size is rounded, then comes the sign: half a dollar of debt is one.
            return format!("-{}", self.assemble(-scaled, to_fixed(-scaled, decimals), rung));
        }
        self.assemble(scaled, to_fixed(scaled, decimals), rung)
    }

    fn format_tick(&self, v: f64, step: f64) -> String {
        if !v.is_finite() {
            return self.format(v, None);
        }
        let rung = self.rung(v);
        let scaled = v / rung.scale;
        // The decimals of the step tell neighbours apart; float noise beyond them is cut. Ticks of a logarithmic
        // axis have no step but their own size, of which three digits are enough.
        let need = if step > 0.0 || scaled == 0.0 {
            decimals_of_step(step / rung.scale)
        } else {
            decimals_of_step(scaled.abs()).min(2 - scaled.abs().log10().floor().clamp(-9.0, 2.0) as i32)
        };
        self.assemble(scaled, trim_zeros(to_fixed(scaled, Some(need))), rung)
    }

    fn assemble(&self, scaled: f64, number: String, rung: &Rung) -> String {
        let suffix = if scaled.abs() > 1.0 { &rung.many } else { &rung.one };
        match number.strip_prefix('-') {
            Some(abs) if self.sign_first => format!("-{}{abs}{suffix}", self.prefix),
            _ => format!("{}{number}{suffix}", self.prefix),
        }
    }
}

/// Decimals that a multiple of `step` needs, at most 9.
fn decimals_of_step(step: f64) -> i32 {
    if step <= 0.0 || !step.is_finite() {
        return 0;
    }
    let mut scale = 1.0;
    for d in 0..9 {
        let x = step * scale;
        if (x - x.round()).abs() < 1e-6 * x.max(1.0) {
            return d;
        }
        scale *= 10.0;
    }
    9
}

fn trim_zeros(text: String) -> String {
    if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Decimals that show three significant digits; none for whole numbers.
fn auto_decimals(v: f64) -> i32 {
    if v == 0.0 || v.fract() == 0.0 {
        return 0;
    }
    (2 - v.abs().log10().floor() as i32).max(0)
}

/// A number with fixed decimals, rounded half up, as JavaScript code does it.
pub(crate) fn to_fixed(v: f64, decimals: Option<i32>) -> String {
    let decimals = decimals.unwrap_or_else(|| auto_decimals(v)).clamp(0, 20);
    if v == 0.0 {
        return format!("{:.*}", usize::try_from(decimals).unwrap_or(0), 0.0);
    }
    let factor = 10f64.powi(decimals);
    let rounded = (v * factor + 0.5).floor() / factor;
    let rounded = if rounded.is_finite() { rounded } else { v };
    let mut text = js_number(rounded);
    if text.contains('e') || decimals == 0 {
        return text;
    }
    let have = text.find('.').map_or(0, |dot| text.len() - dot - 1);
    let want = usize::try_from(decimals).unwrap_or(0);
    if have == 0 && want > 0 {
        text.push('.');
    }
    for _ in have..want {
        text.push('0');
    }
    text
}

/// The shortest text of a number, in JavaScript's notation.
pub(crate) fn js_number(v: f64) -> String {
    if v == 0.0 {
        return "0".to_owned();
    }
    if v.is_nan() {
        return "NaN".to_owned();
    }
    if v.is_infinite() {
        return if v > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let abs = v.abs();
    if (1e-6..1e21).contains(&abs) {
        return format!("{v}");
    }
    let text = format!("{v:e}");
    if text.contains("e-") { text } else { text.replace('e', "e+") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::oracle;

    #[track_caller]
    fn check(id: &str, v: f64, decimals: Option<i32>, expected: &str) {
        assert_eq!(Unit::find(id).format(v, decimals, &TimeZone::UTC), expected, "{id} {v} {decimals:?}");
    }

    #[test]
    fn numbers_have_three_digits_and_their_unit() {
        check("short", 1500.0, None, "1.50 K");
        check("s", 0.25, None, "250 ms");
        check("bytes", 90_061.0, None, "88.0 KiB");
        check("percentunit", 0.123_456, None, "12.3%");
        check("tokens/s", 12.0, None, "12 tokens/s");
        check("none", f64::NAN, None, "NaN");
        check("none", 0.000_001_5, None, "0.00000150");
        check("none", -0.5, Some(0), "0");
    }

    #[test]
    fn every_unit_agrees_with_the_oracle() {
        let Some(text) = oracle::read("units.tsv") else { return };
        let (mut n, mut wrong) = (0, Vec::new());
        for line in text.lines().skip(1) {
            let mut cells = line.split('\t');
            let (Some(id), Some(value), Some(decimals), Some(expected)) =
                (cells.next(), cells.next(), cells.next(), cells.next())
            else {
                continue;
            };
            let v: f64 = value.parse().unwrap();
            // Where Grafana pads NaN with zeros ("NaN.00 year") and counts years without end, there is the bare word.
            if !v.is_finite() {
                continue;
            }
            n += 1;
            let got = Unit::find(id).format(v, decimals.parse().ok(), &TimeZone::UTC);
            if got != expected {
                wrong.push(format!("{id} {value} {decimals}: got {got:?}, expected {expected:?}"));
            }
        }
        eprintln!("units: {n} compared, {} differ", wrong.len());
        for line in wrong.iter().take(40) {
            eprintln!("  {line}");
        }
        // What is left are the last digits of numbers beyond 2^53, clocks and dates beyond the year 9999.
        assert!(wrong.len() * 1_000 <= n, "{} of {n} differ", wrong.len());
    }

    #[test]
    fn ticks_of_logarithmic_axes_show_their_decimals() {
        for (v, unit, expected) in
            [(0.5, "short", "0.5"), (0.001, "short", "0.001"), (1000.0, "short", "1 K"), (0.0625, "none", "0.0625")]
        {
            assert_eq!(Unit::find(unit).format_tick(v, 0.0, &TimeZone::UTC), expected, "{v} {unit}");
        }
    }

    #[test]
    fn ticks_drop_trailing_zeros() {
        let Some(text) = oracle::read("axis_ticks.txt") else { return };
        let mut n = 0;
        for line in text.lines() {
            let (head, texts) = line.split_once(" → ").unwrap();
            let words: Vec<&str> = head.split(' ').collect();
            let step: f64 = words[2].parse().unwrap();
            for (i, expected) in texts.split(", ").enumerate() {
                let got = Unit::find(words[0]).format_tick(step * i as f64, step, &TimeZone::UTC);
                // Grafana keeps "1.50 K" beside "1 K" when the step has no decimals; we drop that zero as well.
                assert_eq!(got, expected.replace("1.50 K", "1.5 K"), "{line}");
                n += 1;
            }
        }
        eprintln!("ticks: {n} compared, 0 differ");
    }
}
