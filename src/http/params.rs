//! Parameters of a request: of the URL and, for POST and PUT, of a form in the body. Those of the body come first, but
//! for those of a form in parts, which come last, as Go has it.

use axum::extract::{FromRequest, Request};
use axum::http::{Method, header};
use promontory_model::Duration;

use super::answer::ApiError;
use super::multipart;

/// Bytes of a form in the body.
pub const FORM_BYTES_MAX: usize = 10 << 20;
/// Bytes of a body that is no form and is read to be forgotten.
const UNREAD_BYTES_MAX: usize = 256 << 10;
/// Time that a client may take for a form.
const FORM_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);
/// Bytes of the text of one query.
pub const QUERY_BYTES_MAX: usize = 1 << 20;

/// The largest time that a parameter can name, about 290 million years from now, and its opposite.
const TIME_SECONDS_MAX: f64 = 9.2e15;
/// Durations are kept as nanoseconds in an i64 by the clients that send them.
const DURATION_SECONDS_MAX: f64 = 9.223_372_036e9;

/// Names and values in order; a name may come often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
    /// What is wrong with the first pair that was left out.
    malformed: Option<String>,
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let mut params = Self::default();
        let url = request.uri().query().unwrap_or("").to_owned();
        let form = match *request.method() {
            Method::POST | Method::PUT => form_of(&request),
            _ => Form::NotRead,
        };
        if form == Form::None {
            // A connection that is closed with bytes unread is reset, and the client may lose the answer.
            let unread = axum::body::to_bytes(request.into_body(), UNREAD_BYTES_MAX);
            let _ = tokio::time::timeout(FORM_TIMEOUT, unread).await;
        } else if form != Form::NotRead {
            let reading = axum::body::to_bytes(request.into_body(), FORM_BYTES_MAX);
            let body = tokio::time::timeout(FORM_TIMEOUT, reading).await.map_err(|_| {
                let seconds = FORM_TIMEOUT.as_secs();
                ApiError::bad_data(format!("read form: took longer than {seconds} s (form_timeout)"))
            })?;
            let body = body.map_err(|e| {
                ApiError::bad_data(format!("read form: {e}; at most {FORM_BYTES_MAX} bytes are read (form_bytes_max)"))
            })?;
            if let Form::Parts(boundary) = &form {
                params.add(&url);
                params.pairs.extend(multipart::pairs(&body, boundary));
                return Ok(params);
            }
            params.add(&String::from_utf8_lossy(&body));
        }
        params.add(&url);
        Ok(params)
    }
}

/// What a body may tell of parameters.
#[derive(Debug, PartialEq, Eq)]
enum Form {
    /// The body is of no interest, by the request's method.
    NotRead,
    /// It is no form.
    None,
    /// `a=1&b=2`
    Pairs,
    /// Parts, separated by this.
    Parts(String),
}

fn form_of(request: &Request) -> Form {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let plain = kind.split(';').next().unwrap_or("").trim();
    match multipart::boundary(kind) {
        _ if plain.eq_ignore_ascii_case("application/x-www-form-urlencoded") => Form::Pairs,
        Some(boundary) => Form::Parts(boundary.to_owned()),
        None => Form::None,
    }
}

impl Params {
    /// Of an encoded text, `a=1&b=2`.
    #[cfg(test)]
    pub(crate) fn parse(text: &str) -> Self {
        let mut params = Self::default();
        params.add(text);
        params
    }

    fn add(&mut self, text: &str) {
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if let (Some(name), Some(value), false) = (decode(name), decode(value), pair.contains(';')) {
                self.pairs.push((name, value));
            } else {
                self.malformed.get_or_insert_with(|| pair.to_owned());
            }
        }
    }

    /// Refuses a request of which a pair of name and value was left out because it is no such pair.
    pub(crate) fn whole(&self) -> Result<(), ApiError> {
        match &self.malformed {
            None => Ok(()),
            Some(pair) => {
                Err(ApiError::bad_data(format!("error parsing form values: invalid escape or ';' in {pair:?}")))
            }
        }
    }

    /// The first value of `name`; empty when there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// All values of `name`.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The query's text.
    pub(crate) fn query(&self) -> Result<&str, ApiError> {
        let query = self.get("query");
        if query.len() > QUERY_BYTES_MAX {
            let bytes = query.len();
            return Err(ApiError::parameter(
                "query",
                format_args!("{bytes} bytes, more than the limit query_bytes_max of {QUERY_BYTES_MAX}"),
            ));
        }
        Ok(query)
    }

    /// A time in ms; `None` when absent.
    pub(crate) fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.get(name) {
            "" => Ok(None),
            text => match parse_time(text) {
                Some(ms) => Ok(Some(ms)),
                None => Err(ApiError::parameter(
                    name,
                    format_args!("invalid time value for '{name}': cannot parse \"{text}\" to a valid timestamp"),
                )),
            },
        }
    }

    /// A time in ms that must be there.
    pub(crate) fn required_time(&self, name: &str) -> Result<i64, ApiError> {
        let text = self.get(name);
        parse_time(text)
            .ok_or_else(|| ApiError::parameter(name, format_args!("cannot parse \"{text}\" to a valid timestamp")))
    }

    /// A duration in ms; `None` when absent.
    pub(crate) fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.get(name) {
            "" => Ok(None),
            text => parse_duration(text).map(Some).map_err(|e| ApiError::parameter(name, e)),
        }
    }

    /// A duration in ns, of which the part below a ms counts; `None` when absent or wrong.
    pub(crate) fn duration_ns(&self, name: &str) -> Option<i64> {
        let text = self.get(name);
        match parse_float(text) {
            Some(seconds) => Some((seconds * 1e9) as i64),
            None => parse_duration(text).ok()?.checked_mul(1_000_000),
        }
    }

    /// A switch as Go's library reads it; `default` when absent.
    pub(crate) fn switch(&self, name: &str, default: bool) -> Result<bool, ApiError> {
        match self.get(name) {
            "" => Ok(default),
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            other => Err(ApiError::parameter(name, format_args!("unable to parse boolean \"{other}\""))),
        }
    }

    /// A count; 0 and absent mean that there is no limit.
    pub(crate) fn limit(&self, name: &str) -> Result<Option<usize>, ApiError> {
        match self.get(name) {
            "" => Ok(None),
            text => match text.parse::<i64>() {
                Ok(n) if n < 0 => Err(ApiError::parameter(name, "limit must be non-negative")),
                Ok(n) => Ok(usize::try_from(n).ok().filter(|n| *n > 0)),
                Err(_) => Err(ApiError::parameter(name, format_args!("cannot parse \"{text}\" to a valid limit"))),
            },
        }
    }
}

/// Percent-decodes, with `+` for a space; what is no UTF-8 is replaced. `None` where something is no escape.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                out.push((digit()? * 16 + digit()?) as u8);
            }
            b'+' => out.push(b' '),
            byte => out.push(byte),
        }
    }
    Some(String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// Unix seconds or RFC 3339, in ms.
fn parse_time(text: &str) -> Option<i64> {
    // How Prometheus' client library writes the ends of time.
    match text {
        "-292273086-05-16T16:47:06Z" => return Some(i64::MIN),
        "292277025-08-18T07:12:54.999999999Z" => return Some(i64::MAX),
        _ => {}
    }
    if let Some(seconds) = parse_float(text) {
        let in_range = seconds.abs() < TIME_SECONDS_MAX;
        // The fraction is rounded by itself: seconds times 1000 would lose its last digits for distant times.
        return in_range.then(|| seconds.trunc() as i64 * 1000 + (seconds.fract() * 1000.0).round() as i64);
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(time.as_millisecond())
}

fn parse_float(text: &str) -> Option<f64> {
    // Go reads neither "infinity" in part nor an empty text; both read "Inf" and "NaN", which are no times.
    text.parse::<f64>().ok()
}

/// Seconds or `1h30m`, in ms.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let wrong = |more: &str| format!("cannot parse \"{text}\" to a valid duration{more}");
    if let Some(seconds) = parse_float(text) {
        if seconds.is_nan() || seconds.abs() > DURATION_SECONDS_MAX {
            return Err(wrong(". It overflows int64"));
        }
        return Ok((seconds * 1000.0).trunc() as i64);
    }
    Duration::parse(text).map(Duration::ms).map_err(|_| wrong(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded() {
        let p = Params::parse("a=1+2%203&match[]=x&match%5B%5D=y%7B%7D&b&c=zz%e2%82%ac&=e&a=2");
        assert_eq!((p.get("a"), p.get("b"), p.get("c"), p.get("none")), ("1 2 3", "", "zz€", ""));
        assert_eq!(p.all("match[]").collect::<Vec<_>>(), ["x", "y{}"]);
        assert!(p.whole().is_ok());
    }

    #[test]
    fn what_is_no_pair_is_left_out_and_told_to_who_asks() {
        for pair in ["a=%zz", "a=%2", "a%=1", "a=1;b=2"] {
            let p = Params::parse(&format!("a=0&{pair}&b=3"));
            assert_eq!((p.all("a").collect::<Vec<_>>(), p.get("b")), (vec!["0"], "3"), "{pair}");
            assert!(p.whole().unwrap_err().message.contains(pair));
        }
    }

    #[track_caller]
    fn check_time(text: &str, expected: Option<i64>) {
        assert_eq!(parse_time(text), expected, "{text}");
    }

    #[test]
    fn times_are_seconds_or_rfc3339() {
        check_time("1.5", Some(1500));
        check_time("1700000000.123", Some(1_700_000_000_123));
        check_time("-1.5", Some(-1500));
        check_time("1e3", Some(1_000_000));
        check_time("2023-11-14T22:13:20Z", Some(1_700_000_000_000));
        check_time("2023-11-14T23:13:20.5+01:00", Some(1_700_000_000_500));
        check_time("292277025-08-18T07:12:54.999999999Z", Some(i64::MAX));
        for bad in ["x", "NaN", "Inf", "1e30", "2023-11-14", "2023-11-14T22:13:20"] {
            check_time(bad, None);
        }
    }

    #[track_caller]
    fn check_duration(text: &str, expected: Result<i64, &str>) {
        assert_eq!(parse_duration(text).as_ref().map_err(String::as_str), expected.as_ref().map_err(|e| *e), "{text}");
    }

    #[test]
    fn durations_are_seconds_or_units() {
        check_duration("15", Ok(15_000));
        check_duration("0.25", Ok(250));
        check_duration("-1", Ok(-1000));
        check_duration("1h30m", Ok(5_400_000));
        check_duration("abc", Err("cannot parse \"abc\" to a valid duration"));
        check_duration("1e30", Err("cannot parse \"1e30\" to a valid duration. It overflows int64"));
        check_duration("NaN", Err("cannot parse \"NaN\" to a valid duration. It overflows int64"));
    }

    #[test]
    fn limits_are_counts() {
        let limit = |text: &str| Params::parse(&format!("limit={text}")).limit("limit").map_err(|e| e.message);
        assert_eq!(limit("5"), Ok(Some(5)));
        assert_eq!((limit("0"), limit("")), (Ok(None), Ok(None)));
        assert_eq!(limit("-1"), Err("invalid parameter \"limit\": limit must be non-negative".to_owned()));
        assert!(limit("x").is_err());
    }
}
