//! How JSON writes the values of protocol buffers: 64-bit numbers as texts too, identifiers in hex, bytes in base 64.
//!
//! # Source
//! The OTLP specification, "JSON Protobuf Encoding".

use base64::Engine as _;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, de};

/// A number that may be written as a text.
struct Number<T>(T);

impl<'de, T: NumberText> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor(std::marker::PhantomData)).map(Self)
    }
}

trait NumberText: Sized {
    const WHAT: &'static str;
    fn of_u64(v: u64) -> Option<Self>;
    fn of_i64(v: i64) -> Option<Self>;
    fn of_f64(v: f64) -> Option<Self>;
    fn of_text(text: &str) -> Option<Self>;
}

struct NumberVisitor<T>(std::marker::PhantomData<T>);

impl<T: NumberText> de::Visitor<'_> for NumberVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(T::WHAT)
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<T, E> {
        T::of_u64(v).ok_or_else(|| E::custom(format!("{v} is not {}", T::WHAT)))
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<T, E> {
        T::of_i64(v).ok_or_else(|| E::custom(format!("{v} is not {}", T::WHAT)))
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<T, E> {
        T::of_f64(v).ok_or_else(|| E::custom(format!("{v} is not {}", T::WHAT)))
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<T, E> {
        T::of_text(v).ok_or_else(|| E::custom(format!("{v:?} is not {}", T::WHAT)))
    }
}

impl NumberText for u64 {
    const WHAT: &'static str = "a whole number of at least 0";

    fn of_u64(v: u64) -> Option<Self> {
        Some(v)
    }

    fn of_i64(v: i64) -> Option<Self> {
        Self::try_from(v).ok()
    }

    fn of_f64(_: f64) -> Option<Self> {
        None
    }

    fn of_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl NumberText for i64 {
    const WHAT: &'static str = "a whole number";

    fn of_u64(v: u64) -> Option<Self> {
        Self::try_from(v).ok()
    }

    fn of_i64(v: i64) -> Option<Self> {
        Some(v)
    }

    fn of_f64(_: f64) -> Option<Self> {
        None
    }

    fn of_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl NumberText for f64 {
    const WHAT: &'static str = "a number";

    fn of_u64(v: u64) -> Option<Self> {
        Some(v as Self)
    }

    fn of_i64(v: i64) -> Option<Self> {
        Some(v as Self)
    }

    fn of_f64(v: f64) -> Option<Self> {
        Some(v)
    }

    fn of_text(text: &str) -> Option<Self> {
        match text {
            "NaN" => Some(Self::NAN),
            "Infinity" => Some(Self::INFINITY),
            "-Infinity" => Some(Self::NEG_INFINITY),
            _ => text.parse().ok(),
        }
    }
}

pub(super) fn unsigned<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    Number::deserialize(d).map(|n| n.0)
}

pub(super) fn float<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    Number::deserialize(d).map(|n| n.0)
}

pub(super) fn optional_integer<'de, D: Deserializer<'de>>(d: D) -> Result<Option<i64>, D::Error> {
    Option::deserialize(d).map(|n: Option<Number<i64>>| n.map(|n| n.0))
}

pub(super) fn optional_float<'de, D: Deserializer<'de>>(d: D) -> Result<Option<f64>, D::Error> {
    Option::deserialize(d).map(|n: Option<Number<f64>>| n.map(|n| n.0))
}

pub(super) fn integers_unsigned<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u64>, D::Error> {
    Vec::deserialize(d).map(|list: Vec<Number<u64>>| list.into_iter().map(|n| n.0).collect())
}

pub(super) fn floats<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<f64>, D::Error> {
    Vec::deserialize(d).map(|list: Vec<Number<f64>>| list.into_iter().map(|n| n.0).collect())
}

/// A number, or its name, which some senders write.
pub(super) fn temporality<'de, D: Deserializer<'de>>(d: D) -> Result<i32, D::Error> {
    struct Temporality(i64);
    impl NumberText for Temporality {
        const WHAT: &'static str = "an aggregation temporality";

        fn of_u64(v: u64) -> Option<Self> {
            i64::of_u64(v).map(Self)
        }

        fn of_i64(v: i64) -> Option<Self> {
            Some(Self(v))
        }

        fn of_f64(_: f64) -> Option<Self> {
            None
        }

        fn of_text(text: &str) -> Option<Self> {
            match text {
                "AGGREGATION_TEMPORALITY_DELTA" => Some(Self(1)),
                "AGGREGATION_TEMPORALITY_CUMULATIVE" => Some(Self(2)),
                _ => None,
            }
        }
    }
    let number = Number::<Temporality>::deserialize(d)?.0.0;
    i32::try_from(number).map_err(|_| D::Error::custom(format!("{number} is not {}", Temporality::WHAT)))
}

pub(super) fn bytes_hex<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(d)?;
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok().filter(|p| p.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u8::from_str_radix(pair, 16).ok()
    };
    let bytes = if text.len().is_multiple_of(2) { text.as_bytes().chunks(2).map(byte).collect() } else { None };
    bytes.ok_or_else(|| D::Error::custom(format!("{text:?} is not hexadecimal")))
}

pub(super) fn bytes_base64<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<u8>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(d)? else { return Ok(None) };
    let bytes = base64::engine::general_purpose::STANDARD.decode(&text);
    bytes.map(Some).map_err(|e| D::Error::custom(format!("{text:?} is not base 64: {e}")))
}

#[cfg(test)]
mod tests {
    use super::super::message::{AnyValue, Exemplar, HistogramPoint, NumberPoint, Sum};

    #[track_caller]
    fn check<T: for<'a> serde::Deserialize<'a>>(json: &str, is: impl Fn(&T) -> bool) {
        let read: T = serde_json::from_str(json).unwrap_or_else(|e| panic!("{json}: {e}"));
        assert!(is(&read), "{json}");
    }

    #[test]
    fn numbers_come_as_numbers_and_texts() {
        check(r#"{"timeUnixNano":"18446744073709551615","asInt":"-5"}"#, |p: &NumberPoint| {
            p.time_unix_nano == u64::MAX && p.as_int == Some(-5) && p.as_double.is_none()
        });
        check(r#"{"timeUnixNano":7,"asInt":5}"#, |p: &NumberPoint| p.time_unix_nano == 7 && p.as_int == Some(5));
        check(r#"{"asDouble":"NaN"}"#, |p: &NumberPoint| p.as_double.is_some_and(f64::is_nan));
        check(r#"{"asDouble":2,"asInt":null}"#, |p: &NumberPoint| p.as_double == Some(2.0) && p.as_int.is_none());
        check(r#"{"count":"3","bucketCounts":["1",2],"explicitBounds":[0.5,"Infinity"]}"#, |p: &HistogramPoint| {
            p.count == 3 && p.bucket_counts == [1, 2] && p.explicit_bounds == [0.5, f64::INFINITY]
        });
        check(r#"{"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA"}"#, |s: &Sum| {
            s.aggregation_temporality == 1
        });
        check(r#"{"aggregationTemporality":2}"#, |s: &Sum| s.aggregation_temporality == 2);
        for bad in [r#"{"timeUnixNano":-1}"#, r#"{"timeUnixNano":"x"}"#, r#"{"asInt":1.5}"#] {
            assert!(serde_json::from_str::<NumberPoint>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_are_hex_or_base_64() {
        check(r#"{"traceId":"0Aff","spanId":""}"#, |e: &Exemplar| e.trace_id == [0x0a, 0xff] && e.span_id.is_empty());
        check(r#"{"bytesValue":"AQI="}"#, |v: &AnyValue| v.bytes_value.as_deref() == Some(&[1, 2][..]));
        for bad in [r#"{"traceId":"0"}"#, r#"{"traceId":"0g"}"#, r#"{"traceId":"+1"}"#] {
            assert!(serde_json::from_str::<Exemplar>(bad).is_err(), "{bad}");
        }
    }
}
