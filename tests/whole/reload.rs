//! What a reload of the configuration changes while the server runs.

use std::path::Path;

use serde_json::Value;

use crate::client;
use crate::server::{Server, flag};

/// Writes a folder with one dashboard.
fn dashboard(folder: &Path, uid: &str) {
    std::fs::create_dir(folder).expect("a writable folder");
    let text = format!(r#"{{"uid":"{uid}","title":"Title of {uid}","panels":[]}}"#);
    std::fs::write(folder.join("d.json"), text).expect("a writable folder");
}

fn has(server: &Server, uid: &str) -> bool {
    let found = client::get(server.addr, "/api/search").expect("an answer").json();
    found.as_array().is_some_and(|all| all.iter().any(|d: &Value| d["uid"] == uid))
}

#[test]
fn folders_of_dashboards_follow_a_reload() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("prometheus.yml");
    let configure = |folder: &str| {
        let text = format!("dashboards:\n  paths: ['{}']\n", dir.path().join(folder).display());
        std::fs::write(&file, text).expect("a writable folder");
    };
    for name in ["old", "new"] {
        dashboard(&dir.path().join(name), name);
    }
    configure("old");
    let data = flag("storage.tsdb.path", &dir.path().join("data"));
    let server = Server::start(&[&flag("config.file", &file), &data, "--web.enable-lifecycle"]);
    assert!(has(&server, "old") && !has(&server, "new"));

    configure("new");
    let answer = client::request(server.addr, "POST", "/-/reload", &[], &[]).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(has(&server, "new") && !has(&server, "old"));
    assert_eq!(client::get(server.addr, "/d/new").expect("an answer").status, 200);
    assert_eq!(server.terminate(), 0);
}
