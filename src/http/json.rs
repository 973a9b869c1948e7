//! Numbers, times, texts and label sets as Prometheus' API writes them.
//!
//! Everything is appended to a buffer that the caller owns. Digits are the shortest that read back to the same value,
//! laid out as Go's `strconv.FormatFloat` does: clients compare these texts.

use promontory_model::{FloatHistogram, Labels};

use super::histogram;

/// Smallest magnitude written without exponent.
const PLAIN_MIN: f64 = 1e-6;
/// First magnitude written with exponent.
const PLAIN_END: f64 = 1e21;
/// Whole numbers below this are exact in both f64 and i64.
const EXACT_INTEGER_END: f64 = 9_007_199_254_740_992.0;
/// First magnitude whose millionths have more than 15 digits.
const MILLIONTHS_END: f64 = 1e9;

/// Appends `v` without quotes: `1.5`, `1e-07`, `+Inf`, `NaN`.
pub(crate) fn push_float(out: &mut Vec<u8>, v: f64) {
    push_float_as(out, v, (PLAIN_MIN..PLAIN_END).contains(&v.abs()));
}

/// [`push_float`] that never uses an exponent, which is how scalars are written.
fn push_plain_float(out: &mut Vec<u8>, v: f64) {
    push_float_as(out, v, true);
}

fn push_float_as(out: &mut Vec<u8>, v: f64, plain: bool) {
    if v.abs() < EXACT_INTEGER_END && (v as i64) as f64 == v {
        if v == 0.0 && v.is_sign_negative() {
            out.push(b'-');
        }
        out.extend_from_slice(itoa::Buffer::new().format(v as i64).as_bytes());
        return;
    }
    if plain && push_millionths(out, v) {
        return;
    }
    if !v.is_finite() {
        let text: &[u8] = match v {
            f64::INFINITY => b"+Inf",
            f64::NEG_INFINITY => b"-Inf",
            _ => b"NaN",
        };
        out.extend_from_slice(text);
        return;
    }
    push_shortest(out, v, plain);
}

/// Appends the fewest digits that tell the finite `v` from all others.
fn push_shortest(out: &mut Vec<u8>, v: f64, plain: bool) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(v);
    if plain && !text.contains('e') {
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
    } else {
        push_laid_out(out, text, plain);
    }
}

/// Appends `v` if it is a number of millionths, as most that are measured are; false if not. No two decimals of at most 15
/// digits are the same f64, so what is found here are the shortest digits, at less cost.
fn push_millionths(out: &mut Vec<u8>, v: f64) -> bool {
    let magnitude = v.abs();
    if !(0.0..MILLIONTHS_END).contains(&magnitude) {
        return false;
    }
    let millionths = (magnitude * 1e6 + 0.5) as u64;
    if millionths as f64 / 1e6 != magnitude {
        return false;
    }
    let (whole, fraction) = ((millionths / 1_000_000) as u32, (millionths % 1_000_000) as u32);
    let point = usize::from(v < 0.0) + whole.checked_ilog10().unwrap_or(0) as usize + 1;
    let mut text = [b'-'; COPY_BYTES];
    put_digits(&mut text[usize::from(v < 0.0)..point], whole);
    text[point] = b'.';
    put_digits(&mut text[point + 1..point + 7], fraction);
    let n_zeros = text[..point + 7].iter().rev().take_while(|digit| **digit == b'0').count();
    push_start_of(out, &text, point + 7 - n_zeros);
    true
}

/// Fills `out` with the last decimal digits of `n`.
fn put_digits(out: &mut [u8], mut n: u32) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
}

/// Bytes that [`push_start_of`] copies, whatever it keeps of them: a copy of a length that the compiler knows needs no
/// call.
pub(crate) const COPY_BYTES: usize = 24;

/// Appends the first `n` bytes of `text`.
pub(crate) fn push_start_of(out: &mut Vec<u8>, text: &[u8; COPY_BYTES], n: usize) {
    let len = out.len() + n;
    out.extend_from_slice(text);
    out.truncate(len);
}

/// Appends the digits of `text` (`-1.25e-9`) in plain or exponent form, whatever form they come in.
fn push_laid_out(out: &mut Vec<u8>, text: &str, plain: bool) {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if unsigned.len() < text.len() {
        out.push(b'-');
    }
    let (mantissa, exponent) = unsigned.split_once('e').unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let joined = [whole, fraction].concat();
    let leading = joined.len() - joined.trim_start_matches('0').len();
    let digits = joined.trim_matches('0').as_bytes();
    // The value is 0.digits times ten to the power of `point`.
    let point = exponent.parse::<i32>().unwrap_or(0) + whole.len() as i32 - leading as i32;
    if plain {
        push_plain(out, digits, point);
    } else {
        push_exponent(out, digits, point - 1);
    }
}

fn push_plain(out: &mut Vec<u8>, digits: &[u8], point: i32) {
    let n_whole = usize::try_from(point).unwrap_or(0);
    if n_whole == 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + point.unsigned_abs() as usize, b'0');
        out.extend_from_slice(digits);
    } else if n_whole >= digits.len() {
        out.extend_from_slice(digits);
        out.resize(out.len() + n_whole - digits.len(), b'0');
    } else {
        out.extend_from_slice(&digits[..n_whole]);
        out.push(b'.');
        out.extend_from_slice(&digits[n_whole..]);
    }
}

fn push_exponent(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    let (first, rest) = digits.split_at(digits.len().min(1));
    out.extend_from_slice(first);
    if !rest.is_empty() {
        out.push(b'.');
        out.extend_from_slice(rest);
    }
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    if exponent.abs() < 10 {
        out.push(b'0');
    }
    out.extend_from_slice(itoa::Buffer::new().format(exponent.unsigned_abs()).as_bytes());
}

/// Appends milliseconds as seconds with three decimals, or none when they are zero.
pub(crate) fn push_time(out: &mut Vec<u8>, ms: i64) {
    if ms < 0 {
        out.push(b'-');
    }
    let ms = ms.unsigned_abs();
    out.extend_from_slice(itoa::Buffer::new().format(ms / 1000).as_bytes());
    let rest = ms % 1000;
    if rest > 0 {
        let digit = |n: u64| b'0' + (n % 10) as u8;
        out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
    }
}

/// Appends `[1.5,"2"]`.
pub(crate) fn push_sample(out: &mut Vec<u8>, ms: i64, v: f64) {
    push_sample_start(out, ms);
    push_sample_end(out, v);
}

/// Appends `[1.5,"`.
pub(crate) fn push_sample_start(out: &mut Vec<u8>, ms: i64) {
    out.push(b'[');
    push_time(out, ms);
    out.extend_from_slice(b",\"");
}

/// Appends `2"]`.
pub(crate) fn push_sample_end(out: &mut Vec<u8>, v: f64) {
    push_float(out, v);
    out.extend_from_slice(b"\"]");
}

/// Appends `[1.5,"2"]` for a scalar.
pub(crate) fn push_scalar(out: &mut Vec<u8>, ms: i64, v: f64) {
    out.push(b'[');
    push_time(out, ms);
    out.extend_from_slice(b",\"");
    push_plain_float(out, v);
    out.extend_from_slice(b"\"]");
}

/// Appends `[1.5,{"count":"2",…}]`.
pub(crate) fn push_histogram_sample(out: &mut Vec<u8>, ms: i64, h: &FloatHistogram) {
    out.push(b'[');
    push_time(out, ms);
    out.extend_from_slice(b",{\"count\":");
    push_quoted_float(out, h.count);
    out.extend_from_slice(b",\"sum\":");
    push_quoted_float(out, h.sum);
    let mut separator: &[u8] = b",\"buckets\":[";
    for bucket in histogram::buckets(h).filter(|b| b.count != 0.0) {
        out.extend_from_slice(separator);
        separator = b",";
        out.extend_from_slice(&[b'[', b'0' + bucket.bounds as u8, b',']);
        push_quoted_float(out, bucket.lower);
        out.push(b',');
        push_quoted_float(out, bucket.upper);
        out.push(b',');
        push_quoted_float(out, bucket.count);
        out.push(b']');
    }
    if separator == b"," {
        out.push(b']');
    }
    out.extend_from_slice(b"}]");
}

fn push_quoted_float(out: &mut Vec<u8>, v: f64) {
    out.push(b'"');
    push_float(out, v);
    out.push(b'"');
}

/// Appends `text` in quotes.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let mut plain_from = 0;
    let bytes = text.as_bytes();
    for (i, &b) in bytes.iter().enumerate() {
        if b >= 0x20 && b != b'"' && b != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain_from..i]);
        plain_from = i + 1;
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
            }
        }
    }
    out.extend_from_slice(&bytes[plain_from..]);
    out.push(b'"');
}

/// Appends `,"name":`, after which the value of a further member comes.
pub(crate) fn push_next_name(out: &mut Vec<u8>, name: &str) {
    out.push(b',');
    push_string(out, name);
    out.push(b':');
}

/// Appends a list of texts.
pub(crate) fn push_strings<S: AsRef<str>>(out: &mut Vec<u8>, texts: &[S]) {
    out.push(b'[');
    for (i, text) in texts.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_string(out, text.as_ref());
    }
    out.push(b']');
}

/// Appends `{"name":"value",…}`.
pub(crate) fn push_labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_string(out, name);
        out.push(b':');
        push_string(out, value);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use promontory_model::histogram::Span;
    use proptest::prelude::*;

    use super::*;

    fn show(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn check(v: f64, expected: &str) {
        assert_eq!(show(|out| push_float(out, v)), expected);
    }

    #[test]
    fn floats_are_laid_out_as_go_does() {
        check(0.0, "0");
        check(-0.0, "-0");
        check(1.0, "1");
        check(-123456789.0, "-123456789");
        check(1.5, "1.5");
        check(0.1 + 0.2, "0.30000000000000004");
        check(1e-6, "0.000001");
        check(1.25e-6, "0.00000125");
        check(9.99e-7, "9.99e-07");
        check(-1e-9, "-1e-09");
        check(5e-324, "5e-324");
        check(1e16, "10000000000000000");
        check(123456789012345680.0, "123456789012345680");
        check(1e20, "100000000000000000000");
        check(999999999999999900000.0, "999999999999999900000");
        check(1e21, "1e+21");
        check(1.5e300, "1.5e+300");
        check(f64::MAX, "1.7976931348623157e+308");
        check(f64::INFINITY, "+Inf");
        check(f64::NEG_INFINITY, "-Inf");
        check(f64::NAN, "NaN");
        // 1658206780088562.25, half-way between two decimals: Go rounds the last digit to even.
        check(f64::from_bits(0x4317_9085_685d_83c9), "1658206780088562.2");
    }

    #[test]
    fn scalars_have_no_exponent() {
        for (v, expected) in [
            (1e-7, "0.0000001"),
            (-1.5e21, "-1500000000000000000000"),
            (5e-324, &format!("0.{}5", "0".repeat(323))),
            (f64::INFINITY, "+Inf"),
            (2.5, "2.5"),
        ] {
            assert_eq!(show(|out| push_plain_float(out, v)), expected);
        }
    }

    #[test]
    fn times_have_three_decimals_or_none() {
        for (ms, expected) in [(0, "0"), (1000, "1"), (1050, "1.050"), (7, "0.007"), (-1500, "-1.500")] {
            assert_eq!(show(|out| push_time(out, ms)), expected);
        }
        assert_eq!(show(|out| push_time(out, i64::MIN)), "-9223372036854775.808");
    }

    #[test]
    fn texts_are_escaped() {
        assert_eq!(show(|out| push_string(out, "a\"b\\c\n\u{1}é<&>")), "\"a\\\"b\\\\c\\n\\u0001é<&>\"");
        let labels = Labels::from_pairs([("b", "2"), ("a", "\"")]);
        assert_eq!(show(|out| push_labels(out, &labels)), r#"{"a":"\"","b":"2"}"#);
        assert_eq!(show(|out| push_strings(out, &["a", "b"])), r#"["a","b"]"#);
    }

    #[test]
    fn histograms_name_their_buckets() {
        let h = FloatHistogram {
            count: 10.0,
            sum: 3.5,
            zero_threshold: 0.5,
            zero_count: 2.0,
            positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
            positive_buckets: vec![1.0, 0.0, 3.0],
            negative_spans: vec![Span { offset: 1, length: 1 }],
            negative_buckets: vec![4.0],
            ..FloatHistogram::default()
        };
        assert_eq!(
            show(|out| push_histogram_sample(out, 1500, &h)),
            r#"[1.500,{"count":"10","sum":"3.5","buckets":[[1,"-2","-1","4"],[3,"-0.5","0.5","2"],[0,"0.5","1","1"],[0,"4","8","3"]]}]"#
        );
        let empty = FloatHistogram::default();
        assert_eq!(show(|out| push_histogram_sample(out, 0, &empty)), r#"[0,{"count":"0","sum":"0"}]"#);
    }

    proptest! {
        #[test]
        fn floats_read_back(bits in any::<u64>()) {
            let v = f64::from_bits(bits);
            let text = show(|out| push_float(out, v));
            if v.is_finite() {
                prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits);
            }
        }

        #[test]
        fn decimals_have_their_shortest_digits(digits in -1_000_000_000_000_000_i64..1_000_000_000_000_000, places in 0..12_i32, near in 0..3_u64) {
            // Beside a decimal lie numbers that need all their digits.
            let v = f64::from_bits((digits as f64 / 10_f64.powi(places)).to_bits() + near);
            prop_assume!((PLAIN_MIN..PLAIN_END).contains(&v.abs()));
            prop_assert_eq!(show(|out| push_float(out, v)), show(|out| push_shortest(out, v, true)));
        }

        #[test]
        fn texts_read_back(text in "\\PC*|[\\x00-\\x7f]*") {
            let json = show(|out| push_string(out, &text));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
