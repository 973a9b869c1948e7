//! Whole pages against made-up data: what public dashboards need, what a browser gets, what hostile input gets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use promontory_model::Timestamp;
use promontory_storage::clock::ManualClock;

use super::*;
use crate::dashboard::load::load;
use crate::dashboard::panels::DRAWN;
use crate::dashboard::state::{DashboardOptions, DashboardSettings};
use crate::dashboard::testing::Synthetic;

const NOW: i64 = 1_700_000_000_000;

fn state(folders: Vec<PathBuf>) -> Dashboards {
    let clock = Arc::new(ManualClock::new(Timestamp(NOW)));
    let options =
        DashboardOptions { folders, read_only: false, scrape_interval_ms: 15_000, timeout_ms: 60_000, concurrency: 2 };
    Dashboards::new(Arc::new(Synthetic), clock, Arc::new(DashboardSettings::new(options)))
}

/// Status and body of a request, through the router.
fn get(router: &Router, uri: &str) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    runtime.block_on(async {
        let request = axum::http::Request::builder().uri(uri).body(axum::body::Body::empty()).unwrap();
        let response = call(router, request).await;
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 64 << 20).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    })
}

async fn call(router: &Router, request: axum::http::Request<axum::body::Body>) -> Response {
    use hyper::service::Service as _;
    match hyper_util::service::TowerToHyperService::new(router.clone()).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn corpus() -> Vec<PathBuf> {
    let roots = ["/../shared/dashboards/corpus", "/../../shared/dashboards/corpus"];
    let root = roots.iter().map(|r| format!("{}{r}", env!("CARGO_MANIFEST_DIR"))).find(|r| Path::new(r).is_dir());
    let Some(root) = root else {
        eprintln!("SKIPPED: the corpus of public dashboards is absent");
        return Vec::new();
    };
    let mut out = Vec::new();
    for group in std::fs::read_dir(root).unwrap().flatten() {
        let files = std::fs::read_dir(group.path()).into_iter().flatten().flatten().map(|f| f.path());
        out.extend(files.filter(|f| f.extension().is_some_and(|e| e == "json")));
    }
    out.sort();
    out
}

#[test]
fn public_dashboards_load_and_most_panels_draw() {
    let (mut drawn, mut other, mut transformed) =
        (0usize, BTreeMap::<String, usize>::new(), BTreeMap::<String, usize>::new());
    let files = corpus();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let d = load(&text, "file").unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        for p in d.panels() {
            match (&p.foreign_source, DRAWN.contains(&p.kind.as_str())) {
                (Some(source), _) => *other.entry(format!("source {source}")).or_default() += 1,
                (None, true) => drawn += 1,
                (None, false) => *other.entry(p.kind.clone()).or_default() += 1,
            }
            for t in &p.transformations {
                let id = t.get("id").and_then(|i| i.as_str()).unwrap_or("").to_owned();
                *transformed.entry(id).or_default() += 1;
            }
        }
    }
    let checked = files.iter().map(|f| {
        let mut report = String::new();
        let found = crate::dashboard::check(&std::fs::read_to_string(f).unwrap(), &mut report).unwrap();
        (found.remarks, report)
    });
    let checked: Vec<(usize, String)> = checked.collect();
    let whole = checked.iter().filter(|(remarks, _)| *remarks == 0).count();
    checked.iter().for_each(|(_, report)| eprint!("{report}"));
    eprintln!("{whole} dashboards are drawn with nothing left out");
    assert!(files.is_empty() || whole * 10 > files.len() * 8, "{whole} of {}", files.len());
    let placeholders: usize = other.values().sum();
    eprintln!("{} dashboards, {drawn} panels drawn, {placeholders} placeholders: {other:?}", files.len());
    eprintln!("transformations: {transformed:?}");
    assert!(files.is_empty() || drawn > 50 * placeholders, "{drawn} drawn, {placeholders} placeholders");
}

#[test]
fn pages_of_public_dashboards_are_whole() {
    // All of them, and kept for a look, where this names a folder.
    let keep = std::env::var_os("DASHBOARD_PAGES").map(PathBuf::from);
    let wanted = [
        "ml-model-monitoring.json",
        "tgi_grafana.json",
        "dcgm-exporter-dashboard.json",
        "grafana.json",
        "triton-gcp.json",
    ];
    let files = corpus();
    let chosen =
        files.iter().filter(|f| keep.is_some() || wanted.iter().any(|w| f.file_name().is_some_and(|n| n == *w)));
    let dir = tempfile::tempdir().unwrap();
    for (i, file) in chosen.enumerate() {
        std::fs::copy(file, dir.path().join(format!("{i}.json"))).unwrap();
    }
    let state = state(vec![dir.path().to_owned()]);
    let router = router(state.clone());
    for entry in &state.0.settings.catalog(NOW).entries {
        let uid = &entry.dashboard.uid;
        let (status, body) = get(&router, &format!("/d/{uid}?from=now-15m&to=now&theme=dark"));
        assert_eq!(status, 200, "{uid}");
        assert!(!body.contains("style=\"") && !body.contains("<style") && !body.contains("=\"NaN"), "{uid}");
        if let Some(folder) = &keep {
            let name = entry.dashboard.title.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            std::fs::write(folder.join(format!("{name}.html")), &body).unwrap();
        }
        assert!(body.contains("</html>") && body.matches("<svg").count() == body.matches("</svg>").count(), "{uid}");
    }
}

/// For a look with a browser: where `DASHBOARD_SERVE` names an address, all public dashboards stand there, drawn from
/// made-up series, until the test is stopped.
#[test]
fn made_up_pages_are_served_for_a_look() {
    let Ok(address) = std::env::var("DASHBOARD_SERVE") else { return };
    let dir = tempfile::tempdir().unwrap();
    for (i, file) in corpus().iter().enumerate() {
        std::fs::copy(file, dir.path().join(format!("{i}.json"))).unwrap();
    }
    let router = router(state(vec![dir.path().to_owned()])).merge(crate::ui::assets::router());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(&address).await.unwrap();
        axum::serve(listener, router).await.unwrap();
    });
}

#[test]
fn requests_get_what_they_ask_for() {
    let dir = tempfile::tempdir().unwrap();
    let json = r#"{"uid": "u", "title": "A <b>", "templating": {"list": [{"name": "v", "type": "custom", "query": "x,y", "multi": true}, {"name": "Filters", "type": "adhoc"}]},
      "annotations": {"list": [{"name": "Restarts", "expr": "up", "enable": false}]},
      "panels": [{"id": 1, "title": "P $v", "targets": [{"expr": "sum by (job) (up2{a=\"$v\"})"}]},
        {"id": 2, "type": "stat", "targets": [{"expr": "nothing"}]}, {"id": 3, "targets": [{"expr": "sum("}]},
        {"id": 4, "type": "row", "title": "R", "collapsed": true, "panels": [{"id": 5, "type": "text", "options": {"content": "hidden **here**"}}]},
        {"id": 6, "type": "nodeGraph", "targets": [{"expr": "up"}]}]}"#;
    std::fs::write(dir.path().join("a.json"), json).unwrap();
    std::fs::write(dir.path().join("b.json"), "{").unwrap();
    let router = router(state(vec![dir.path().to_owned()]));
    #[track_caller]
    fn check(router: &Router, uri: &str, status: u16, has: &[&str], lacks: &[&str]) {
        let (got, body) = get(router, uri);
        assert_eq!(got, status, "{uri}");
        for text in has {
            assert!(body.contains(text), "{uri} lacks {text:?} in {body}");
        }
        for text in lacks {
            assert!(!body.contains(text), "{uri} has {text:?}");
        }
    }
    let page =
        ["A &#60;b&#62;", "P x", "No data", "1:5: parse error", "nodeGraph", "Last 6 hours", "aria-expanded=\"false\""];
    check(&router, "/d/u/any-slug", 200, &page, &["<strong>here"]);
    check(&router, "/d/u?toggle=4", 200, &["hidden <strong>here</strong>"], &[]);
    check(&router, "/d/u?var-v=y&from=now-5m&to=now", 200, &["P y", "Last 5 minutes"], &[]);
    check(&router, "/d/u?viewPanel=2&kiosk", 200, &["No data"], &["P x", "class=\"top\""]);
    check(&router, "/d/u/panel/1?w=500&h=200", 200, &["class=\"marks\""], &["<html"]);
    check(&router, "/d/u/panel/99", 404, &[], &[]);
    check(
        &router,
        "/d-solo/u/x?panelId=1&theme=light",
        200,
        &["data-theme=\"light\"", "class=\"marks\""],
        &["class=\"top\""],
    );
    check(&router, "/d-solo/u", 400, &[], &[]);
    check(&router, "/d/%3Cscript%3E", 404, &["Dashboard not found"], &["<script>"]);
    check(&router, "/dashboards", 200, &["A &#60;b&#62;", "b.json", "1:1: EOF"], &[]);
    check(&router, "/dashboards?query=zzz", 200, &["Nothing found"], &["A &#60;b&#62;"]);
    check(&router, "/api/search?query=a&type=dash-db", 200, &["\"uid\":\"u\"", "\"url\":\"/d/u/a-b\""], &[]);
    check(&router, "/api/dashboards/uid/u", 200, &["\"canSave\":true", "\"title\":\"A <b>\""], &[]);
    check(&router, "/api/dashboards/uid/zz", 404, &["Dashboard not found"], &[]);
    check(&router, "/d/u/panel/1/csv?var-v=x", 200, &["Time,\"{job=\"\"alpha\"\"}\"", "\r\n2023-11-14"], &["<"]);
    check(
        &router,
        "/d/u/panel/1/inspect?var-v=y",
        200,
        &["sum by (job) (up2{a=&#34;y&#34;})", "every 30s", "Download CSV"],
        &[],
    );
    check(&router, "/d/u/panel/9/inspect", 404, &[], &[]);
    check(&router, "/api/health", 200, &["\"database\":\"ok\""], &[]);
    check(&router, "/api/folders", 200, &["[]"], &[]);
    check(&router, "/api/folders/none", 404, &["Folder not found"], &[]);
    check(&router, "/api/datasources/uid/promontory", 200, &["\"type\":\"prometheus\""], &[]);
    check(&router, "/api/annotations?dashboardUID=u", 200, &["[]"], &[]);
    check(&router, "/d/u?var-Filters=job%7C%3D%7Capi", 200, &["label=&#34;value&#34;", "Restarts"], &[]);
    check(&router, "/explore", 200, &["<textarea"], &["query-error"]);
    check(&router, "/explore?expr=sum(up)", 200, &["class=\"marks\"", "series"], &["query-error"]);
    check(&router, "/explore?expr=sum(up)&tab=plan", 200, &["data wide plan", "Own time"], &["class=\"marks\""]);
    let mistaken = "/explore?expr=histogram_quantile(0.9,sum(rate(a_bucket%5B5m%5D)))";
    let better = "Use <code>sum by (le) (rate(a_bucket[5m]))</code>";
    let mended = "expr=histogram_quantile%280.9%2Csum%20by%20%28le%29%20%28rate%28a_bucket%5B5m%5D%29%29%29";
    check(&router, mistaken, 200, &["needs the label le", better, mended], &["query-error"]);
    check(&router, "/explore?expr=sum(up)&tab=table", 200, &["class=\"data wide\""], &["class=\"marks\""]);
    check(
        &router,
        "/explore?expr=sum%20by%20(%3Cb%3E%20(up)",
        200,
        &["<mark>&lt;</mark>", "parse error"],
        &["<b> (up)"],
    );
}

#[test]
fn events_that_fail_are_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"{"uid": "e", "title": "E",
        "annotations": {"list": [{"name": "deploys", "enable": true, "expr": "rate(", "datasource": {"type": "prometheus"}}]},
        "panels": [{"id": 1, "title": "A", "targets": [{"expr": "up"}]}, {"id": 2, "title": "B", "targets": [{"expr": "up"}]}]}"#;
    std::fs::write(dir.path().join("e.json"), text).unwrap();
    let router = router(state(vec![dir.path().to_owned()]));
    let told = |uri: &str| get(&router, uri).1.matches("<p>annotation ").count();
    for (uri, expected) in [
        ("/d/e/e", 1),
        ("/d/e/e?viewPanel=1", 1),
        ("/d/e/panel/1", 0),
        ("/d-solo/e?panelId=1", 1),
        ("/dashboard/snapshot/e", 1),
        ("/d/e/e?annotation.deploys=off", 0),
    ] {
        assert_eq!(told(uri), expected, "{uri}");
    }
}

#[test]
fn pages_say_what_there_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"{"uid": "e", "title": "E", "panels": [{"id": 1, "title": "A", "targets": [{"expr": "up"}]}],
        "templating": {"list": [{"name": "bad", "type": "query", "query": "label_values(up, job)", "regex": "/(/"}]}}"#;
    std::fs::write(dir.path().join("e.json"), text).unwrap();
    let router = router(state(vec![dir.path().to_owned()]));
    for (uri, has, lacks) in [
        ("/d/e/e", "<p>variable &#34;bad&#34;: ", "no panel"),
        ("/d/e/e?viewPanel=9", "This dashboard has no panel 9.", "no panels"),
        ("/d/e/e?kiosk", "<h1>E</h1>", "id=\"controls\""),
        ("/d/e/e?kiosk=tv", "id=\"controls\"", "<nav"),
    ] {
        let (_, page) = get(&router, uri);
        assert!(page.contains(has) && !page.contains(lacks), "{uri}");
    }
}

#[test]
fn bars_by_category_and_calculated_cells_are_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let json = r#"{"uid": "k", "title": "K", "panels": [
        {"id": 1, "type": "barchart", "targets": [{"expr": "sum by (job) (a)", "format": "table", "instant": true}], "options": {"orientation": "horizontal"}},
        {"id": 2, "type": "barchart", "targets": [{"expr": "sum by (job) (a)", "format": "table", "instant": true}], "options": {"orientation": "vertical", "stacking": "percent"}},
        {"id": 3, "type": "histogram", "targets": [{"expr": "up2"}], "options": {"combine": true}},
        {"id": 4, "type": "heatmap", "targets": [{"expr": "up2"}], "options": {"calculate": true}},
        {"id": 5, "type": "barchart", "targets": [{"expr": "up2"}]},
        {"id": 6, "type": "table", "targets": [{"expr": "sum by (job) (a)", "format": "table", "instant": true}],
         "fieldConfig": {"defaults": {"custom": {"filterable": true, "width": 90, "cellOptions": {"type": "gauge", "mode": "lcd"}}}}},
        {"id": 7, "type": "state-timeline", "targets": [{"expr": "up"}],
         "fieldConfig": {"defaults": {"mappings": [{"type": "value", "options": {"1": {"text": "OK", "color": "green"}}}]}}},
        {"id": 8, "type": "xychart", "transformations": [{"id": "merge"}],
         "targets": [{"refId": "A", "expr": "sum by (job) (a)", "format": "table", "instant": true},
            {"refId": "B", "expr": "sum by (job) (b)", "format": "table", "instant": true}]},
        {"id": 9, "type": "alertlist", "options": {"alertName": "High"}},
        {"id": 11, "type": "geomap", "targets": [{"expr": "sum by (job) (a)", "format": "table", "instant": true}]},
        {"id": 12, "type": "some-plugin", "targets": [{"expr": "up2"}]},
        {"id": 13, "type": "some-plugin"},
        {"id": 10, "type": "dashlist", "options": {"query": "K", "showSearch": true}}],
      "annotations": {"list": [{"name": "Up", "expr": "up{job=\"node\"}", "iconColor": "blue"}]}}"#;
    std::fs::write(dir.path().join("k.json"), json).unwrap();
    let router = router(state(vec![dir.path().to_owned()]));
    #[track_caller]
    fn check(router: &Router, panel: &str, has: &[&str]) {
        let (status, body) = get(router, &format!("/d/k/panel/{panel}"));
        assert_eq!(status, 200, "{body}");
        for text in has {
            assert!(body.contains(text), "panel {panel} lacks {text:?}: {body}");
        }
    }
    check(&router, "1", &["2 categories", "class=\"marks\"", ">alpha</text>"]);
    check(&router, "2", &["2 categories", "d=\"M"]);
    check(&router, "3", &["categories", "d=\"M"]);
    check(&router, "4", &["heatmap of", "fill=", "class=\"event\""]);
    check(&router, "5", &["series over time"]);
    check(
        &router,
        "6?p6.sort=job&p6.find=alph",
        &["<col width=\"90\">", ">alpha</td>", "job ↑", "fill-opacity=\".18\""],
    );
    check(&router, "6?p6.find=zzz", &["No row has these words.", "value=\"zzz\""]);
    check(&router, "7", &[">OK</text>", "</svg>OK</span>", "\"mode\":\"states\""]);
    check(&router, "8", &["over Value #A", "stroke-linecap"]);
    check(&router, "9", &["10.0.0.1:8000"]);
    check(&router, "11", &["“geomap” are not drawn; this is the data", ">alpha</td>"]);
    check(&router, "12", &["“some-plugin” are not drawn", "series over time"]);
    check(&router, "13", &["“some-plugin” are not drawn.</div>"]);
    check(&router, "10", &["href=\"/d/k/k\">K</a>"]);
}

#[test]
fn axes_bands_bars_values_and_changes_are_drawn_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let json = r##"{"uid": "o", "title": "O", "panels": [
        {"id": 1, "targets": [{"expr": "sum(up2)"}], "fieldConfig": {"defaults": {"color": {"mode": "fixed", "fixedColor": "#123456"},
          "custom": {"axisBorderShow": true, "axisColorMode": "series", "axisLabel": "Load", "showValues": true}}}},
        {"id": 2, "targets": [{"expr": "sum by (job) (up2)", "legendFormat": "{{job}}"}],
         "fieldConfig": {"defaults": {}, "overrides": [{"matcher": {"id": "byName", "options": "alpha"},
           "properties": [{"id": "custom.fillBelowTo", "value": "beta"}]}]}},
        {"id": 3, "targets": [{"expr": "sum(up2)"}], "fieldConfig": {"defaults": {"custom": {"drawStyle": "bars", "barMaxWidth": 2}}}},
        {"id": 4, "type": "stat", "targets": [{"expr": "sum(up2)"}], "options": {"showPercentChange": true}},
        {"id": 5, "type": "heatmap", "targets": [{"expr": "up2"}], "options": {"calculate": true, "yAxis": {"reverse": true}}}]}"##;
    std::fs::write(dir.path().join("o.json"), json).unwrap();
    let router = router(state(vec![dir.path().to_owned()]));
    for (panel, has) in [
        ("1", &["<line x1=", "stroke=\"#123456\"/>", "<font color=\"#123456\">Load</font>", "fill=\"#123456\">"][..]),
        ("2", &["fill-opacity=\"0.35\""]),
        ("3", &["class=\"marks\""]),
        ("4", &["<div class=\"change\">"]),
        ("5", &["heatmap of"]),
    ] {
        let (status, body) = get(&router, &format!("/d/o/panel/{panel}"));
        assert_eq!(status, 200, "{body}");
        for text in has {
            assert!(body.contains(text), "panel {panel} lacks {text:?}: {body}");
        }
    }
}

#[test]
fn every_public_dashboard_is_drawn_as_a_picture() {
    // All of them, and kept for a look, where this names a folder.
    let keep = std::env::var_os("DASHBOARD_PICTURES").map(PathBuf::from);
    let wanted = ["ml-model-monitoring.json", "tgi_grafana.json", "dcgm-exporter-dashboard.json", "grafana.json"];
    let files = corpus();
    let chosen =
        files.iter().filter(|f| keep.is_some() || wanted.iter().any(|w| f.file_name().is_some_and(|n| n == *w)));
    let dir = tempfile::tempdir().unwrap();
    for (i, file) in chosen.enumerate() {
        std::fs::copy(file, dir.path().join(format!("{i}.json"))).unwrap();
    }
    let state = state(vec![dir.path().to_owned()]);
    let router = router(state.clone());
    for entry in &state.0.settings.catalog(NOW).entries {
        let uid = &entry.dashboard.uid;
        let (status, svg) = get(&router, &format!("/render/d/{uid}?from=now-15m&to=now&format=svg&width=1200"));
        assert_eq!(status, 200, "{uid}: {svg}");
        if let Err(e) = roxmltree::Document::parse(&svg) {
            let at = svg.lines().nth(e.pos().row as usize - 1).unwrap_or("");
            let from = (e.pos().col as usize).saturating_sub(200);
            panic!("{uid}: {e}: {}", at.chars().skip(from).take(300).collect::<String>());
        }
        assert!(!svg.contains("NaN") && !svg.contains("currentColor"), "{uid}");
        if let Some(folder) = &keep {
            let name = entry.dashboard.title.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            std::fs::write(folder.join(format!("{name}.svg")), &svg).unwrap();
        }
    }
}

#[test]
fn pictures_and_snapshots_are_had_by_address() {
    let dir = tempfile::tempdir().unwrap();
    let json = include_str!("../testdata/golden.json");
    std::fs::write(dir.path().join("golden.json"), json).unwrap();
    let router = router(state(vec![dir.path().to_owned()]));
    #[track_caller]
    fn check(router: &Router, uri: &str, status: u16, has: &[&str]) {
        let (got, body) = get(router, uri);
        assert_eq!(got, status, "{uri}: {body}");
        for text in has {
            assert!(body.contains(text), "{uri} lacks {text:?} in {body}");
        }
    }
    let panel = "/render/d-solo/golden/x?panelId=1&format=svg";
    check(
        &router,
        &format!("{panel}&width=600&height=300&theme=light"),
        200,
        &["width=\"600\" height=\"300\"", "#ffffff"],
    );
    check(&router, &format!("{panel}&width=9000&height=9000&scale=1"), 400, &["32 million pixels", "ask for"]);
    check(&router, &format!("{panel}&width=9000&height=9000"), 200, &["width=\"9000\""]);
    check(&router, "/render/d-solo/golden?format=svg", 400, &["panelId is missing"]);
    check(&router, "/render/d-solo/golden?format=svg&panelId=99", 404, &["no panel 99"]);
    check(&router, "/render/d/none?format=svg", 404, &[]);
    check(&router, "/render/d/golden/x?format=svg&viewPanel=panel-1", 200, &["width=\"1000\" height=\"500\""]);
    check(&router, "/render/d/golden/x?format=svg&width=800&height=-1&tz=Asia/Tokyo", 200, &["width=\"800\""]);
    let inside = ["<style>", "script-src &#39;sha256-", "data-path=\"\"", "class=\"marks\"", "</html>"];
    check(&router, "/dashboard/snapshot/golden", 200, &[]);
    let snapshot = get(&router, "/dashboard/snapshot/golden").1.replace("&#x27;", "&#39;");
    for text in inside {
        assert!(snapshot.contains(text), "{text:?}");
    }
    assert!(!snapshot.contains("href=\"/") && !snapshot.contains("src=\"/"));
    check(
        &router,
        "/dashboard/share/golden?share-panel=1",
        200,
        &["/d-solo/golden/", "&#60;iframe", "/render/d-solo/"],
    );
}

/// Status and JSON of a request with a body.
fn send(router: &Router, method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> (u16, serde_json::Value) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    runtime.block_on(async {
        let mut request = axum::http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = call(router, request.body(axum::body::Body::from(body.to_owned())).unwrap()).await;
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 64 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(serde_json::Value::Null))
    })
}

#[test]
fn tools_manage_dashboards_folders_and_annotations() {
    let dir = tempfile::tempdir().unwrap();
    let router = router(state(vec![dir.path().to_owned()]));
    let ask = |method: &str, uri: &str, body: &str| send(&router, method, uri, &[], body);
    let (status, folder) = ask("POST", "/api/folders", r#"{"title": "Team"}"#);
    assert_eq!((status, folder["uid"].as_str()), (200, Some("team")));
    assert_eq!(ask("GET", "/api/folders/team", "").1["title"], "Team");

    let body = r#"{"dashboard": {"id": null, "uid": "tf", "title": "From a tool", "panels": []}, "folderUid": "team", "message": "m"}"#;
    let (status, saved) = ask("POST", "/api/dashboards/db", body);
    assert_eq!((status, saved["status"].as_str(), saved["version"].as_i64()), (200, Some("success"), Some(1)));
    assert_eq!(saved["url"], "/d/tf/from-a-tool");
    let (_, got) = ask("GET", "/api/dashboards/uid/tf", "");
    assert_eq!(
        (got["meta"]["folderUid"].as_str(), got["dashboard"]["id"].as_i64()),
        (Some("team"), saved["id"].as_i64())
    );
    let (status, conflict) = ask("POST", "/api/dashboards/db", body);
    assert_eq!((status, conflict["status"].as_str()), (412, Some("version-mismatch")));
    let again = body.replace("\"folderUid\"", "\"overwrite\": true, \"folderUid\"");
    assert_eq!(ask("POST", "/api/dashboards/db", &again).1["version"], 2);
    assert_eq!(ask("GET", "/api/dashboards/uid/tf/versions", "").1["versions"].as_array().unwrap().len(), 2);
    assert_eq!(ask("GET", "/api/dashboards/uid/tf/versions/1", "").1["data"]["title"], "From a tool");
    assert_eq!(ask("POST", "/api/dashboards/uid/tf/restore", r#"{"version": 1}"#).1["version"], 3);
    assert_eq!(ask("GET", "/api/search?folderUIDs=team&type=dash-db", "").1[0]["folderTitle"], "Team");

    let import = r#"{"dashboard": {"uid": "imp", "title": "I", "__inputs": [{"name": "VAR_X", "type": "constant", "value": "a"}],
        "panels": [{"targets": [{"expr": "m{x=\"${VAR_X}\"}"}]}]}, "inputs": [{"name": "VAR_X", "type": "constant", "value": "b"}]}"#;
    assert_eq!(ask("POST", "/api/dashboards/import", import).1["importedUrl"], "/d/imp/i");
    let (_, got) = ask("GET", "/api/dashboards/uid/imp", "");
    assert_eq!(got["dashboard"]["panels"][0]["targets"][0]["expr"], "m{x=\"b\"}");
    assert!(got["dashboard"].get("__inputs").is_none());

    let note = format!(r#"{{"dashboardUID": "tf", "time": {}, "text": "Deploy", "tags": ["ci"]}}"#, NOW - 60_000);
    let (_, added) = ask("POST", "/api/annotations", &note);
    assert_eq!(added["id"], 1);
    assert_eq!(ask("GET", "/api/annotations?dashboardUID=tf&tags=ci", "").1[0]["text"], "Deploy");
    assert_eq!(ask("PATCH", "/api/annotations/1", r#"{"text": "Rollback"}"#).0, 200);
    assert_eq!(ask("GET", "/api/annotations/1", "").1["text"], "Rollback");
    assert_eq!(ask("DELETE", "/api/annotations/1", "").0, 200);
    assert_eq!(ask("DELETE", "/api/annotations/1", "").0, 404);
    assert_eq!(ask("POST", "/api/datasources", "{}").0, 403);
    assert_eq!(ask("GET", "/api/datasources/name/Promontory", "").1["type"], "prometheus");

    // A page of another server may not; what is no JSON is said to be none.
    let cross = [("sec-fetch-site", "cross-site"), ("content-type", "application/json")];
    assert_eq!(send(&router, "POST", "/api/dashboards/db", &cross, &again).0, 403);
    let origin = [("origin", "http://evil.example"), ("host", "localhost:9090")];
    assert_eq!(send(&router, "DELETE", "/api/dashboards/uid/tf", &origin, "").0, 403);
    assert_eq!(send(&router, "POST", "/dashboard/delete/tf", &cross[..1], "").0, 403);
    let own = [("origin", "http://localhost:9090"), ("host", "localhost:9090")];
    assert_eq!(send(&router, "POST", "/api/dashboards/db", &own, &again).0, 200);
    assert_eq!(ask("POST", "/api/dashboards/db", "{").0, 400);

    assert_eq!(ask("DELETE", "/api/dashboards/uid/tf", "").1["title"], "From a tool");
    assert_eq!(ask("DELETE", "/api/dashboards/uid/tf", "").0, 404);
    assert_eq!(ask("DELETE", "/api/folders/team", "").0, 200);
    assert_eq!(ask("GET", "/api/folders", "").1.as_array().unwrap().len(), 0);
}

#[test]
fn panels_match_their_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let json = include_str!("../testdata/golden.json");
    std::fs::write(dir.path().join("golden.json"), json).unwrap();
    let router = router(state(vec![dir.path().to_owned()]));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dashboard/testdata");
    let mut wrong = Vec::new();
    for (id, name) in [(1, "lines"), (2, "stack"), (3, "stat"), (4, "gauge"), (5, "bars")] {
        let (_, got) = get(&router, &format!("/d/golden/panel/{id}?w=400&h=160&theme=dark&timezone=utc"));
        let file = folder.join(format!("{name}.html"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, &got).unwrap();
        }
        if std::fs::read_to_string(&file).unwrap_or_default() != got {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?} differ; look at them and run with UPDATE_GOLDEN=1");
}

#[test]
fn step_of_panels_follows_the_scrape_interval() {
    let options = |scrape_interval_ms| DashboardOptions {
        folders: Vec::new(),
        read_only: false,
        scrape_interval_ms,
        timeout_ms: 60_000,
        concurrency: 2,
    };
    let settings = Arc::new(DashboardSettings::new(options(15_000)));
    let clock = Arc::new(ManualClock::new(Timestamp(NOW)));
    let router = router(Dashboards::new(Arc::new(Synthetic), clock, settings.clone()));
    let page = |router: &Router| get(router, "/explore?expr=up&from=now-5m&to=now").1;
    let at_15s = page(&router);
    assert_eq!(at_15s, page(&router));
    settings.set(options(60_000));
    assert_ne!(at_15s, page(&router));
}
