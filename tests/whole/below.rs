//! Everything below a path, as `--web.external-url` asks for.

use std::collections::BTreeSet;

use crate::client::get;
use crate::server::{Server, flag};

/// Addresses in attributes of `page`, and whether they are there to be followed.
fn addresses(page: &str) -> Vec<(String, bool)> {
    let attributes =
        [("href=\"", true), ("src=\"", true), ("data-path=\"", true), ("action=\"", false), ("data-live=\"", false)];
    let found = attributes.iter().flat_map(|(name, follow)| {
        let values = page.match_indices(name).filter_map(|(at, name)| page[at + name.len()..].split('"').next());
        values.map(|address| (address.replace("&#38;", "&").replace("&amp;", "&"), *follow))
    });
    found.filter(|(address, _)| address.starts_with('/')).collect()
}

#[test]
fn pages_and_api_are_below_the_path_and_lead_to_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let data = flag("storage.tsdb.path", dir.path());
    let server = Server::start_below("/team/metrics", &["--web.external-url=https://x.example/team/metrics/", &data]);
    let asked = "/team/metrics/api/v1/query?query=up%7Bjob%3D%22promontory%22%7D";
    server.wait_until("a scrape of itself", || {
        get(server.addr, asked).is_ok_and(|r| r.status == 200 && r.text().contains("\"1\""))
    });
    let pages = ["dashboards", "explore", "targets", "service-discovery", "relabel", "status", "tsdb", "config"];
    let mut todo: Vec<String> = pages.iter().map(|page| format!("/team/metrics/{page}")).collect();
    let mut seen = BTreeSet::new();
    while let Some(path) = todo.pop() {
        // What stands behind a question mark is many, and the same page.
        if !seen.insert(path.split('?').next().unwrap_or_default().to_owned()) {
            continue;
        }
        let answer = get(server.addr, &path).unwrap();
        assert!(answer.status < 400, "{path}: {}", answer.status);
        let page = answer.text();
        for (address, follow) in addresses(&page).into_iter().filter(|_| page.starts_with("<!doctype html")) {
            assert!(address.starts_with("/team/metrics/"), "{path} leads to {address}");
            // Pictures of whole dashboards take their time.
            if follow && !address.contains("/render/") {
                todo.push(address);
            }
        }
    }
    assert!(seen.len() > 20, "{seen:?}");
    for path in ["/dashboards", "/api/v1/query?query=1", "/metrics", "/-/ready"] {
        assert_eq!(get(server.addr, path).unwrap().status, 404, "{path}");
    }
}
