//! The routes: completions in OpenAI's shape, the list of models, health and metrics.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use hyper::body::Frame;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::engine::{Event, Submission};
use crate::exposition;
use crate::metrics::Metrics;
use crate::scheduler::SequenceId;
use crate::server::ServerConfig;

/// Largest body of a request.
pub const BODY_BYTES_MAX: usize = 512 << 10;
/// Time for a client to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// Tokens generated where the request does not say how many; OpenAI's default.
const MAX_TOKENS_DEFAULT: usize = 16;

/// What the routes share.
#[derive(Debug)]
pub(crate) struct Api {
    config: ServerConfig,
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
    submit: mpsc::Sender<Submission>,
    next_id: AtomicU64,
}

impl Api {
    pub(crate) fn new(
        config: ServerConfig,
        metrics: Arc<Metrics>,
        places: Arc<Semaphore>,
        submit: mpsc::Sender<Submission>,
    ) -> Self {
        Self { config, metrics, places, submit, next_id: AtomicU64::new(1) }
    }
}

pub(crate) fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/health", get(|| async { "" }))
        .route("/v1/models", get(models))
        .route("/v1/completions", post(completions))
        .route("/metrics", get(metrics))
        .with_state(api)
}

async fn index(State(api): State<Arc<Api>>) -> String {
    let name = &api.config.model_name;
    format!("{name}: POST /v1/completions, GET /v1/models, GET /metrics, GET /health\n")
}

async fn models(State(api): State<Arc<Api>>) -> Response {
    let model = json!({
        "id": api.config.model_name,
        "object": "model",
        "owned_by": "promontory",
        "max_model_len": api.config.model_tokens_max,
    });
    answer(StatusCode::OK, &json!({ "object": "list", "data": [model] }))
}

async fn metrics(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (content_type, text) = exposition::render(&api.metrics.registry, accept);
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// The body of a completion request. Fields that are not supported are refused rather than ignored.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CompletionRequest {
    model: Option<String>,
    prompt: String,
    max_tokens: Option<usize>,
    temperature: Option<f64>,
    seed: Option<u64>,
    #[serde(default)]
    stream: bool,
    n: Option<u64>,
    #[serde(rename = "user")]
    _user: Option<String>,
}

/// A completion request that can be served.
#[derive(Debug, PartialEq)]
struct Completion {
    prompt: String,
    max_tokens: usize,
    temperature: f64,
    seed: Option<u64>,
    stream: bool,
}

/// Why a completion is refused: the status and a sentence.
#[derive(Debug, PartialEq)]
struct Refusal(StatusCode, String);

impl Refusal {
    fn bad(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, message.into())
    }
}

fn parse(body: &[u8], config: &ServerConfig) -> Result<Completion, Refusal> {
    let request: CompletionRequest =
        serde_json::from_slice(body).map_err(|error| Refusal::bad(format!("parse completion request: {error}")))?;
    if let Some(model) = request.model.filter(|model| *model != config.model_name) {
        let message = format!("model {model:?} is not served here, {:?} is", config.model_name);
        return Err(Refusal(StatusCode::NOT_FOUND, message));
    }
    if request.n.is_some_and(|n| n != 1) {
        return Err(Refusal::bad("n must be 1"));
    }
    let temperature = request.temperature.unwrap_or(1.0);
    if !(0.0..=2.0).contains(&temperature) {
        return Err(Refusal::bad(format!("temperature is {temperature}, it must be in 0..=2")));
    }
    let max_tokens = request.max_tokens.unwrap_or(MAX_TOKENS_DEFAULT);
    let prompt_tokens = request.prompt.chars().count();
    if prompt_tokens == 0 || max_tokens == 0 {
        return Err(Refusal::bad("prompt and max_tokens must not be empty"));
    }
    let most = config.model_tokens_max;
    if prompt_tokens.saturating_add(max_tokens) > most {
        let message =
            format!("prompt has {prompt_tokens} tokens and max_tokens is {max_tokens}, together at most {most}");
        return Err(Refusal::bad(message));
    }
    Ok(Completion { prompt: request.prompt, max_tokens, temperature, seed: request.seed, stream: request.stream })
}

async fn completions(State(api): State<Arc<Api>>, request: Request) -> Response {
    let arrived = Instant::now();
    let accepted = match read(request.into_body()).await.and_then(|body| parse(&body, &api.config)) {
        Ok(completion) => submit(&api, completion, arrived),
        Err(refusal) => {
            api.metrics.invalid_request();
            Err(refusal)
        }
    };
    match accepted {
        Ok((events, true)) => stream(events, &api.config.model_name),
        Ok((events, false)) => collect(events, &api.config.model_name).await,
        Err(Refusal(status, message)) => {
            let kind = if status.is_server_error() { "overloaded_error" } else { "invalid_request_error" };
            let error = json!({ "message": message, "type": kind, "code": status.as_u16() });
            let mut response = answer(status, &json!({ "error": error }));
            if status == StatusCode::SERVICE_UNAVAILABLE {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            response
        }
    }
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let message = format!("read completion request (at most {BODY_BYTES_MAX} bytes): {error}");
            Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, message))
        }
        Err(_) => Err(Refusal(StatusCode::REQUEST_TIMEOUT, format!("no body within {} s", BODY_TIMEOUT.as_secs()))),
    }
}

/// Hands the request to the engine; the events come back with whether they are to be streamed.
fn submit(api: &Api, completion: Completion, arrived: Instant) -> Result<(mpsc::Receiver<Event>, bool), Refusal> {
    let refuse = |message: &str| {
        api.metrics.overloaded();
        Refusal(StatusCode::SERVICE_UNAVAILABLE, message.to_owned())
    };
    let place = Arc::clone(&api.places)
        .try_acquire_owned()
        .map_err(|_| refuse("all places are taken (running_max + waiting_max), try again later"))?;
    let id = api.next_id.fetch_add(1, Ordering::Relaxed);
    let (events, receiver) = mpsc::channel(completion.max_tokens + 1);
    let stream = completion.stream;
    let submission = Submission {
        id: SequenceId(id),
        prompt: completion.prompt,
        max_tokens: completion.max_tokens,
        temperature: completion.temperature,
        seed: completion.seed.unwrap_or_else(|| api.config.seed.wrapping_add(id)),
        arrived,
        events,
        place,
    };
    // There is room for every place; it fails only once the engine has stopped.
    api.submit.try_send(submission).map_err(|_| refuse("the server is stopping"))?;
    Ok((receiver, stream))
}

fn choice(text: &str, reason: Option<&str>) -> Value {
    json!({ "index": 0, "text": text, "finish_reason": reason })
}

async fn collect(mut events: mpsc::Receiver<Event>, model: &str) -> Response {
    let mut text = String::new();
    while let Some(event) = events.recv().await {
        match event {
            Event::Character(character) => text.push(character),
            Event::Finished { reason, prompt_tokens, generated_tokens } => {
                let usage = json!({
                    "prompt_tokens": prompt_tokens,
                    "completion_tokens": generated_tokens,
                    "total_tokens": prompt_tokens + generated_tokens,
                });
                let choices = [choice(&text, Some(reason))];
                let body = json!({ "object": "text_completion", "model": model, "choices": choices, "usage": usage });
                return answer(StatusCode::OK, &body);
            }
        }
    }
    let error = json!({ "message": "the server is stopping", "type": "overloaded_error", "code": 503 });
    answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": error }))
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn stream(events: mpsc::Receiver<Event>, model: &str) -> Response {
    let body = Body::new(EventStream { events, model: model.to_owned() });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, body).into_response()
}

/// A completion as server-sent events, one per token, with `[DONE]` at the end.
struct EventStream {
    events: mpsc::Receiver<Event>,
    model: String,
}

impl hyper::body::Body for EventStream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let event = std::task::ready!(self.events.poll_recv(context));
        let Some(event) = event else { return Poll::Ready(None) };
        let (choice, end) = match event {
            Event::Character(character) => (choice(character.encode_utf8(&mut [0; 4]), None), ""),
            Event::Finished { reason, .. } => (choice("", Some(reason)), "data: [DONE]\n\n"),
        };
        let chunk = json!({ "object": "text_completion", "model": self.model, "choices": [choice] });
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(format!("data: {chunk}\n\n{end}"))))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: Result<Completion, (u16, &str)>) {
        let config = ServerConfig { model_tokens_max: 20, ..ServerConfig::new("m") };
        let expected =
            expected.map_err(|(status, message)| Refusal(StatusCode::from_u16(status).unwrap(), message.to_owned()));
        assert_eq!(parse(body.as_bytes(), &config), expected);
    }

    #[test]
    fn requests_are_completed_with_defaults() {
        let completion = |max_tokens, temperature, seed, stream| {
            Ok(Completion { prompt: "abc".into(), max_tokens, temperature, seed, stream })
        };
        check(r#"{"prompt":"abc"}"#, completion(16, 1.0, None, false));
        check(
            r#"{"model":"m","prompt":"abc","max_tokens":3,"temperature":0,"seed":9,"stream":true,"n":1,"user":"u"}"#,
            completion(3, 0.0, Some(9), true),
        );
    }

    #[test]
    fn requests_that_cannot_be_served_say_why() {
        check("{", Err((400, "parse completion request: EOF while parsing an object at line 1 column 1")));
        check(r#"{"model":"x","prompt":"a"}"#, Err((404, r#"model "x" is not served here, "m" is"#)));
        check(r#"{"prompt":""}"#, Err((400, "prompt and max_tokens must not be empty")));
        check(r#"{"prompt":"a","max_tokens":0}"#, Err((400, "prompt and max_tokens must not be empty")));
        check(r#"{"prompt":"a","n":2}"#, Err((400, "n must be 1")));
        check(r#"{"prompt":"a","temperature":-1}"#, Err((400, "temperature is -1, it must be in 0..=2")));
        check(
            r#"{"prompt":"日本語四五","max_tokens":16}"#,
            Err((400, "prompt has 5 tokens and max_tokens is 16, together at most 20")),
        );
        check(
            r#"{"prompt":"a","max_tokens":18446744073709551615}"#,
            Err((400, "prompt has 1 tokens and max_tokens is 18446744073709551615, together at most 20")),
        );
        let unknown = r#"{"prompt":"a","echo":true}"#;
        let config = ServerConfig::new("m");
        assert!(parse(unknown.as_bytes(), &config).unwrap_err().1.contains("unknown field `echo`"));
    }
}
