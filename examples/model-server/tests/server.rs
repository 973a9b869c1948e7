//! The whole server over loopback: what clients get, and that the metrics count exactly what happened.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use promontory_model_server::load::{self, LoadConfig, LoadTarget};
use promontory_model_server::{BODY_BYTES_MAX, ModelServer, ServerConfig, ServerHandle, StartError, StepCost};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A server that takes no longer than the computation.
fn quick() -> ServerConfig {
    ServerConfig { cost: StepCost::NONE, ..ServerConfig::new("test-model") }
}

async fn start(config: ServerConfig) -> ServerHandle {
    ModelServer::start(config, LOOPBACK).await.unwrap()
}

async fn send(addr: SocketAddr, head: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let len = body.len();
    let request = format!("{head}\r\nhost: test\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Status and everything after the head; chunk sizes are left in.
async fn receive(mut stream: TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

async fn complete(addr: SocketAddr, body: &str) -> (u16, String) {
    receive(send(addr, "POST /v1/completions HTTP/1.1", body).await).await
}

async fn exposition(addr: SocketAddr) -> String {
    let (status, text) = receive(send(addr, "GET /metrics HTTP/1.1", "").await).await;
    assert_eq!(status, 200);
    text
}

/// The samples by name, summed over labels, buckets apart by `le`.
async fn samples(addr: SocketAddr) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for line in exposition(addr).await.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        let label = |label: &str| {
            let value = series.split(&format!("{label}=\"")).nth(1)?;
            Some(value.split('"').next().unwrap())
        };
        let kind = label("le").or_else(|| label("finished_reason")).or_else(|| label("status"));
        let key = kind.map_or_else(|| name.to_owned(), |kind| format!("{name}|{kind}"));
        *samples.entry(key).or_insert(0.0) += value.parse::<f64>().unwrap();
    }
    samples
}

/// Asks for the metrics until they are as wished.
async fn until(addr: SocketAddr, wished: impl Fn(&BTreeMap<String, f64>) -> bool) -> BTreeMap<String, f64> {
    loop {
        let samples = samples(addr).await;
        if wished(&samples) {
            return samples;
        }
        tokio::task::yield_now().await;
    }
}

fn text_of(body: &str) -> String {
    serde_json::from_str::<serde_json::Value>(body).unwrap()["choices"][0]["text"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_counted_once() {
    const N: usize = 60;
    let server = start(quick()).await;
    let addr = server.addr();
    let asks = (0..N).map(|i| {
        let body = format!(r#"{{"prompt":"The keeper of the light {i}","max_tokens":{}}}"#, 1 + i % 20);
        tokio::spawn(async move { complete(addr, &body).await })
    });
    let (mut prompt_tokens, mut generated_tokens) = (0, 0);
    for ask in asks.collect::<Vec<_>>() {
        let (status, body) = ask.await.unwrap();
        assert_eq!(status, 200, "{body}");
        let usage = &serde_json::from_str::<serde_json::Value>(&body).unwrap()["usage"];
        prompt_tokens += usage["prompt_tokens"].as_u64().unwrap();
        generated_tokens += usage["completion_tokens"].as_u64().unwrap();
    }
    let samples = samples(addr).await;
    let n = N as f64;
    for name in [
        "vllm:time_to_first_token_seconds",
        "vllm:e2e_request_latency_seconds",
        "vllm:request_queue_time_seconds",
        "vllm:request_prefill_time_seconds",
        "vllm:request_decode_time_seconds",
        "vllm:request_inference_time_seconds",
        "vllm:request_prompt_tokens",
        "vllm:request_generation_tokens",
        "vllm:request_params_max_tokens",
        "ml_prediction_latency_seconds",
        "ml_prediction_confidence",
    ] {
        assert_eq!(samples[&format!("{name}_count")], n, "{name}");
        assert_eq!(samples[&format!("{name}_bucket|+Inf")], n, "{name}");
    }
    let finished = |reason: &str| samples[&format!("vllm:request_success_total|{reason}")];
    assert_eq!(finished("stop") + finished("length"), n);
    assert_eq!(finished("abort"), 0.0);
    assert_eq!(samples["ml_predictions_total|success"], n);
    assert_eq!(samples["ml_predictions_total|error"], 0.0);
    assert_eq!(samples["vllm:prompt_tokens_total"], prompt_tokens as f64);
    assert_eq!(samples["vllm:generation_tokens_total"], generated_tokens as f64);
    assert_eq!(samples["vllm:request_generation_tokens_sum"], generated_tokens as f64);
    assert_eq!(samples["vllm:inter_token_latency_seconds_count"], generated_tokens as f64 - n);
    assert_eq!(samples["vllm:num_requests_running"] + samples["vllm:num_requests_waiting"], 0.0);
    assert!(samples["vllm:prefix_cache_hits_total"] > 0.0, "all prompts begin alike");
    assert!(samples["vllm:prefix_cache_queries_total"] >= prompt_tokens as f64);
    server.stop().await;
}

#[tokio::test]
async fn same_seed_gives_same_text_whole_or_streamed() {
    let server = start(quick()).await;
    let addr = server.addr();
    let ask = |seed: u64, stream: bool| {
        let body = format!(r#"{{"prompt":"In the winter","max_tokens":24,"seed":{seed},"stream":{stream}}}"#);
        async move { complete(addr, &body).await.1 }
    };
    let text = text_of(&ask(7, false).await);
    assert!(!text.is_empty());
    assert_eq!(text, text_of(&ask(7, false).await));
    assert_ne!(text, text_of(&ask(8, false).await));
    let streamed = ask(7, true).await;
    let events = streamed.lines().filter_map(|line| line.strip_prefix("data: ")).collect::<Vec<_>>();
    assert_eq!(events.last(), Some(&"[DONE]"));
    assert_eq!(events[..events.len() - 1].iter().map(|event| text_of(event)).collect::<String>(), text);
    server.stop().await;
}

#[tokio::test]
async fn bad_requests_are_refused_and_counted() {
    let server = start(quick()).await;
    let too_long = format!(r#"{{"prompt":"{}"}}"#, "a".repeat(BODY_BYTES_MAX));
    for (body, expected) in [("{", 400), (r#"{"prompt":"a","model":"other"}"#, 404), (too_long.as_str(), 413)] {
        assert_eq!(complete(server.addr(), body).await.0, expected);
    }
    let samples = samples(server.addr()).await;
    assert_eq!(samples["ml_predictions_total|error"], 3.0);
    assert_eq!(samples["vllm:e2e_request_latency_seconds_count"], 0.0);
    let (status, models) = receive(send(server.addr(), "GET /v1/models HTTP/1.1", "").await).await;
    assert_eq!(status, 200);
    assert!(models.contains(r#""id":"test-model""#), "{models}");
    assert_eq!(receive(send(server.addr(), "GET /health HTTP/1.1", "").await).await.0, 200);
    server.stop().await;
}

/// A step that is never over: what runs keeps running until it is aborted.
const ENDLESS: StepCost = StepCost { step: Duration::from_secs(1 << 30), ..StepCost::NONE };

#[tokio::test]
async fn full_server_refuses_and_stop_ends_what_runs() {
    let server = start(ServerConfig { running_max: 1, waiting_max: 0, cost: ENDLESS, ..quick() }).await;
    let addr = server.addr();
    let first = send(addr, "POST /v1/completions HTTP/1.1", r#"{"prompt":"The"}"#).await;
    let samples = until(addr, |samples| samples["vllm:num_requests_running"] == 1.0).await;
    assert!(samples["vllm:kv_cache_usage_perc"] > 0.0);
    let (status, body) = complete(addr, r#"{"prompt":"The"}"#).await;
    assert_eq!(status, 503);
    assert!(body.contains("all places are taken"), "{body}");
    let (stopped, first) = tokio::join!(server.stop(), receive(first));
    let () = stopped;
    assert_eq!(first.0, 503);
    assert!(TcpStream::connect(addr).await.is_err(), "nobody listens after the stop");
}

#[tokio::test]
async fn requests_of_clients_that_went_away_are_aborted() {
    let cost = StepCost { step: Duration::from_millis(50), ..StepCost::NONE };
    let server = start(ServerConfig { cost, ..quick() }).await;
    let addr = server.addr();
    let client = send(addr, "POST /v1/completions HTTP/1.1", r#"{"prompt":"The","max_tokens":1000}"#).await;
    until(addr, |samples| samples["vllm:num_requests_running"] == 1.0).await;
    drop(client);
    let samples = until(addr, |samples| samples["vllm:request_success_total|abort"] == 1.0).await;
    assert_eq!(samples["ml_predictions_total|error"], 1.0);
    until(addr, |samples| samples["vllm:kv_cache_usage_perc"] == 0.0).await;
    server.stop().await;
}

#[tokio::test]
async fn load_generator_keeps_a_server_busy() {
    let server = start(quick()).await;
    let target = LoadTarget { addr: server.addr(), rate: 200.0 };
    let load = load::start(&LoadConfig { targets: vec![target], seed: 1, in_flight_max: 64 });
    let samples = until(server.addr(), |samples| samples["vllm:request_success_total|stop"] >= 20.0).await;
    assert!(samples["vllm:generation_tokens_total"] > 200.0);
    assert_eq!(load.stats().failed, 0);
    load.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn impossible_configurations_do_not_start() {
    let small = ServerConfig { cache_blocks: 2, ..quick() };
    let error = ModelServer::start(small, LOOPBACK).await.unwrap_err();
    assert!(error.to_string().contains("fewer than model_tokens_max 1024"), "{error}");
    let server = start(quick()).await;
    let taken = ModelServer::start(quick(), server.addr()).await.unwrap_err();
    assert!(matches!(taken, StartError::Listen { .. }), "{taken}");
    server.stop().await;
}

#[tokio::test]
async fn exposition_is_accepted_by_promtool() {
    let server = start(quick()).await;
    assert_eq!(complete(server.addr(), r#"{"prompt":"The keeper","max_tokens":30}"#).await.0, 200);
    let text = exposition(server.addr()).await;
    server.stop().await;
    let promtool =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut promtool) = promtool else {
        eprintln!("SKIPPED: promtool is not installed");
        return;
    };
    std::io::Write::write_all(&mut promtool.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    // Code 3 is style: vLLM's names contain colons, and some of them end unlike Prometheus advises.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{complaints}");
    let style = ["should not contain ':'", "should not have \"_total\" suffix"];
    let others: Vec<_> = complaints.lines().filter(|line| !style.iter().any(|known| line.contains(known))).collect();
    assert_eq!(others, Vec::<&str>::new());
}
