//! Texts of strangers: label values, legends, Markdown, links and members of the JSON that try to run something.

use serde_json::{Value, json};

use super::driver::Browser;
use super::{address, gauges, server};

/// What runs when any of it does.
const RUN: &str = "window.ran=(window.ran||0)+1";

/// Texts that run `RUN` where they become markup, an attribute or a script.
fn attacks() -> Vec<String> {
    vec![
        format!("<script>{RUN}</script>"),
        format!("</script><script>{RUN}</script>"),
        format!("</title></textarea></style><script>{RUN}</script>"),
        format!("<img src=x onerror={RUN}>"),
        format!("\"><svg onload={RUN}>"),
        format!("' autofocus onfocus={RUN} x='"),
        format!("javascript:{RUN}"),
        format!("--><svg/onload={RUN}//"),
        format!("{{{{constructor.constructor('{RUN}')()}}}}"),
    ]
}

/// Links that would run when clicked.
fn links() -> Vec<String> {
    vec![
        format!("javascript:{RUN}"),
        format!("JaVaScRiPt:{RUN}"),
        format!(" \tjavascript:{RUN}"),
        format!("java\nscript:{RUN}"),
        format!("javascript&#58;{RUN}"),
        format!("&#x6a;avascript:{RUN}"),
        format!("data:text/html,<script>{RUN}</script>"),
        format!("vbscript:{RUN}"),
        format!("//x\"onclick={RUN} \""),
    ]
}

fn panels(attacks: &[String], links: &[String]) -> Vec<Value> {
    let mut out = Vec::new();
    let kinds = [
        "timeseries",
        "stat",
        "gauge",
        "bargauge",
        "table",
        "piechart",
        "state-timeline",
        "barchart",
        "heatmap",
        "text",
    ];
    for (i, (attack, kind)) in attacks.iter().cycle().zip(kinds.iter().cycle()).take(kinds.len() * 2).enumerate() {
        let link = &links[i % links.len()];
        let markdown =
            links.iter().map(|l| format!("[x]({l}) ![x]({l}) <{l}> <a href=\"{l}\">y</a>\n\n")).collect::<String>();
        let is_table = *kind == "table";
        out.push(json!({
            "id": i + 1, "type": kind, "title": attack, "description": format!("{attack} [x]({link})"),
            "gridPos": {"x": (i % 3) * 8, "y": (i / 3) * 8, "w": 8, "h": 8},
            "links": [{"title": attack, "url": link}],
            "options": {"content": format!("{attack}\n\n{markdown}"), "mode": if i % 2 == 0 { "markdown" } else { "html" },
                "legend": {"displayMode": "table", "calcs": ["last", attack]}, "prefix": attack,
                "textMode": "value_and_name", "reduceOptions": {"calcs": ["lastNotNull"]}},
            "fieldConfig": {"defaults": {
                "unit": if i % 2 == 0 { attack.clone() } else { format!("prefix:{attack}") }, "displayName": if i % 3 == 0 { attack.as_str() } else { "" },
                "noValue": attack, "color": {"mode": "fixed", "fixedColor": attack},
                "thresholds": {"steps": [{"color": attack, "value": null}]},
                "mappings": [{"type": "range", "options": {"from": 0, "to": 1, "result": {"text": attack, "color": attack}}}],
                "links": [{"title": attack, "url": link}, {"title": "label", "url": "${__field.labels.text}"},
                    {"title": "value", "url": "${__value.text}"}],
                "custom": {"axisLabel": attack, "axisPlacement": attack, "drawStyle": "line", "fillOpacity": 10,
                    "lineStyle": {"fill": "dash", "dash": [attack]},
                    "cellOptions": {"type": if i % 2 == 0 { "image" } else { attack.as_str() }}}},
              "overrides": [{"matcher": {"id": "byRegexp", "options": attack}, "properties": [{"id": attack, "value": attack}]}]},
            "targets": [{"refId": attack, "expr": "hostile", "legendFormat": "{{text}}", "format": if is_table { "table" } else { "time_series" },
                "instant": is_table}],
        }));
    }
    out
}

#[test]
fn texts_of_strangers_run_nothing() {
    let Some(browser) = Browser::start() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (attacks, links) = (attacks(), links());
    let quoted = |t: &String| t.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels: Vec<String> = attacks.iter().chain(&links).map(|t| format!("text=\"{}\"", quoted(t))).collect();
    let series: Vec<(&str, f64)> = labels.iter().map(|l| (l.as_str(), 0.0001)).collect();
    let options = attacks.iter().map(|a| a.replace(',', "\\,")).collect::<Vec<_>>().join(",");
    let dashboard = json!({
        "uid": "hostile", "title": attacks[2], "description": attacks[0], "tags": attacks, "refresh": attacks[1],
        "timezone": attacks[3], "panels": panels(&attacks, &links),
        "links": links.iter().map(|l| json!({"title": attacks[0], "url": l})).collect::<Vec<_>>(),
        "annotations": {"list": [{"name": attacks[3], "expr": "hostile", "iconColor": attacks[4], "textFormat": "{{text}}", "titleFormat": attacks[0]}]},
        "templating": {"list": [
            {"name": "text", "label": attacks[3], "type": "query", "query": "label_values(hostile, text)", "includeAll": true, "multi": true},
            {"name": "custom", "type": "custom", "query": options},
            {"name": "box", "type": "textbox", "query": attacks[4]}]},
    });
    let server = server(dir.path(), &gauges("hostile", &series), &[("hostile.json", &dashboard.to_string())]);
    let pages = [
        "/d/hostile/x".to_owned(),
        "/d/hostile/x?theme=light&viewPanel=1".to_owned(),
        "/d/hostile/panel/1/inspect".to_owned(),
        "/d/hostile/panel/5/inspect".to_owned(),
        "/d-solo/hostile/x?panelId=2".to_owned(),
        "/dashboards".to_owned(),
        format!("/dashboards?query={}", encode(&attacks[1])),
        format!("/dashboards?tag={}", encode(&attacks[4])),
        format!("/explore?expr={}", encode(&attacks[1])),
        "/explore?expr=hostile".to_owned(),
        "/explore?expr=hostile&tab=table".to_owned(),
        format!("/d/{}", encode(&attacks[3])),
        format!(
            "/d/hostile/x?var-box={}&var-custom={}&from={}",
            encode(&attacks[4]),
            encode(&attacks[5]),
            encode(&attacks[3])
        ),
    ];
    for page in &pages {
        browser.goto(&address(&server, page));
        if browser.js("return !!document.querySelector('.canvas')") == json!(true) {
            browser.hover(".canvas", 0.5, 0.5);
            browser.until("return !!document.querySelector('.tip')");
        }
        browser.js("document.querySelectorAll('details').forEach((d) => { d.open = true; })");
        // Focus everything: an attribute that slipped in would fire.
        browser.js("document.querySelectorAll('a,button,input,select').forEach((e) => e.focus())");
        let schemes = "return [...document.querySelectorAll('a[href],area[href]')].filter((a) => !/^(https?:|mailto:)?$/.test(a.protocol) && a.protocol !== ':')
            .map((a) => a.outerHTML).concat([...document.querySelectorAll('iframe,object,embed,base,form[action*=\"script:\"]')].map((e) => e.outerHTML)).join(' ')";
        assert_eq!(browser.text(schemes), "", "{page}");
        let handlers = "return [...document.querySelectorAll('*')].filter((e) => [...e.attributes].some((a) => a.name.startsWith('on'))).map((e) => e.outerHTML).join(' ')";
        assert_eq!(browser.text(handlers), "", "{page}");
        assert_eq!(browser.text("return String(window.ran)"), "undefined", "{page}");
        browser.expect_refusals_only();
    }
}

fn encode(text: &str) -> String {
    crate::client::with_params("", &[("x", text)]).split_off(3)
}
