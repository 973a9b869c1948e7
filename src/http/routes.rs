//! The routes below `/api/v1`: one table, from which the router and the OpenAPI description come.

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, get, on};
use serde_json::{Value, json};

use super::{
    Http, admin, exemplars, features, language, layers, notifications, openapi, query, schema, search, series, status,
};

/// What a client may do at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Methods {
    Get,
    /// Parameters stand in the address or in a form.
    GetPost,
    Post,
    PostPut,
}

impl Methods {
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Get => &["get"],
            Self::GetPost => &["get", "post"],
            Self::Post => &["post"],
            Self::PostPut => &["post", "put"],
        }
    }
}

/// What a parameter holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Query,
    /// May be there several times.
    Selectors,
    /// The same.
    Texts,
    Switch,
    Time,
    Duration,
    Count,
    OneOf(&'static [&'static str]),
}

/// A parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Param {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) is_required: bool,
    pub(crate) about: &'static str,
}

const fn may(name: &'static str, kind: Kind, about: &'static str) -> Param {
    Param { name, kind, is_required: false, about }
}

const fn must(name: &'static str, kind: Kind, about: &'static str) -> Param {
    Param { name, kind, is_required: true, about }
}

/// What a successful answer is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// The envelope around data of this schema.
    Data(fn() -> Value),
    /// The envelope, or no content where there is nothing to say.
    DataOrNothing(fn() -> Value),
    /// No content.
    Nothing,
    /// Another type of content.
    Other(&'static str),
}

/// A path below `/api/v1`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoint {
    pub(crate) path: &'static str,
    pub(crate) methods: Methods,
    pub(crate) tag: &'static str,
    pub(crate) about: &'static str,
    pub(crate) params: &'static [Param],
    pub(crate) answer: Answer,
    /// Whether it also answers before there is data.
    pub(crate) is_early: bool,
}

const QUERY: Param = must("query", Kind::Query, "PromQL expression");
const TIME: Param = may("time", Kind::Time, "evaluation time; now when left out");
const START: Param = must("start", Kind::Time, "first step");
const END: Param = must("end", Kind::Time, "last step");
const STEP: Param = must("step", Kind::Duration, "time between two steps");
const TIMEOUT: Param = may("timeout", Kind::Duration, "longest time that the query may take");
const LOOKBACK: Param = may("lookback_delta", Kind::Duration, "how far an instant selector looks back");
const STATS: Param = may("stats", Kind::OneOf(&["true", "all"]), "adds statistics of the query");
const LIMIT: Param = may("limit", Kind::Count, "most results; 0 is without limit");
const FROM: Param = may("start", Kind::Time, "only what has samples at or after this time");
const TO: Param = may("end", Kind::Time, "only what has samples at or before this time");
const MATCH: Param = may("match[]", Kind::Selectors, "only what these selectors select");
const MATCHES: Param = must("match[]", Kind::Selectors, "selectors of the series");
const METRIC: Param = may("metric", Kind::Text, "of this metric alone");
const POOL: Param = must("scrapePool", Kind::Text, "name of the job");

const TERMS: Param = may("search[]", Kind::Texts, "what is searched for: any of these");
const THRESHOLD: Param = may("fuzz_threshold", Kind::Count, "least likeness, 0 to 100");
const ALGORITHM: Param = may("fuzz_alg", Kind::OneOf(&["subsequence", "jarowinkler"]), "what likeness is");
const CASE: Param = may("case_sensitive", Kind::Switch, "whether case counts; true when left out");
const SORT_BY: Param = may("sort_by", Kind::OneOf(&["alpha", "score"]), "order of the results");
const SORT_DIR: Param = may("sort_dir", Kind::OneOf(&["asc", "dsc"]), "direction of sort_by=alpha");
const SCORE: Param = may("include_score", Kind::Switch, "adds the likeness of each result");
const BATCH: Param = may("batch_size", Kind::Count, "results of one line");
const NDJSON: Answer = Answer::Other("application/x-ndjson");

const fn endpoint(
    path: &'static str,
    methods: Methods,
    tag: &'static str,
    about: &'static str,
    params: &'static [Param],
    answer: Answer,
) -> Endpoint {
    Endpoint { path, methods, tag, about, params, answer, is_early: false }
}

impl Endpoint {
    const fn early(self) -> Self {
        Self { is_early: true, ..self }
    }
}

/// A route and its handler.
type Served = (Endpoint, MethodRouter<Arc<Http>>);

/// Both methods of a query.
macro_rules! both {
    ($handler:path) => {
        get($handler).post($handler)
    };
}

/// Parameters of a search: its own, and those that all have.
macro_rules! search_params {
    [$($own:expr)?] => {
        const { &[$($own,)? TERMS, MATCH, THRESHOLD, ALGORITHM, CASE, SORT_BY, SORT_DIR, SCORE, FROM, TO, LIMIT, BATCH] }
    };
}

/// All paths of this module.
pub(crate) fn served() -> Vec<Served> {
    use Answer::{Data, DataOrNothing, Nothing, Other};
    use Methods::{Get, GetPost, PostPut};
    vec![
        (
            endpoint(
                "/query",
                GetPost,
                "query",
                "Evaluates a query at one time",
                &[QUERY, TIME, TIMEOUT, LIMIT, LOOKBACK, STATS],
                Data(schema::query),
            ),
            both!(query::instant),
        ),
        (
            endpoint(
                "/query_range",
                GetPost,
                "query",
                "Evaluates a query at each step of a range of time",
                &[QUERY, START, END, STEP, TIMEOUT, LIMIT, LOOKBACK, STATS],
                Data(schema::query),
            ),
            both!(query::range),
        ),
        (
            endpoint(
                "/query_exemplars",
                GetPost,
                "query",
                "Exemplars of the series that a query selects",
                &[QUERY, FROM, TO],
                DataOrNothing(schema::exemplars),
            ),
            both!(exemplars::query),
        ),
        (
            endpoint("/format_query", GetPost, "query", "A query, laid out for people", &[QUERY], Data(schema::text)),
            both!(query::format),
        ),
        (
            endpoint("/parse_query", GetPost, "query", "The syntax tree of a query", &[QUERY], Data(schema::anything)),
            both!(query::parse_query),
        ),
        (
            endpoint("/explain", GetPost, "query", "How a query is evaluated", &[QUERY], Data(schema::anything)),
            both!(language::explain),
        ),
        (
            endpoint("/lint", GetPost, "query", "What is odd in a query", &[QUERY], Data(schema::anything)),
            both!(language::suggestions),
        ),
        (
            endpoint(
                "/complete",
                GetPost,
                "query",
                "How a query may go on",
                const { &[may("query", Kind::Query, "text so far")] },
                Data(schema::anything),
            ),
            both!(language::completion),
        ),
        (
            endpoint("/labels", GetPost, "series", "Names of labels", &[FROM, TO, MATCH, LIMIT], Data(schema::texts)),
            both!(series::label_names),
        ),
        (
            endpoint(
                "/label/{name}/values",
                Get,
                "series",
                "Values of a label",
                &[FROM, TO, MATCH, LIMIT],
                Data(schema::texts),
            ),
            get(series::label_values),
        ),
        (
            endpoint(
                "/series",
                GetPost,
                "series",
                "Label sets of series",
                &[MATCHES, FROM, TO, LIMIT],
                Data(schema::label_sets),
            ),
            both!(series::series),
        ),
        (
            endpoint(
                "/search/metric_names",
                GetPost,
                "series",
                "Metrics of which only a part of the name is known",
                search_params![may("include_metadata", Kind::Switch, "adds type, help and unit")],
                NDJSON,
            ),
            both!(search::metric_names),
        ),
        (
            endpoint(
                "/search/label_names",
                GetPost,
                "series",
                "Labels of which only a part of the name is known",
                search_params![],
                NDJSON,
            ),
            both!(search::label_names),
        ),
        (
            endpoint(
                "/search/label_values",
                GetPost,
                "series",
                "Values of a label of which only a part is known",
                search_params![must("label", Kind::Text, "name of the label")],
                NDJSON,
            ),
            both!(search::label_values),
        ),
        (
            endpoint(
                "/metadata",
                Get,
                "metadata",
                "Types, units and help texts of metrics",
                const { &[LIMIT, may("limit_per_metric", Kind::Count, "most entries of one metric"), METRIC] },
                Data(schema::metadata),
            ),
            get(status::metadata),
        ),
        (
            endpoint(
                "/targets",
                Get,
                "targets",
                "Targets that are scraped, and those that relabelling dropped",
                const {
                    &[
                        may("state", Kind::OneOf(&["active", "dropped", "any"]), "which of them"),
                        may("scrapePool", Kind::Text, "of this job alone"),
                    ]
                },
                Data(schema::targets),
            ),
            get(status::targets),
        ),
        (
            endpoint(
                "/targets/metadata",
                Get,
                "targets",
                "What each target says of its metrics",
                const { &[may("match_target", Kind::Text, "only targets that this selects"), METRIC, LIMIT] },
                Data(schema::targets_metadata),
            ),
            get(status::targets_metadata),
        ),
        (
            endpoint(
                "/targets/relabel_steps",
                Get,
                "targets",
                "What each relabelling rule of a job makes of labels",
                const { &[POOL, must("labels", Kind::Text, "labels as a JSON object")] },
                Data(schema::relabel_steps),
            ),
            get(status::relabel_steps),
        ),
        (
            endpoint("/scrape_pools", Get, "targets", "Names of jobs", &[], Data(schema::scrape_pools)),
            get(status::scrape_pools),
        ),
        (
            endpoint(
                "/scrape_pools/config",
                Get,
                "targets",
                "The effective configuration of a job",
                &[POOL],
                Data(schema::yaml),
            ),
            get(status::scrape_pool_config),
        ),
        (
            endpoint(
                "/rules",
                Get,
                "rules",
                "Rule groups",
                const { &[may("type", Kind::OneOf(&["alert", "record"]), "only such rules")] },
                Data(schema::rules),
            ),
            get(status::rules),
        ),
        (endpoint("/alerts", Get, "rules", "Active alerts", &[], Data(schema::alerts)), get(status::alerts)),
        (
            endpoint("/alertmanagers", Get, "rules", "Where alerts are sent", &[], Data(schema::alertmanagers)),
            get(status::alertmanagers),
        ),
        (
            endpoint("/status/buildinfo", Get, "status", "Version and origin", &[], Data(schema::build_info)),
            get(status::build_info),
        ),
        (
            endpoint("/status/runtimeinfo", Get, "status", "State of the process", &[], Data(schema::runtime_info)),
            get(status::runtime_info),
        ),
        (
            endpoint("/status/config", Get, "status", "The effective configuration", &[], Data(schema::yaml)),
            get(status::config),
        ),
        (
            endpoint("/status/flags", Get, "status", "Flags and their values", &[], Data(schema::text_map)),
            get(status::flags),
        ),
        (
            endpoint("/status/tsdb", Get, "status", "Cardinality of the head", &[LIMIT], Data(schema::tsdb)),
            get(status::tsdb),
        ),
        (
            endpoint("/status/tsdb/blocks", Get, "status", "Blocks on the disk", &[], Data(schema::blocks)),
            get(status::blocks),
        ),
        (
            endpoint("/status/walreplay", Get, "status", "Progress of reading the log", &[], Data(schema::wal_replay))
                .early(),
            get(status::wal_replay),
        ),
        (
            endpoint(
                "/status/self_metrics",
                Get,
                "status",
                "The server's own metrics",
                const { &[may("metric_name_pattern", Kind::Text, "regular expression that names must match whole")] },
                Data(schema::self_metrics),
            ),
            get(status::self_metrics),
        ),
        (
            endpoint("/features", Get, "status", "What the server can do", &[], Data(schema::features)),
            get(features::features),
        ),
        (
            endpoint("/notifications", Get, "status", "What is wrong now", &[], Data(schema::notifications)).early(),
            get(notifications::list),
        ),
        (
            endpoint(
                "/notifications/live",
                Get,
                "status",
                "What goes wrong, as it happens",
                &[],
                Other("text/event-stream"),
            )
            .early(),
            get(notifications::live),
        ),
        (
            endpoint(
                "/openapi.yaml",
                Get,
                "status",
                "This description in YAML",
                const { &[may("openapi_version", Kind::OneOf(&["3.1", "3.2"]), "version of OpenAPI")] },
                Other("application/yaml"),
            )
            .early(),
            get(openapi::yaml),
        ),
        (
            endpoint(
                "/openapi.json",
                Get,
                "status",
                "This description in JSON",
                const { &[may("openapi_version", Kind::OneOf(&["3.1", "3.2"]), "version of OpenAPI")] },
                Other("application/json"),
            )
            .early(),
            get(openapi::json),
        ),
        (
            endpoint(
                "/admin/tsdb/delete_series",
                PostPut,
                "admin",
                "Deletes samples of series",
                &[MATCHES, FROM, TO],
                Nothing,
            ),
            on(layers::POST_PUT, admin::delete_series),
        ),
        (
            endpoint(
                "/admin/tsdb/clean_tombstones",
                PostPut,
                "admin",
                "Gives back the space of deleted samples",
                &[],
                Nothing,
            ),
            on(layers::POST_PUT, admin::clean_tombstones),
        ),
        (
            endpoint(
                "/admin/tsdb/snapshot",
                PostPut,
                "admin",
                "Makes a snapshot",
                const { &[may("skip_head", Kind::OneOf(&["true", "false"]), "of the blocks alone")] },
                Data(schema::snapshot),
            ),
            on(layers::POST_PUT, admin::snapshot),
        ),
    ]
}

/// Paths that other parts serve.
pub(crate) const OF_OTHERS: [Endpoint; 5] = [
    endpoint("/read", Methods::Post, "remote", "Remote read", &[], Answer::Other("application/x-protobuf")),
    endpoint("/write", Methods::Post, "remote", "Remote write", &[], Answer::Nothing),
    endpoint(
        "/otlp/v1/metrics",
        Methods::Post,
        "remote",
        "OpenTelemetry metrics",
        &[],
        Answer::Other("application/x-protobuf"),
    ),
    endpoint(
        "/import/openmetrics",
        Methods::Post,
        "remote",
        "Samples of any age as OpenMetrics",
        &[may("extra_label", Kind::Text, "name=value, added to every series")],
        Answer::Data(schema::imported),
    ),
    endpoint(
        "/import/prometheus",
        Methods::Post,
        "remote",
        "Samples of any age as Prometheus text",
        &[may("extra_label", Kind::Text, "name=value, added to every series")],
        Answer::Data(schema::imported),
    ),
];

/// The routes that need data, and those that do not.
pub(crate) fn routers() -> (Router<Arc<Http>>, Router<Arc<Http>>) {
    let (mut late, mut early) = (Router::new(), Router::new());
    for (endpoint, handler) in served() {
        let router = if endpoint.is_early { &mut early } else { &mut late };
        *router = std::mem::take(router).route(endpoint.path, handler);
    }
    (late, early)
}

/// All paths, in the order of the table.
pub(crate) fn all() -> impl Iterator<Item = Endpoint> {
    served().into_iter().map(|(endpoint, _)| endpoint).chain(OF_OTHERS)
}

/// The schema of a parameter.
pub(crate) fn param_schema(kind: Kind) -> Value {
    match kind {
        Kind::Text | Kind::Query => json!({"type": "string"}),
        Kind::Switch => json!({"type": "boolean"}),
        Kind::Selectors | Kind::Texts => json!({"type": "array", "items": {"type": "string"}}),
        Kind::Time => json!({"type": "string", "description": "Unix seconds or RFC 3339"}),
        Kind::Duration => json!({"type": "string", "description": "seconds or a duration like 1m30s"}),
        Kind::Count => json!({"type": "integer", "minimum": 0}),
        Kind::OneOf(names) => json!({"type": "string", "enum": names}),
    }
}
