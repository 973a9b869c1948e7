//! The operator's pages, as a browser without script gets them.

use crate::client::{self, with_params};
use crate::server::{Server, flag};

const CONFIG: &str = "
scrape_configs:
- job_name: pods
  scrape_interval: 1h
  static_configs:
  - {targets: ['127.0.0.1:1'], labels: {__meta_app: vllm}}
  - {targets: ['127.0.0.1:2'], labels: {__meta_app: other}}
  relabel_configs:
  - {source_labels: [__meta_app], regex: other, action: drop}
  - {source_labels: [__meta_app], target_label: app}
";

/// The page at `path`, which is there and has all of `texts`.
#[track_caller]
fn check(server: &Server, path: &str, texts: &[&str]) -> String {
    let answer = client::get(server.addr, path).expect("an answer");
    let page = answer.text().replace("&#34;", "\"");
    assert_eq!(answer.status, 200, "{path}: {page}");
    for text in texts {
        assert!(page.contains(text), "{path}: no {text:?} in {page}");
    }
    page
}

#[test]
fn targets_are_followed_from_discovery_to_series() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, CONFIG).expect("a writable folder");
    let data = flag("storage.tsdb.path", &dir.path().join("data"));
    let server = Server::start(&[&flag("config.file", &file), &data]);

    let list = check(&server, "/targets?health=unknown", &["http://127.0.0.1:1/metrics", "app=\"vllm\"", "1 dropped"]);
    check(&server, "/targets?search=nothing", &["No target fits the filter"]);
    let start = list.find("/target?").expect("a link to the target");
    let link =
        list[start..].split('"').next().expect("the end of the link").replace("&#38;", "&").replace("&amp;", "&");
    check(&server, &link, &["<h1>", "__meta_app", "Scrape now"]);
    assert_eq!(client::get(server.addr, "/target?pool=pods&id=1").expect("an answer").status, 404);

    let dropped =
        ["__meta_app=\"other\"", "relabel_configs[0]: {source_labels: [__meta_app], regex: other, action: drop}"];
    check(&server, "/service-discovery?state=dropped", &dropped);
    check(&server, "/relabel?pool=pods", &["http://127.0.0.1:1/metrics is scraped every 1h", "app=\"vllm\""]);
    let tried = [("pool", "pods"), ("labels", "__address__=h:1\na=b"), ("rules", "- {action: labeldrop, regex: a}")];
    check(&server, &with_params("/relabel", &tried), &["http://h:1/metrics is scraped", "<del>a=\"b\"</del>"]);
    let wrong = [("pool", "pods"), ("rules", "- {action: kep}")];
    check(&server, &with_params("/relabel", &wrong), &["rules:1:12", "did you mean \"keep\"?"]);
    check(&server, "/config", &["prometheus.yml", "job_name: pods"]);
    for (path, told) in [("/nothing/here", "There is nothing at /nothing/here."), ("/alerts", "expr=ALERTS")] {
        let missing =
            client::request(server.addr, "GET", path, &[("Accept", "text/html,*/*")], &[]).expect("an answer");
        assert_eq!(missing.status, 404);
        assert!(missing.text().contains(told) && missing.text().contains("href=\"/dashboards\""), "{}", missing.text());
    }
    assert_eq!(client::get(server.addr, "/nothing").expect("an answer").text(), "404 page not found\n");
    check(&server, "/status", &["--storage.tsdb.path"]);
    check(&server, "/tsdb", &["Memory of the head", "Metrics with most series", "Write-ahead log"]);

    let path = link.replace("/target?", "/target/scrape?");
    let ask = |headers: &[(&str, &str)]| client::request(server.addr, "POST", &path, headers, &[]).expect("an answer");
    assert_eq!(ask(&[("Sec-Fetch-Site", "cross-site")]).status, 403);
    assert_eq!(ask(&[("Sec-Fetch-Site", "same-origin")]).status, 303);
    server.wait_until("the scrape that was asked for", || {
        let page = client::get(server.addr, &link).expect("an answer").text();
        page.contains("connection refused")
    });
}
