//! `promontory query …`: asks any server that has Prometheus' API.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use promontory_config::http_client::{Auth, HeaderValue, HttpClientConfig, HttpHeader, Secret, Source};
use promontory_storage::clock::{Clock as _, SystemClock};
use serde_json::Value;

use crate::cli::{InstantArgs, LabelsArgs, ProbeArgs, QueryCommand, QueryOutput, RangeArgs, SeriesArgs, ServerArgs};
use crate::client::{Call, Client, FetchError, JobClient, Offer, TcpConnector, Url, UrlError};

mod answer;
mod graph;
mod table;

use answer::{Answered, Point, SeriesValues};
use table::Table;

/// Steps of a range when none is given.
const STEPS: i64 = 250;
/// Columns of a graph where the terminal does not tell.
const COLUMNS: usize = 100;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The report could not be written, a closed pipe for example.
    #[error("write the report: {0}")]
    Report(#[from] io::Error),
    /// The address is none.
    #[error("{server:?}: {source}")]
    Address {
        /// What was given.
        server: String,
        /// What is wrong.
        source: UrlError,
    },
    /// A flag's value is wrong.
    #[error("--{flag}: {reason}")]
    Flag {
        /// Name.
        flag: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The file with settings is wrong.
    #[error(transparent)]
    Config(#[from] promontory_config::ConfigErrors),
    /// The server was not reached.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The server refused the request.
    #[error("{0}")]
    Refused(String),
    /// What came back is no answer of the API.
    #[error("the answer is not one of Prometheus' API: {0}")]
    Answer(String),
}

/// Runs a command and writes what comes back.
///
/// # Errors
/// [`QueryError`]
pub fn run(command: &QueryCommand, out: &mut dyn Write) -> Result<(), QueryError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            QueryCommand::Instant(args) => instant(args, out).await,
            QueryCommand::Range(args) => range(args, out).await,
            QueryCommand::Series(args) => series(args, out).await,
            QueryCommand::Labels(args) => labels(args, out).await,
        }
    })
}

/// Asks `/-/healthy` or `/-/ready`; prints what the server says and answers whether all is well.
///
/// # Errors
/// [`QueryError`]
pub fn probe(args: &ProbeArgs, path: &str, out: &mut dyn Write) -> Result<bool, QueryError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let server = Server::new(&args.url, &args.http)?;
    let call = Call::get(server.url.with(path, &[]));
    let answer = runtime.block_on(Client::new().send(&server.job, &call, server.timeout))?;
    writeln!(out, "{}", String::from_utf8_lossy(&answer.body).trim_end())?;
    Ok(answer.status.is_success())
}

async fn instant(args: &InstantArgs, out: &mut dyn Write) -> Result<(), QueryError> {
    let mut params = vec![("query", args.expr.as_str())];
    params.extend(args.time.as_deref().map(|time| ("time", time)));
    let data = Server::new(&args.server, &args.http)?.post("/api/v1/query", &params).await?;
    put_values(&data, args.output, out)
}

async fn range(args: &RangeArgs, out: &mut dyn Write) -> Result<(), QueryError> {
    let end_ms = match &args.end {
        Some(text) => time_ms("end", text)?,
        None => SystemClock::new().now().ms(),
    };
    let start_ms = match &args.start {
        Some(text) => time_ms("start", text)?,
        None => end_ms.saturating_sub(args.range.ms()),
    };
    let step_ms = args.step.map_or((end_ms.saturating_sub(start_ms) / STEPS).max(1_000), |step| step.ms());
    let seconds = |ms: i64| format!("{}", ms as f64 / 1000.0);
    let (start, end, step) = (seconds(start_ms), seconds(end_ms), seconds(step_ms));
    let params = [("query", args.expr.as_str()), ("start", &start), ("end", &end), ("step", &step)];
    let data = Server::new(&args.server, &args.http)?.post("/api/v1/query_range", &params).await?;
    put_values(&data, args.output, out)
}

async fn series(args: &SeriesArgs, out: &mut dyn Write) -> Result<(), QueryError> {
    let params = selection(&args.matches, args.start.as_deref(), args.end.as_deref());
    let data = Server::new(&args.server, &args.http)?.get("/api/v1/series", &params).await?;
    match args.output {
        QueryOutput::Json => put_json(&data, out),
        QueryOutput::Promql => {
            for labels in answer::label_sets(&data)? {
                writeln!(out, "{}", answer::metric_text(&labels))?;
            }
            Ok(())
        }
        QueryOutput::Graph => Err(no_graph()),
        output => {
            let all = answer::label_sets(&data)?;
            let mut table = Table::of_labels(&all, &[]);
            for labels in &all {
                table.push(labels, &[]);
            }
            put_table(&table, output, out)
        }
    }
}

async fn labels(args: &LabelsArgs, out: &mut dyn Write) -> Result<(), QueryError> {
    let params = selection(&args.matches, args.start.as_deref(), args.end.as_deref());
    let path = match &args.name {
        Some(name) => format!("/api/v1/label/{name}/values"),
        None => "/api/v1/labels".to_owned(),
    };
    let data = Server::new(&args.server, &args.http)?.get(&path, &params).await?;
    let texts = data.as_array().ok_or_else(|| QueryError::Answer("no list of texts".to_owned()))?;
    match args.output {
        QueryOutput::Json => put_json(&data, out),
        QueryOutput::Graph => Err(no_graph()),
        QueryOutput::Csv => {
            let mut table = Table::new(vec![args.name.clone().unwrap_or_else(|| "label".to_owned())]);
            for text in texts.iter().filter_map(Value::as_str) {
                table.push_row(vec![text.to_owned()]);
            }
            put_table(&table, args.output, out)
        }
        QueryOutput::Table | QueryOutput::Promql => {
            for text in texts.iter().filter_map(Value::as_str) {
                writeln!(out, "{text}")?;
            }
            Ok(())
        }
    }
}

fn no_graph() -> QueryError {
    QueryError::Flag { flag: "output", reason: "only values have a graph".to_owned() }
}

fn selection<'a>(matches: &'a [String], start: Option<&'a str>, end: Option<&'a str>) -> Vec<(&'static str, &'a str)> {
    let matches = matches.iter().map(|selector| ("match[]", selector.as_str()));
    matches.chain(start.map(|t| ("start", t))).chain(end.map(|t| ("end", t))).collect()
}

/// Writes the value of a query.
fn put_values(data: &Value, output: QueryOutput, out: &mut dyn Write) -> Result<(), QueryError> {
    if output == QueryOutput::Json {
        return put_json(data, out);
    }
    let answered = answer::read(data)?;
    match output {
        QueryOutput::Promql => Ok(answer::put_promql(&answered, out)?),
        QueryOutput::Graph => Ok(graph::put(&answered, columns(), out)?),
        _ => {
            let Answered::Series(all) = &answered else { return Ok(answer::put_promql(&answered, out)?) };
            let names: Vec<_> = all.iter().map(|s| s.labels.clone()).collect();
            // One time of all needs no column.
            let first = all.iter().flat_map(|s| &s.points).map(|p| p.t_ms).next();
            let same = all.iter().flat_map(|s| &s.points).all(|p| Some(p.t_ms) == first);
            let with_time = output == QueryOutput::Csv || !same;
            let mut table = Table::of_labels(&names, if with_time { &["time", "value"] } else { &["value"] });
            for SeriesValues { labels, points } in all {
                for Point { t_ms, text, .. } in points {
                    let time = answer::time_text(*t_ms);
                    let end = if with_time { vec![time, text.clone()] } else { vec![text.clone()] };
                    table.push(labels, &end);
                }
            }
            put_table(&table, output, out)
        }
    }
}

fn put_table(table: &Table, output: QueryOutput, out: &mut dyn Write) -> Result<(), QueryError> {
    let text = if output == QueryOutput::Csv { table.csv() } else { table.text() };
    Ok(out.write_all(text.as_bytes())?)
}

fn put_json(data: &Value, out: &mut dyn Write) -> Result<(), QueryError> {
    Ok(writeln!(out, "{data}")?)
}

/// Columns of the terminal, as shells tell them.
fn columns() -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|n| n.parse().ok());
    told.filter(|n| (20..=1_000).contains(n)).unwrap_or(COLUMNS)
}

/// Unix seconds or RFC 3339.
fn time_ms(flag: &'static str, text: &str) -> Result<i64, QueryError> {
    if let Some(seconds) = text.parse::<f64>().ok().filter(|s| s.abs() < 1e13) {
        return Ok((seconds * 1000.0).round() as i64);
    }
    let time: Result<jiff::Timestamp, _> = text.parse();
    let reason = format!("{text:?} is neither Unix seconds nor a time like 2026-01-31T12:00:00Z");
    time.map(jiff::Timestamp::as_millisecond).map_err(|_| QueryError::Flag { flag, reason })
}

/// A server that is asked.
pub(super) struct Server {
    pub(super) url: Url,
    job: JobClient,
    timeout: std::time::Duration,
}

impl Server {
    pub(super) fn new(server: &str, args: &ServerArgs) -> Result<Self, QueryError> {
        let address = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
        let url = Url::parse(&address).map_err(|source| QueryError::Address { server: server.to_owned(), source })?;
        let offer = Offer { accept: "application/json".to_owned(), gzip: true, body_bytes_max: None };
        let job = JobClient::new(http_config(args)?, offer, Arc::new(TcpConnector));
        let timeout = std::time::Duration::from_millis(args.timeout.ms().unsigned_abs());
        Ok(Self { url, job, timeout })
    }

    async fn get(&self, path: &str, params: &[(&str, &str)]) -> Result<Value, QueryError> {
        self.ask(&Call::get(self.url.with(path, params))).await
    }

    /// Long queries fit into no address.
    async fn post(&self, path: &str, params: &[(&str, &str)]) -> Result<Value, QueryError> {
        let call = Call::form(self.url.with(path, &[]), params);
        self.ask(&call).await
    }

    /// Sends what is to be written; the first line of what the server says where it does not take it.
    pub(super) async fn write(&self, call: &Call) -> Result<(), QueryError> {
        let answer = Client::new().send(&self.job, call, self.timeout).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&answer.body);
        Err(QueryError::Refused(format!("{}: {}", answer.reason, text.lines().next().unwrap_or_default())))
    }

    async fn ask(&self, call: &Call) -> Result<Value, QueryError> {
        let answer = Client::new().send(&self.job, call, self.timeout).await?;
        let mut body: Value = match serde_json::from_slice(&answer.body) {
            Ok(body) => body,
            // A proxy, or another server.
            Err(_) if !answer.status.is_success() => return Err(QueryError::Refused(answer.reason)),
            Err(e) => return Err(QueryError::Answer(e.to_string())),
        };
        for kind in ["warnings", "infos"] {
            for text in body[kind].as_array().into_iter().flatten().filter_map(Value::as_str) {
                eprintln!("{}: {text}", kind.trim_end_matches('s'));
            }
        }
        if body["status"] != "success" {
            let text = |name: &str| body[name].as_str().map(str::to_owned);
            let message = text("error").unwrap_or_else(|| answer.reason.clone());
            let kind = text("errorType").map(|kind| format!("{kind}: ")).unwrap_or_default();
            return Err(QueryError::Refused(kind + &message));
        }
        Ok(body["data"].take())
    }
}

fn http_config(args: &ServerArgs) -> Result<HttpClientConfig, QueryError> {
    let mut http = match &args.http_config_file {
        Some(file) => promontory_config::load_http_client(file)?,
        None => HttpClientConfig::default(),
    };
    let bearer = |credentials| Auth::Authorization { kind: "Bearer".to_owned(), credentials: Some(credentials) };
    if let Some(user) = &args.user {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        let username = Some(Source::Inline(name.to_owned()));
        http.auth = Auth::Basic { username, password: Some(Source::Inline(Secret::new(password.to_owned()))) };
    } else if let Some(token) = &args.bearer_token {
        http.auth = bearer(Source::Inline(Secret::new(token.clone())));
    } else if let Some(file) = &args.bearer_token_file {
        http.auth = bearer(Source::File(PathBuf::from(file)));
    }
    if let Some(file) = &args.ca_file {
        http.tls.ca = Some(Source::File(file.clone()));
    }
    http.tls.insecure_skip_verify |= args.insecure;
    for header in &args.headers {
        let (name, value) = header.split_once('=').or_else(|| header.split_once(": ")).ok_or_else(|| {
            QueryError::Flag { flag: "header", reason: format!("expected NAME=VALUE, got {header:?}") }
        })?;
        let values = vec![HeaderValue::Plain(value.to_owned())];
        http.headers.push(HttpHeader { name: name.to_owned(), values });
    }
    Ok(http)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(data: &str, output: QueryOutput, expected: &str) {
        let mut out = Vec::new();
        put_values(&serde_json::from_str(data).unwrap(), output, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    const VECTOR: &str = r#"{"resultType":"vector","result":[
        {"metric":{"__name__":"up","job":"a","instance":"x:1"},"value":[1700000000.5,"1"]},
        {"metric":{"__name__":"up","job":"longer"},"value":[1700000000.5,"0.25"]}]}"#;
    const MATRIX: &str = r#"{"resultType":"matrix","result":[
        {"metric":{"job":"a,\"b\""},"values":[[1700000000,"1"],[1700000060,"NaN"]]}]}"#;

    #[test]
    fn values_are_tables_lists_and_lines() {
        check(
            VECTOR,
            QueryOutput::Table,
            "\
metric  instance  job     value
up      x:1       a           1
up                longer   0.25
",
        );
        check(
            VECTOR,
            QueryOutput::Csv,
            "\
metric,instance,job,time,value
up,x:1,a,2023-11-14T22:13:20.5Z,1
up,,longer,2023-11-14T22:13:20.5Z,0.25
",
        );
        check(
            VECTOR,
            QueryOutput::Promql,
            "\
up{instance=\"x:1\", job=\"a\"} => 1 @[1700000000.5]
up{job=\"longer\"} => 0.25 @[1700000000.5]
",
        );
        check(
            MATRIX,
            QueryOutput::Table,
            "\
job    time                  value
a,\"b\"  2023-11-14T22:13:20Z      1
a,\"b\"  2023-11-14T22:14:20Z    NaN
",
        );
        check(
            MATRIX,
            QueryOutput::Csv,
            "\
job,time,value
\"a,\"\"b\"\"\",2023-11-14T22:13:20Z,1
\"a,\"\"b\"\"\",2023-11-14T22:14:20Z,NaN
",
        );
        check(MATRIX, QueryOutput::Promql, "{job=\"a,\\\"b\\\"\"} =>\n1 @[1700000000]\nNaN @[1700000060]\n");
        check(r#"{"resultType":"scalar","result":[1.5,"2"]}"#, QueryOutput::Table, "scalar: 2 @[1.5]\n");
        check(r#"{"resultType":"vector","result":[]}"#, QueryOutput::Table, "");
    }

    #[test]
    fn times_are_seconds_or_texts() {
        assert_eq!(time_ms("start", "1.5").unwrap(), 1_500);
        assert_eq!(time_ms("start", "1970-01-01T00:00:02Z").unwrap(), 2_000);
        assert!(time_ms("start", "x").unwrap_err().to_string().starts_with("--start: \"x\" is neither"));
    }
}
