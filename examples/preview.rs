//! preview
use promontory::dashboard::{self, DashboardOptions, Dashboards, source};
use std::sync::Arc;
#[path = "../src/dashboard/testing.rs"]
mod testing;
#[tokio::main]
async fn main() {
    let port = std::env::args().nth(1).unwrap_or("9555".into());
    let folders = std::env::args().skip(2).map(Into::into).collect();
    let clock = Arc::new(promontory_storage::clock::SystemClock::new());
    let state = Dashboards::new(
        Arc::new(testing::Synthetic),
        clock,
        DashboardOptions { folders, scrape_interval_ms: 15000, timeout_ms: 30000, concurrency: 2 },
    );
    let app = dashboard::router(state)
        .merge(promontory::ui::assets::router())
        .route("/targets", axum::routing::get(targets))
        .route("/status", axum::routing::get(status));
    let l = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    axum::serve(l, app).await.unwrap();
}
async fn targets(
    axum::extract::Query(q): axum::extract::Query<Vec<(String, String)>>,
    h: axum::http::HeaderMap,
) -> axum::response::Response {
    use promontory::ui::targets::*;
    let t = |url: &str, health: &str, error: &str| TargetView {
        url: url.into(),
        health: health.into(),
        labels: vec![
            ("instance".into(), "localhost:9100".into()),
            ("job".into(), "node".into()),
            ("model_name".into(), "ranker-large".into()),
        ],
        last_scrape: "3.2 s ago".into(),
        duration: "12.1 ms".into(),
        samples: 812,
        interval: "15s / 10s".into(),
        error: error.into(),
    };
    let v = TargetsView {
        pools: vec![
            PoolView {
                name: "node".into(),
                targets: vec![
                    t("http://localhost:9100/metrics", "up", ""),
                    t("http://localhost:9101/metrics", "down", "connect to localhost:9101: connection refused"),
                ],
                n_dropped: 2,
            },
            PoolView {
                name: "vllm".into(),
                targets: vec![
                    t("http://localhost:8000/metrics", "up", ""),
                    t("http://localhost:8001/metrics", "unknown", ""),
                ],
                n_dropped: 0,
            },
        ],
    };
    render(&v, &q, &h)
}
async fn status(
    axum::extract::Query(q): axum::extract::Query<Vec<(String, String)>>,
    h: axum::http::HeaderMap,
) -> axum::response::Response {
    use promontory::ui::status::*;
    let s = |t: &str| {
        (
            t.to_string(),
            vec![
                ("Version".to_string(), "0.1.0".to_string()),
                ("Started".into(), "2026-11-21 01:00:00".into()),
                ("Data folder".into(), "/var/lib/promontory/data".into()),
            ],
        )
    };
    render(&StatusView { problem: String::new(), sections: vec![s("Build"), s("Storage"), s("Queries")] }, &q, &h)
}
