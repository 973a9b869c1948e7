//! Dashboards made, imported, changed, compared, brought back and removed in the browser.

use serde_json::{Value, json};

use super::driver::Browser;
use super::{address, requests, server};
use crate::client;

const IMPORTED: &str = r#"{"__inputs": [
    {"name": "DS_PROMETHEUS", "label": "Prometheus", "type": "datasource", "pluginId": "prometheus"},
    {"name": "VAR_JOB", "label": "Job to watch", "type": "constant", "value": "api"}],
  "uid": "imported", "title": "Imported", "panels": [
    {"id": 1, "type": "timeseries", "title": "Requests", "gridPos": {"x": 0, "y": 0, "w": 24, "h": 8}, "datasource": "${DS_PROMETHEUS}",
     "targets": [{"expr": "requests{job=\"${VAR_JOB}\"}", "legendFormat": "{{path}}"}]}]}"#;

fn fill(browser: &Browser, selector: &str, text: &str) {
    browser.js(&format!(
        "const e = document.querySelector({}); e.value = {}; e.dispatchEvent(new Event('input', {{bubbles: true}}));",
        json!(selector),
        json!(text)
    ));
}

#[test]
fn a_dashboard_is_imported_edited_and_removed() {
    let Some(browser) = Browser::start() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = server(dir.path(), &requests(), &[]);
    let file = dir.path().join("dashboards/imported.json");

    // Import: paste, answer what the file asks, save.
    browser.goto(&format!("http://{}/dashboards", server.addr));
    browser.click("a[href='/dashboard/import']");
    browser.until_at("/dashboard/import", "return !!document.querySelector('textarea[name=json]')");
    fill(&browser, "textarea[name=json]", "{\"title\": ");
    browser.click("button.primary");
    browser.until("return !!document.querySelector('.query-error')");
    browser.expect_refusals_only();
    fill(&browser, "textarea[name=json]", IMPORTED);
    browser.click("button.primary");
    browser.until("return document.querySelector('input[name=\"input-VAR_JOB\"]')?.value === 'api'");
    fill(&browser, "input[name=\"input-VAR_JOB\"]", "web");
    browser.click("button.primary");
    browser.until_at("/d/imported/", "return document.querySelector('h1').innerText.includes('Imported')");
    assert!(file.exists());
    browser.goto(&address(&server, "/d/imported/x"));
    browser
        .until("return [...document.querySelectorAll('.legend .key')].map((k) => k.dataset.name).join() === '/x,/y'");

    // Edit: what is wrong is said at once, what is right is shown, and saved as a version.
    browser.goto(&address(&server, "/dashboard/edit/imported"));
    browser.until("return !!document.querySelector('#preview .panel .canvas')");
    let text = browser.text("return document.querySelector('textarea[name=json]').value");
    fill(&browser, "textarea[name=json]", "{\"title\": \"x\", }");
    browser.until("return document.querySelector('#verdict')?.innerText.includes('1:16')");
    let mut changed: Value = serde_json::from_str(&text).expect("the editor holds JSON");
    changed["panels"][0]["title"] = json!("Requests per path");
    fill(&browser, "textarea[name=json]", &changed.to_string());
    browser.until("return document.querySelector('#preview .panel h2')?.innerText === 'Requests per path'");
    fill(&browser, "input[name=message]", "a better title");
    browser.click("button[value=save]");
    browser.until_at("/d/imported/", "return document.querySelector('.panel h2').innerText === 'Requests per path'");

    // Versions: what changed, and back.
    browser.goto(&address(&server, "/dashboard/versions/imported"));
    browser.until("return document.body.innerText.includes('a better title')");
    browser.until(
        "return [...document.querySelectorAll('.diff ins')].some((l) => l.innerText.includes('Requests per path'))",
    );
    browser.click("button[value='1']");
    browser.until_at("/d/imported/", "return document.querySelector('.panel h2').innerText === 'Requests'");

    // Duplicate: a copy under another uid.
    browser.goto(&address(&server, "/dashboard/new?copy=imported"));
    browser.until("return document.querySelector('textarea[name=json]').value.includes('Imported copy')");
    browser.click("button[value=save]");
    browser.until("return location.pathname.startsWith('/d/') && !location.pathname.startsWith('/d/imported/')");
    browser.until("return document.querySelector('h1').innerText.includes('Imported copy')");

    // Remove.
    browser.goto(&address(&server, "/dashboard/versions/imported"));
    browser.click("details.remove summary");
    browser.click("details.remove button");
    browser.until_at("/dashboards", "return document.body.innerText.includes('Imported copy')");
    assert!(!file.exists());
    assert_eq!(client::get(server.addr, "/d/imported").expect("an answer").status, 404);
    browser.expect_quiet();
}
