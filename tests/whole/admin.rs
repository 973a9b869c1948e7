//! The admin API over HTTP, and what is known of metrics after a restart.

use std::path::Path;

use serde_json::json;

use crate::client::{self, Response, with_params};
use crate::server::{Server, flag};

const METRIC: &str = "promontory_tsdb_head_groups";

fn post(server: &Server, path: &str, params: &[(&str, &str)]) -> Response {
    let path = with_params(&format!("/api/v1/admin/tsdb/{path}"), params);
    client::request(server.addr, "POST", &path, &[], &[]).expect("an answer")
}

/// Samples of a metric in the last hour, over all series.
fn samples(server: &Server, metric: &str) -> u64 {
    let query = format!("sum(count_over_time({metric}[1h]))");
    let answer = client::get(server.addr, &with_params("/api/v1/query", &[("query", &query)])).expect("an answer");
    let value = &answer.json()["data"]["result"][0]["value"][1];
    value.as_str().map_or(0, |n| n.parse().expect("a count"))
}

fn help(server: &Server) -> String {
    let path = with_params("/api/v1/metadata", &[("metric", METRIC)]);
    let answer = client::get(server.addr, &path).expect("an answer").json();
    answer["data"][METRIC][0]["help"].as_str().unwrap_or("").to_owned()
}

#[test]
fn series_are_deleted_and_snapshots_opened() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = dir.path().join("data");
    let path = flag("storage.tsdb.path", &data);
    // Without a configuration the server scrapes itself.
    let server = Server::start(&[&path, "--web.enable-admin-api"]);
    server.wait_until("a scrape", || samples(&server, METRIC) > 0 && !help(&server).is_empty());
    let text = help(&server);
    assert_eq!(server.terminate(), 0);

    let config = dir.path().join("nothing.yml");
    std::fs::write(&config, "scrape_configs: []\n").expect("a writable folder");
    let config = flag("config.file", &config);
    let server = Server::start(&[&path, &config, "--web.enable-admin-api"]);
    assert_eq!(help(&server), text, "no target says it any more");
    let n = samples(&server, METRIC);
    assert!(n > 0);

    let made = post(&server, "snapshot", &[]).json();
    let name = made["data"]["name"].as_str().expect("a name").to_owned();
    let counted = post(&server, "delete_series", &[("match[]", METRIC), ("dry_run", "true")]).json();
    assert_eq!(counted["data"], json!({"series": 1, "samples": n}));
    assert_eq!(post(&server, "delete_series", &[("match[]", METRIC)]).status, 204);
    assert_eq!(post(&server, "clean_tombstones", &[]).status, 204);
    let others = samples(&server, "up");
    assert_eq!((samples(&server, METRIC), others > 0), (0, true));
    server.kill();

    let server = Server::start(&[&path, &config]);
    assert_eq!((samples(&server, METRIC), samples(&server, "up")), (0, others));
    assert_eq!(post(&server, "snapshot", &[]).json()["error"], "admin APIs disabled");
    assert_eq!(server.terminate(), 0);

    let snapshot = data.join(Path::new("snapshots")).join(name);
    let server = Server::start(&[&flag("storage.tsdb.path", &snapshot), &config]);
    assert_eq!((samples(&server, METRIC), samples(&server, "up")), (n, others));
    assert_eq!(help(&server), text);
}
