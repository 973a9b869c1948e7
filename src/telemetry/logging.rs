//! Log lines on standard error: `key=value` pairs or one JSON object each, beginning with time, level and message.
//!
//! The level of the flag holds for the server's own parts; libraries speak from WARN on.

use std::fmt::{self, Write};
use std::sync::Arc;

use promontory_model::Timestamp;
use promontory_storage::clock::Clock;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::{LogFormat, LogLevel};

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// Something else in this process has set it up already.
    #[error("set up logging: {0}")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends the log lines of this process to standard error.
///
/// # Errors
/// Logging was set up before.
pub fn init_logging(level: LogLevel, format: LogFormat, clock: Arc<dyn Clock>) -> Result<(), LoggingError> {
    let level = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    let targets = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("promontory", level);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).event_format(Lines { format, clock });
    tracing_subscriber::registry().with(targets).with(lines).try_init()?;
    Ok(())
}

struct Lines {
    format: LogFormat,
    clock: Arc<dyn Clock>,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let head = [
            ("time", time(self.clock.now())),
            ("level", event.metadata().level().to_string()),
            ("target", event.metadata().target().to_owned()),
            ("msg", fields.message),
        ];
        let pairs = head.into_iter().map(|(name, value)| (name, Value::String(value))).chain(fields.others);
        match self.format {
            LogFormat::Logfmt => writeln!(out, "{}", logfmt(pairs)),
            LogFormat::Json => {
                let object: Map<String, Value> = pairs.map(|(name, value)| (name.to_owned(), value)).collect();
                writeln!(out, "{}", Value::Object(object))
            }
        }
    }
}

/// In UTC with milliseconds, as Prometheus writes it.
fn time(now: Timestamp) -> String {
    let Ok(time) = jiff::Timestamp::from_millisecond(now.0) else { return now.0.to_string() };
    format!("{time:.3}")
}

/// The fields of an event, the message apart.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(message)) => self.message = message,
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no number for NaN and the infinities.
        let number = serde_json::Number::from_f64(value);
        self.add(field, number.map_or_else(|| value.to_string().into(), Value::Number));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}

fn logfmt(pairs: impl Iterator<Item = (&'static str, Value)>) -> String {
    let mut line = String::new();
    for (name, value) in pairs {
        if !line.is_empty() {
            line.push(' ');
        }
        let text = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let bare = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\');
        if !text.is_empty() && text.chars().all(bare) {
            let _ = write!(line, "{name}={text}");
        } else {
            let _ = write!(line, "{name}={text:?}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use promontory_storage::clock::ManualClock;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[track_caller]
    fn check(format: LogFormat, log: impl FnOnce(), expected: &str) {
        let sink = Sink::default();
        let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_005)));
        let writer = sink.clone();
        let layer =
            tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).event_format(Lines { format, clock });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        assert_eq!(String::from_utf8(sink.0.lock().unwrap().clone()).unwrap(), expected);
    }

    #[test]
    fn logfmt_quotes_what_needs_it() {
        check(
            LogFormat::Logfmt,
            || tracing::warn!(target: "promontory::x", url = "http://a/b", n = 3, text = "a \"b\"\n", "it is so"),
            "time=2023-11-14T22:13:20.005Z level=WARN target=promontory::x msg=\"it is so\" url=http://a/b n=3 \
             text=\"a \\\"b\\\"\\n\"\n",
        );
    }

    #[test]
    fn json_keeps_numbers() {
        check(
            LogFormat::Json,
            || tracing::info!(target: "promontory::x", n = 3, ok = true, bad = f64::NAN, "done"),
            "{\"time\":\"2023-11-14T22:13:20.005Z\",\"level\":\"INFO\",\"target\":\"promontory::x\",\"msg\":\"done\",\
             \"n\":3,\"ok\":true,\"bad\":\"NaN\"}\n",
        );
    }
}
