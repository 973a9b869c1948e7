//! The pages as a person uses them: in Chromium, with mouse and keyboard.
//!
//! Every test ends with a look at the console, which holds errors of the script and breaches of the page's policy.

mod driver;
mod edit;
mod hostile;

use std::path::Path;
use std::process::{Command, Stdio};

use crate::server::{Server, flag};
use driver::Browser;

/// When the samples begin, and for how long they go on, seconds.
const START_S: i64 = 1_700_000_000;
const LENGTH_S: i64 = 3_600;

/// A server with `samples` (lines of OpenMetrics) in its database and `dashboards` in its folder.
fn server(dir: &Path, samples: &str, dashboards: &[(&str, &str)]) -> Server {
    let (data, folder) = (dir.join("data"), dir.join("dashboards"));
    std::fs::create_dir_all(&folder).expect("a writable folder");
    for (name, text) in dashboards {
        std::fs::write(folder.join(name), text).expect("a writable folder");
    }
    let file = dir.join("samples.om");
    std::fs::write(&file, format!("{samples}# EOF\n")).expect("a writable folder");
    let imported = Command::new(env!("CARGO_BIN_EXE_promontory"))
        .args(["tsdb", "import", "--format", "openmetrics"])
        .args([&file, &data])
        .stdout(Stdio::null())
        .status()
        .expect("the binary starts");
    assert!(imported.success(), "samples are imported");
    let config = dir.join("prometheus.yml");
    std::fs::write(&config, "global: {scrape_interval: 15s}\n").expect("a writable folder");
    Server::start(&[
        &flag("config.file", &config),
        &flag("storage.tsdb.path", &data),
        &flag("dashboards.path", &folder),
        "--storage.tsdb.retention.time=100y",
    ])
}

/// A sample every 15 s for an hour, for each labels and slope.
fn gauges(name: &str, series: &[(&str, f64)]) -> String {
    let mut out = format!("# TYPE {name} gauge\n");
    for (labels, slope) in series {
        for t in (0..=LENGTH_S).step_by(15) {
            out += &format!("{name}{{{labels}}} {} {}\n", 1.0 + slope * t as f64, START_S + t);
        }
    }
    out
}

fn address(server: &Server, path: &str) -> String {
    let joint = if path.contains('?') { '&' } else { '?' };
    format!("http://{}{path}{joint}from={}000&to={}000", server.addr, START_S, START_S + LENGTH_S)
}

const HAND: &str = r#"{"uid": "hand", "title": "By hand", "templating": {"list": [
    {"name": "job", "type": "query", "query": "label_values(requests, job)", "refresh": 1, "sort": 1},
    {"name": "path", "type": "query", "query": "label_values(requests{job=\"$job\"}, path)", "refresh": 1, "sort": 1, "multi": true, "includeAll": true}]},
  "panels": [
    {"id": 1, "type": "timeseries", "title": "Requests of $job", "gridPos": {"x": 0, "y": 0, "w": 12, "h": 8},
     "options": {"tooltip": {"mode": "multi", "sort": "desc"}},
     "targets": [{"expr": "sum by (path) (requests{job=\"$job\", path=~\"$path\"})", "legendFormat": "{{path}}"}]},
    {"id": 2, "type": "stat", "title": "Last", "gridPos": {"x": 12, "y": 0, "w": 12, "h": 8}, "targets": [{"expr": "sum(requests{job=\"$job\"})"}]},
    {"id": 10, "type": "row", "title": "Details", "gridPos": {"y": 8}},
    {"id": 3, "type": "table", "title": "Table", "gridPos": {"x": 0, "y": 9, "w": 24, "h": 8},
     "targets": [{"expr": "requests{job=\"$job\"}", "format": "table", "instant": true}]}]}"#;

fn requests() -> String {
    gauges(
        "requests",
        &[
            ("job=\"api\",path=\"/a\"", 0.01),
            ("job=\"api\",path=\"/b\"", 0.02),
            ("job=\"web\",path=\"/x\"", 0.03),
            ("job=\"web\",path=\"/y\"", 0.04),
        ],
    )
}

const PANELS: &str = "return [...document.querySelectorAll('.panel')].map((p) => p.dataset.key).join()";

#[test]
fn a_dashboard_is_used_by_hand() {
    let Some(browser) = Browser::start() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = server(dir.path(), &requests(), &[("hand.json", HAND)]);
    browser.goto(&address(&server, "/d/hand/by-hand"));
    assert_eq!(browser.text(PANELS), "1,2,3");

    // Hover: all series, the largest first, at the place of the mouse.
    browser.hover("#panel-1 .canvas", 0.5, 0.5);
    browser.until(
        "return !!document.querySelector('.tip .near') && document.querySelectorAll('#panel-1 .cross').length === 1",
    );
    let tip =
        browser.text("return [...document.querySelectorAll('.tip td:nth-child(2)')].map((e) => e.innerText).join()");
    assert_eq!(tip, "/b,/a");
    browser.hover("h1", 0.5, 0.5);
    browser.until("return !document.querySelector('.tip, .cross')");

    // Zoom: drag a part of the window, and back by a double click.
    browser.drag("#panel-1 .canvas", 0.25, 0.5);
    browser.until("return !location.search.includes('from=1700000000000') && document.readyState === 'complete'");
    let from: i64 = browser.text("return new URL(location).searchParams.get('from')").parse().expect("a time");
    assert!((from - (START_S + LENGTH_S / 4) * 1000).abs() < 60_000, "{from}");
    browser.until("return !!document.querySelector('#panel-1 .canvas')");
    browser.double_click("#panel-1 .canvas");
    browser.until_at("from=1700000000000", "return !!document.querySelector('#panel-1 .canvas')");

    // A variable, and the one that depends on it.
    browser.js("const s = document.querySelector('#var-job'); s.value = 'web'; s.dispatchEvent(new Event('change', {bubbles: true}));");
    browser.until_at("var-job=web", "return document.querySelector('#panel-1 h2').innerText === 'Requests of web'");
    let options = "return [...document.querySelectorAll('.multi input[type=checkbox]')].map((i) => i.value).join()";
    assert_eq!(browser.text(options), "$__all,/x,/y");
    browser.click(".multi summary");
    browser.js("document.querySelector('.multi input[value=\"/x\"]').click()");
    browser.click("h1");
    browser.until_at("var-path=%2Fx", "return document.querySelectorAll('#panel-1 .marks g').length === 1");
    browser.goto(&address(&server, "/d/hand/by-hand"));

    // The legend: one series alone, then all again.
    browser.click("#panel-1 .legend li:first-child .key");
    browser.until("return document.querySelectorAll('#panel-1 .marks g').length === 1");
    browser.until("return document.querySelectorAll('#panel-1 .legend .off').length === 1");
    browser.click("#panel-1 .legend li:first-child .key");
    browser.until("return document.querySelectorAll('#panel-1 .marks g').length === 2");

    // Refresh: the inside of every panel is new, the page stays, and no panel is empty meanwhile.
    browser.js("document.querySelectorAll('.panel .body').forEach((b) => { b.dataset.old = 1; });
        window.emptied = 0; new MutationObserver(() => { if (!document.querySelector('#panel-1 .canvas')) window.emptied++; })
          .observe(document.querySelector('#dash'), {childList: true, subtree: true});");
    browser.keys("dr");
    browser.until("return !document.querySelector('[data-old]')");
    assert_eq!(browser.text("return window.emptied"), "0");
    browser.js("document.querySelectorAll('.panel .body').forEach((b) => { b.dataset.old = 1; })");
    browser.click("[data-do=refresh]");
    browser.until("return !document.querySelector('[data-old]')");

    // A table's order, within the page.
    browser.click("#panel-3 th:last-child a");
    browser.until("return document.querySelector('#panel-3 [aria-sort]')?.getAttribute('aria-sort') === 'ascending'");

    // A row closes and opens.
    browser.click("h2.row a");
    browser.until_at("toggle=10", "return !document.querySelector('#panel-3')");
    browser.click("h2.row a");
    browser.until("return !location.search.includes('toggle') && !!document.querySelector('#panel-3')");

    // One panel alone, and back by the keyboard.
    browser.click("#panel-1 h2 a");
    browser.until_at("viewPanel=1", "return document.querySelectorAll('.panel').length === 1");
    browser.keys("\u{e00c}");
    browser.until("return !location.search.includes('viewPanel') && document.querySelectorAll('.panel').length === 3");
    browser.keys("?");
    browser.until("return !!document.querySelector('dialog[open]')");
    browser.keys("\u{e00c}");
    browser.until("return !document.querySelector('dialog[open]')");

    // A phone: one column, nothing wider than the screen.
    browser.resize(500, 900);
    browser.goto(&address(&server, "/d/hand/by-hand"));
    browser.until("return document.documentElement.scrollWidth <= innerWidth");
    browser.resize(1440, 900);
    browser.expect_quiet();
}

const STATES: &str = r#"{"uid": "states", "title": "States", "panels": [
    {"id": 1, "type": "state-timeline", "title": "States", "gridPos": {"x": 0, "y": 0, "w": 24, "h": 8},
     "fieldConfig": {"defaults": {"mappings": [{"type": "value", "options": {"1": {"text": "fine", "color": "green"}}}]}},
     "targets": [{"expr": "healthy", "legendFormat": "{{job}}"}]}]}"#;

#[test]
fn states_are_told_and_a_page_follows_its_interval() {
    let Some(browser) = Browser::start() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let samples = gauges("healthy", &[("job=\"a\"", 0.0), ("job=\"b\"", 0.0)]);
    let server = server(dir.path(), &samples, &[("states.json", STATES)]);
    browser.goto(&address(&server, "/d/states/x?refresh=1s"));
    browser.until("return document.querySelectorAll('.texts text').length === 2");
    assert_eq!(browser.text("return document.querySelector('.legend').innerText.trim()"), "fine");

    // The page asks for its panels again by itself.
    browser.js("document.querySelector('#panel-1 .body').dataset.old = 1");
    browser.until("return !document.querySelector('[data-old]')");

    // Under the mouse: the series, its state, and how long it lasts.
    browser.goto(&address(&server, "/d/states/x?theme=dark"));
    browser.hover("#panel-1 .canvas", 0.5, 0.25);
    browser.until("return document.querySelector('.tip')?.innerText.includes('fine for 1h')");
    assert_eq!(browser.text("return document.querySelector('.tip td:nth-child(2)').innerText"), "a");

    // Light and dark, as the reader turns them.
    let back = "return getComputedStyle(document.body.parentElement).backgroundColor";
    let before = browser.text(back);
    browser.goto(&address(&server, "/d/states/x?theme=light"));
    assert_ne!(browser.text(back), before);
    browser.click("[data-do=theme]");
    browser.until("return !location.search.includes('theme') && document.documentElement.dataset.theme === 'dark'");
    browser.expect_quiet();
}

#[test]
fn explore_completes_and_answers() {
    let Some(browser) = Browser::start() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = server(dir.path(), &requests(), &[]);
    browser.goto(&address(&server, "/explore"));
    let first = "return document.querySelector('.complete [aria-selected=true]')?.dataset.value";
    browser.click("[data-promql]");
    browser.keys("requ");
    browser.until(&format!("{first} === 'requests'"));
    browser.keys("\u{e007}{jo");
    browser.until(&format!("{first} === 'job'"));
    browser.keys("\u{e007}=\"");
    browser.until(&format!("{first} === 'api'"));
    browser.keys("\u{e015}\u{e007}\"}");
    assert_eq!(browser.text("return document.querySelector('[data-promql]').value"), "requests{job=\"web\"}");
    browser.js("document.querySelector('#explore .primary').click()");
    browser.until_at("expr=requests", "return document.querySelectorAll('.marks g').length === 2");
    browser.hover(".canvas", 0.3, 0.5);
    browser.until("return !!document.querySelector('.tip')");

    // What is no PromQL is marked where it goes wrong.
    browser.goto(&address(&server, "/explore?expr=sum(requests"));
    browser.until("return !!document.querySelector('.query-error') && !document.querySelector('.canvas')");
    browser.expect_quiet();
}

#[test]
fn the_browser_keeps_stars_and_queries() {
    let Some(browser) = Browser::start() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = server(dir.path(), &requests(), &[("hand.json", HAND)]);
    // A star of a dashboard's page narrows the list, and goes again there.
    browser.goto(&address(&server, "/d/hand/by-hand"));
    browser.click("[data-star=hand]");
    browser.until("return document.querySelector('[data-star]').getAttribute('aria-pressed') === 'true'");
    browser.goto(&format!("http://{}/dashboards", server.addr));
    let shown = "return [...document.querySelectorAll('.dash-list li')].filter((l) => l.offsetHeight).length";
    assert_ne!(browser.text(shown), "1");
    browser.click("[data-do=starred]");
    browser.until(&format!("{shown} === 1"));
    browser.click("[data-star=hand]");
    browser.until(&format!("{shown} === 0 && document.querySelector('#no-stars').offsetHeight > 0"));
    browser.click("[data-do=starred]");
    browser.until(&format!("{shown} > 1"));

    // Queries that ran are found again, the last one first; those that failed are not kept.
    let link = |expr: &str| format!("{}&expr={expr}", address(&server, "/explore"));
    for expr in ["requests", "sum(requests)", "sum(requests", "requests"] {
        browser.goto(&link(expr));
    }
    let past = "return [...document.querySelectorAll('#history .all a')].map((a) => a.innerText).join()";
    browser.click("#history summary");
    browser.until(&format!("{past} === 'requests,sum(requests)'"));
    browser.click("#history .all a:last-child");
    browser.until_at("expr=sum%28requests%29", "return document.querySelectorAll('.marks g').length === 1");
    browser.click("#history summary");
    browser.click("[data-do=forget]");
    browser.until(&format!("{past} === ''"));

    // The metrics that there are, with their types; a word narrows them, Enter takes the first.
    browser.goto(&address(&server, "/explore"));
    browser.click("#metrics summary");
    browser.until("return document.querySelector('#metrics .all a')?.innerText.startsWith('requests')");
    browser.keys("no such");
    browser.until("return !document.querySelector('#metrics .all a')");
    browser.keys("\u{e003}\u{e003}\u{e003}\u{e003}\u{e003}\u{e003}\u{e003}req\u{e007}");
    browser.until_at("expr=requests", "return document.querySelectorAll('.marks g').length === 4");
    browser.expect_quiet();
}

#[test]
fn the_policy_of_pages_holds() {
    let Some(browser) = Browser::start() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = server(dir.path(), &requests(), &[("hand.json", HAND)]);
    browser.goto(&address(&server, "/d/hand/by-hand"));
    browser.expect_quiet();
    browser.js("const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s);
        document.body.insertAdjacentHTML('beforeend', '<img src=/static/none onerror=\"window.ran = 1\"><i style=\"position:fixed\" id=styled></i>');");
    browser.until("return performance.getEntriesByName(location.origin + '/static/none').length > 0");
    assert_eq!(browser.text("return String(window.ran)"), "undefined");
    assert_eq!(browser.text("return getComputedStyle(document.querySelector('#styled')).position"), "static");
    assert!(browser.console().len() >= 3, "each breach is told");
}
