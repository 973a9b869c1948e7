//! Numbers of expositions: exactly rounded, as Go's `strconv.ParseFloat` reads them.

use promontory_model::sample::NORMAL_NAN_BITS;

use super::Fault;

/// Powers of ten that an `f64` holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];
/// Whole numbers up to here are exact.
const MANTISSA_MAX: u64 = 1 << 53;

/// Reads a value. Hexadecimal floats and underscores are refused, NaNs come out canonical.
pub(super) fn parse_float(bytes: &[u8]) -> Result<f64, Fault> {
    match parse_start(bytes) {
        Some((value, len)) if len == bytes.len() => Ok(value),
        _ => parse_any(bytes),
    }
}

/// The number that `bytes` begin with, and its length, if it is a plain decimal whose digits fit 53 bits and whose
/// power of ten is exact: then one multiplication or division rounds correctly (Clinger 1990). That is nearly every
/// value that exporters write.
pub(super) fn parse_start(bytes: &[u8]) -> Option<(f64, usize)> {
    let sign = usize::from(matches!(bytes.first()?, b'-' | b'+'));
    let mut mantissa = 0u64;
    let mut i = digits(bytes, sign, &mut mantissa);
    let mut n_digits = i - sign;
    let mut exponent = 0i32;
    if bytes.get(i) == Some(&b'.') {
        let end = digits(bytes, i + 1, &mut mantissa);
        let n_fraction = end - (i + 1);
        n_digits += n_fraction;
        // At most 18 digits pass below, so the cast cannot lose anything that is used.
        exponent = -(n_fraction as i32);
        i = end;
    }
    // 18 digits cannot wrap around 64 bits.
    if n_digits == 0 || n_digits > 18 || mantissa > MANTISSA_MAX {
        return None;
    }
    if matches!(bytes.get(i), Some(b'e' | b'E')) {
        let exponent_sign = usize::from(matches!(bytes.get(i + 1)?, b'-' | b'+'));
        let start = i + 1 + exponent_sign;
        let mut power = 0;
        let end = digits(bytes, start, &mut power);
        if end == start || end - start > 3 {
            return None;
        }
        // Three digits.
        let power = power as i32;
        exponent += if bytes[i + 1] == b'-' { -power } else { power };
        i = end;
    }
    let mut value = mantissa as f64;
    if exponent != 0 {
        let power = EXACT_POWERS.get(usize::try_from(exponent.unsigned_abs()).ok()?)?;
        value = if exponent < 0 { value / power } else { value * power };
    }
    Some((if bytes[0] == b'-' { -value } else { value }, i))
}

/// Appends the decimal digits from `at` on to `number`, wrapping, and says where they end.
fn digits(bytes: &[u8], mut at: usize, number: &mut u64) -> usize {
    while let Some(digit) = bytes.get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
        *number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    at
}

fn parse_any(bytes: &[u8]) -> Result<f64, Fault> {
    let lossy = || String::from_utf8_lossy(bytes).into_owned();
    if bytes.iter().any(|b| matches!(b, b'p' | b'P' | b'_')) {
        return Err(Fault::FloatCharacter);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Fault::FloatSyntax(lossy()))?;
    let value: f64 = text.parse().map_err(|_| Fault::FloatSyntax(lossy()))?;
    let signed = matches!(bytes.first(), Some(b'+' | b'-'));
    if value.is_nan() {
        // Go knows no signed NaN.
        return if signed { Err(Fault::FloatSyntax(lossy())) } else { Ok(f64::from_bits(NORMAL_NAN_BITS)) };
    }
    if value.is_infinite() && bytes.iter().any(u8::is_ascii_digit) {
        return Err(Fault::FloatRange(lossy()));
    }
    Ok(value)
}

/// A number as OpenMetrics writes bucket bounds and quantiles: always with a point or an exponent.
///
/// # Source
/// Go's `%g` with the shortest digits (exponent form below 1e-4 and from 1e6 on), `.0` added to whole numbers.
pub(crate) fn format_openmetrics_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 {
        return "0.0".to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = match parse_float(text.as_bytes()) {
            Ok(v) => format!("{v:?}"),
            Err(fault) => fault.to_string(),
        };
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn numbers_read_as_go_reads_them() {
        check("0", "0.0");
        check("-0", "-0.0");
        check("1e3", "1000.0");
        check(".5", "0.5");
        check("1.", "1.0");
        check("+Inf", "inf");
        check("-infinity", "-inf");
        check("nan", "NaN");
        check("1.7560473e+07", "17560473.0");
        check("9007199254740993", "9007199254740992.0");
        check("0000000000000000000000000000000000000000001.2e-1", "0.12");
        check("1e-400", "0.0");
        check("1e400", "strconv.ParseFloat: parsing \"1e400\": value out of range");
        check("-nan", "strconv.ParseFloat: parsing \"-nan\": invalid syntax");
        check("0x1F", "strconv.ParseFloat: parsing \"0x1F\": invalid syntax");
        check("0x1p-3", "unsupported character in float");
        check("1_000", "unsupported character in float");
        check("", "strconv.ParseFloat: parsing \"\": invalid syntax");
        check("1e", "strconv.ParseFloat: parsing \"1e\": invalid syntax");
        check("1\r", "strconv.ParseFloat: parsing \"1\\r\": invalid syntax");
    }

    #[test]
    fn bounds_are_written_as_openmetrics_writes_them() {
        let cases = [
            (1.0, "1.0"),
            (0.005, "0.005"),
            (1e6, "1e+06"),
            (123_456.0, "123456.0"),
            (1_234_567.0, "1.234567e+06"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5, "-2.5"),
            (f64::INFINITY, "+Inf"),
            (1e100, "1e+100"),
            (-0.0, "0.0"),
        ];
        for (value, expected) in cases {
            assert_eq!(format_openmetrics_float(value), expected);
        }
    }

    proptest! {
        #[test]
        fn short_numbers_equal_the_standard_library(text in "[+-]?[0-9]{0,20}(\\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?") {
            if let Some((fast, len)) = parse_start(text.as_bytes()) {
                prop_assert_eq!(Ok(fast.to_bits()), text[..len].parse().map(f64::to_bits));
            }
        }

        #[test]
        fn any_float_reads_back(bits: u64) {
            let v = f64::from_bits(bits);
            prop_assume!(!v.is_nan());
            prop_assert_eq!(parse_float(format!("{v}").as_bytes()).map(f64::to_bits), Ok(bits));
            prop_assert_eq!(parse_float(format!("{v:e}").as_bytes()).map(f64::to_bits), Ok(bits));
        }
    }
}
