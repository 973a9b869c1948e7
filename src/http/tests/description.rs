//! The OpenAPI description against the handlers.

use super::*;
use crate::http::{routes, schema};

/// Values with which each endpoint succeeds.
fn example(name: &str) -> &'static str {
    match name {
        "query" => "m",
        "match[]" | "search[]" => "m",
        "start" => "10",
        "end" => "50",
        "step" => "20",
        "time" => "45",
        "timeout" | "lookback_delta" => "5s",
        "limit" | "limit_per_metric" => "5",
        "stats" => "all",
        "scrapePool" => "x",
        "labels" => "%7B%22a%22%3A%22b%22%7D",
        "state" => "any",
        "type" => "alert",
        "metric" => "a",
        "match_target" => "%7Bjob%3D%22x%22%7D",
        "metric_name_pattern" => "up",
        "openapi_version" => "3.2",
        "skip_head" | "case_sensitive" | "include_score" | "include_metadata" => "true",
        "fuzz_threshold" | "batch_size" => "5",
        "fuzz_alg" => "jarowinkler",
        "sort_by" => "alpha",
        "sort_dir" => "dsc",
        "label" => "i",
        other => panic!("no example of {other}"),
    }
}

fn query(params: &[routes::Param], is_wanted: impl Fn(&routes::Param) -> bool) -> String {
    let pairs = params.iter().filter(|p| is_wanted(p)).map(|p| format!("{}={}", p.name, example(p.name)));
    pairs.collect::<Vec<_>>().join("&")
}

/// `None` for what the admin of these tests refuses.
async fn ask(w: &World, endpoint: &routes::Endpoint, method: &str, query: &str) -> Option<Answer> {
    let path = format!("/api/v1{}", endpoint.path.replace("{name}", "i"));
    let answer = match (method, endpoint.methods) {
        ("post", routes::Methods::GetPost) => w.post(&path, query).await,
        _ => {
            let request = Request::builder().method(method.to_uppercase().as_str()).uri(format!("{path}?{query}"));
            w.send(request.body(Body::empty()).unwrap()).await
        }
    };
    let is_refused = endpoint.path.ends_with("clean_tombstones") && answer.status == 500;
    (!is_refused).then_some(answer)
}

#[tokio::test]
async fn answers_are_as_described_with_all_parameters_and_with_those_that_must_be() {
    let w = world();
    for (endpoint, _) in routes::served() {
        if endpoint.path == "/notifications/live" {
            continue;
        }
        for method in endpoint.methods.names() {
            for query in [query(endpoint.params, |_| true), query(endpoint.params, |p| p.is_required)] {
                let Some(answer) = ask(&w, &endpoint, method, &query).await else { continue };
                let place = format!("{method} {}?{query}", endpoint.path);
                let (data, status) = match endpoint.answer {
                    routes::Answer::Data(data) | routes::Answer::DataOrNothing(data) => (Some(data()), 200),
                    routes::Answer::Nothing => (None, 204),
                    routes::Answer::Other(media) => {
                        assert!(answer.header("content-type").starts_with(media), "{place}");
                        (None, 200)
                    }
                };
                assert_eq!(answer.status, status, "{place}: {}", answer.text());
                if let Some(data) = data {
                    let found = schema::violations(&schema::envelope(data), &answer.json(), "");
                    assert_eq!(found, Vec::<String>::new(), "{place}: {}", answer.text());
                }
            }
        }
    }
}

#[tokio::test]
async fn what_must_be_is_missed_and_other_methods_are_refused() {
    let w = world();
    for (endpoint, _) in routes::served() {
        for method in ["get", "post", "put", "delete"] {
            let is_allowed = endpoint.methods.names().contains(&method);
            let full = query(endpoint.params, |_| true);
            if !is_allowed {
                let answer = ask(&w, &endpoint, method, &full).await.unwrap();
                assert_eq!(answer.status, 405, "{method} {}", endpoint.path);
                continue;
            }
            for missed in endpoint.params.iter().filter(|p| p.is_required) {
                let query = query(endpoint.params, |p| p.is_required && p.name != missed.name);
                let answer = ask(&w, &endpoint, method, &query).await.unwrap();
                let place = format!("{method} {} without {}", endpoint.path, missed.name);
                assert_eq!(answer.status, 400, "{place}: {}", answer.text());
                assert_eq!(schema::violations(&schema::failure(), &answer.json(), ""), Vec::<String>::new(), "{place}");
            }
        }
    }
}

#[tokio::test]
async fn descriptions_are_served_in_both_forms_before_there_is_data() {
    let w = world();
    w.backend.starting.store(true, Ordering::SeqCst);
    let json = w.get("/api/v1/openapi.json").await.json();
    assert_eq!((json["openapi"].as_str(), json["paths"]["/query"]["post"].is_object()), (Some("3.1.0"), true));
    let yaml = w.get("/api/v1/openapi.yaml?openapi_version=3.2").await;
    assert!(yaml.text().starts_with("openapi: \"3.2.0\"\ninfo:\n"), "{}", yaml.text());
    assert_eq!(w.get("/api/v1/openapi.yaml?openapi_version=4").await.status, 400);
    assert_eq!(w.get("/api/v1/query?query=1").await.status, 503);
}

#[tokio::test]
async fn notifications_are_followed_by_as_many_as_allowed() {
    let w = world();
    let live = || Request::get("/api/v1/notifications/live").body(Body::empty()).unwrap();
    let service = TowerToHyperService::new(w.router.clone());
    let response = service.call(live()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "data: {\"text\":\"disk full\",\"date\":\"1970-01-01T00:00:01.5Z\",\"active\":true}\n\n");
    assert_eq!(w.send(live()).await.status, 204, "the only place is taken");
    w.backend.stopping.store(true, Ordering::SeqCst);
    assert!(body.frame().await.is_none(), "ends with the server");
}

#[tokio::test]
async fn own_metrics_are_chosen_by_whole_names() {
    let w = world();
    let names = |answer: &Answer| -> Vec<String> {
        let all = answer.json()["data"].as_array().unwrap().clone();
        all.iter().map(|f| f["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&w.get("/api/v1/status/self_metrics").await), ["up", "down"]);
    assert_eq!(names(&w.get("/api/v1/status/self_metrics?metric_name_pattern=u.").await), ["up"]);
    assert_eq!(w.get("/api/v1/status/self_metrics?metric_name_pattern=(").await.status, 400);
    let features = w.get("/api/v1/features").await.json();
    assert_eq!(features["data"]["promql_functions"]["rate"], true);
    assert_eq!(features["data"]["tsdb"]["isolation"], true);
}
