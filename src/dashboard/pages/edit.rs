//! Pages that change dashboards: import, the editor of the JSON with its preview, versions and their differences.
//!
//! Everything works without a script: each page is a form. The script adds the preview while one types, and reads a
//! file that is dropped or chosen into the text.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::{Value, json};

use crate::dashboard::check::check;
use crate::dashboard::json::{string, text};
use crate::dashboard::load::{Input, inputs, load, unwrapped, with_inputs};
use crate::dashboard::params::Params;
use crate::dashboard::provider::{Catalog, Entry};
use crate::dashboard::state::{Dashboards, Inner};
use crate::dashboard::store::{Save, SaveError, Saved, Version};
use crate::dashboard::timerange::local;
use crate::ui::shell::{fragment, is_own_page};
use crate::ui::{Shell, page};

use super::diff::{Line, diff};
use super::list::catalog;
use super::request::{Asked, not_found, understand_of, zone};
use super::saving::restore_version;
use super::view::{Choice, DashAttributes, SectionView};
use super::{Pairs, sections};

/// Remarks that the editor shows of one dashboard.
const REMARKS_MAX: usize = 40;
/// Lines of a comparison that are shown.
const DIFF_LINES_MAX: usize = 5_000;

/// Fields of a form, the last of a name counts.
type Fields = Form<Vec<(String, String)>>;

fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

/// What the text of a dashboard is.
#[derive(Default)]
struct Verdict {
    error: String,
    summary: String,
    remarks: Vec<String>,
}

impl Verdict {
    fn of(json: &str) -> Self {
        let mut report = String::new();
        match check(json, &mut report) {
            Err(error) => Self { error, ..Self::default() },
            Ok(found) => {
                let mut remarks: Vec<String> = report.lines().map(|l| l.trim().to_owned()).collect();
                let n = remarks.len();
                remarks.truncate(REMARKS_MAX);
                if n > REMARKS_MAX {
                    remarks.push(format!("and {} more", n - REMARKS_MAX));
                }
                let left = found.panels - found.drawn;
                let summary = format!("{} panels, {} drawn, {left} placeholders", found.panels, found.drawn);
                Self { error: String::new(), summary, remarks }
            }
        }
    }
}

/// A folder as a choice.
fn folder_choices(catalog: &Catalog, current: &str) -> Vec<Choice> {
    let root = Choice { text: "General".to_owned(), url: String::new(), is_current: current.is_empty() };
    let others = catalog.folders.iter().map(|f| Choice {
        text: f.title.clone(),
        url: f.uid.clone(),
        is_current: f.uid == current,
    });
    std::iter::once(root).chain(others).collect()
}

#[derive(Template)]
#[template(path = "preview.html")]
struct Preview {
    verdict: Verdict,
    sections: Vec<SectionView>,
}

#[derive(Template)]
#[template(path = "edit.html")]
struct EditPage {
    shell: Shell,
    title: String,
    json: String,
    folders: Vec<Choice>,
    message: String,
    error: String,
    /// Whether the error is that somebody else has saved meanwhile.
    is_conflict: bool,
    /// Why nothing can be saved here; empty when it can.
    locked: String,
    /// Of the address, with its question mark: the window that the preview shows.
    query: String,
    back_url: String,
    dash: DashAttributes,
    preview: Preview,
}

#[derive(Template)]
#[template(path = "import.html")]
struct ImportPage {
    shell: Shell,
    json: String,
    error: String,
    locked: String,
    /// Whether the text was read, so that what it asks can be answered.
    is_read: bool,
    title: String,
    uid: String,
    /// The dashboard that has this uid already.
    taken: String,
    folders: Vec<Choice>,
    inputs: Vec<Input>,
    verdict: Verdict,
}

/// A version in the list.
struct VersionRow {
    version: i64,
    when: String,
    message: String,
    is_current: bool,
    /// Shows what it changed.
    diff_url: String,
    is_shown: bool,
}

#[derive(Template)]
#[template(path = "versions.html")]
struct VersionsPage {
    shell: Shell,
    title: String,
    uid: String,
    error: String,
    back_url: String,
    versions: Vec<VersionRow>,
    /// What the lines below are.
    diff_title: String,
    /// Class and text of each line.
    lines: Vec<(&'static str, String)>,
    can_delete: bool,
}

fn locked(inner: &Inner) -> String {
    inner.settings.store().root().err().map(|e| e.to_string()).unwrap_or_default()
}

fn refuse_others(headers: &HeaderMap) -> Option<Response> {
    let refused = (StatusCode::FORBIDDEN, "pages of other servers may not change dashboards\n").into_response();
    (!is_own_page(headers)).then_some(refused)
}

/// Draws a dashboard of which there is only the text.
async fn preview(
    state: &Dashboards,
    json: &str,
    pairs: Vec<(String, String)>,
    headers: &HeaderMap,
) -> (Preview, DashAttributes) {
    let verdict = Verdict::of(json);
    let nothing = (Preview { verdict: Verdict::default(), sections: Vec::new() }, DashAttributes::default());
    let deadline = state.0.deadline();
    let source: Arc<str> = Arc::from(json);
    let find = move |_: &Catalog| {
        let dashboard = load(&source, "preview").ok()?;
        Some(Entry {
            version: dashboard.version,
            dashboard: Arc::new(dashboard),
            folder: String::new(),
            folder_uid: String::new(),
            is_builtin: false,
            path: None,
            modified_ms: 0,
            source,
        })
    };
    match understand_of(state, find, Asked::whole(pairs, headers, &deadline.cancel)).await {
        Ok(Some(request)) => {
            let request = Arc::new(request);
            let (mut views, _) = sections(&request, &deadline.cancel).await;
            // Addresses of a dashboard that is not there yet lead nowhere.
            for view in &mut views {
                if let Some(row) = &mut view.row {
                    row.url.clear();
                }
                for panel in &mut view.panels {
                    panel.inner.view_url.clear();
                    panel.inner.inspect_url.clear();
                }
            }
            (Preview { verdict, sections: views }, DashAttributes::of(&request).detached())
        }
        _ => (Preview { verdict, ..nothing.0 }, nothing.1),
    }
}

/// The text and the circumstances of an editor.
struct Editing {
    title: String,
    json: String,
    folder: String,
    message: String,
    error: Option<SaveError>,
    back_url: String,
}

async fn editor(state: &Dashboards, editing: Editing, pairs: Vec<(String, String)>, headers: &HeaderMap) -> Response {
    let params = Params::new(pairs.clone());
    let (preview, dash) = preview(state, &editing.json, pairs.clone(), headers).await;
    let catalog = catalog(state).await;
    let status = editing.error.as_ref().map_or(StatusCode::OK, |e| e.status().0);
    let view = EditPage {
        shell: Shell::of_page(&editing.title, "dashboards", &pairs, headers),
        title: editing.title,
        json: editing.json,
        folders: folder_choices(&catalog, &editing.folder),
        message: editing.message,
        is_conflict: matches!(editing.error, Some(SaveError::Changed { .. })),
        error: editing.error.map(|e| e.to_string()).unwrap_or_default(),
        locked: locked(&state.0),
        query: params.query(),
        back_url: editing.back_url,
        dash,
        preview,
    };
    page(status, &view)
}

fn pretty(source: &str) -> Option<Value> {
    serde_json::from_str(source).ok().map(unwrapped)
}

fn pretty_text(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// `GET /dashboard/edit/<uid>`.
pub(super) async fn edit(
    State(state): State<Dashboards>,
    Path(uid): Path<String>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Response {
    let catalog = catalog(&state).await;
    let params = Params::new(pairs.clone());
    let Some(entry) = catalog.get(&uid) else {
        return not_found(&uid, Shell::of_page("", "", &pairs, &headers).theme);
    };
    let d = &entry.dashboard;
    let mut value = pretty(&entry.source).unwrap_or(Value::Null);
    if let Some(members) = value.as_object_mut() {
        members.insert("uid".to_owned(), json!(d.uid));
        members.insert("version".to_owned(), json!(entry.version));
    }
    let editing = Editing {
        title: d.title.clone(),
        json: pretty_text(&value),
        folder: entry.folder_uid.clone(),
        message: String::new(),
        error: None,
        back_url: format!("/d/{}/{}{}", d.uid, d.slug(), params.query()),
    };
    editor(&state, editing, pairs, &headers).await
}

/// A dashboard to begin with.
fn blank() -> Value {
    json!({
        "title": "New dashboard", "tags": [], "time": {"from": "now-1h", "to": "now"}, "refresh": "30s",
        "templating": {"list": []},
        "panels": [{
            "id": 1, "type": "timeseries", "title": "Targets that are up", "gridPos": {"x": 0, "y": 0, "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": "short", "min": 0, "custom": {"fillOpacity": 10}}, "overrides": []},
            "options": {"tooltip": {"mode": "multi", "sort": "desc"}},
            "targets": [{"refId": "A", "expr": "sum by (job) (up)", "legendFormat": "{{job}}"}],
        }],
    })
}

/// `GET /dashboard/new`, with `?copy=<uid>` a copy of that dashboard.
pub(super) async fn new(State(state): State<Dashboards>, Query(pairs): Pairs, headers: HeaderMap) -> Response {
    let catalog = catalog(&state).await;
    let source = Params::new(pairs.clone()).get("copy").and_then(|uid| catalog.get(uid)).cloned();
    let (mut value, folder) = match &source {
        Some(entry) => (pretty(&entry.source).unwrap_or(Value::Null), entry.folder_uid.clone()),
        None => (blank(), String::new()),
    };
    if let (Some(entry), Some(members)) = (&source, value.as_object_mut()) {
        members.insert("title".to_owned(), json!(format!("{} copy", entry.dashboard.title)));
        for name in ["id", "uid", "version"] {
            members.remove(name);
        }
    }
    let editing = Editing {
        title: string(&value, "title"),
        json: pretty_text(&value),
        folder,
        message: String::new(),
        error: None,
        back_url: "/dashboards".to_owned(),
    };
    let pairs = pairs.into_iter().filter(|(n, _)| n != "copy").collect();
    editor(&state, editing, pairs, &headers).await
}

/// Saves on a worker thread.
async fn save_now(state: &Dashboards, save: Save) -> Result<Saved, SaveError> {
    let inner = state.0.clone();
    let run = {
        let inner = inner.clone();
        move || inner.save(save)
    };
    let lost = |e: crate::dashboard::state::WorkError| SaveError::Refused(e.to_string());
    inner.run(run).await.map_err(lost)?
}

/// `POST /dashboard/save`: what the editor's buttons do.
pub(super) async fn save(
    State(state): State<Dashboards>,
    Query(pairs): Pairs,
    headers: HeaderMap,
    Form(fields): Fields,
) -> Response {
    if let Some(refused) = refuse_others(&headers) {
        return refused;
    }
    let json = field(&fields, "json").unwrap_or("").to_owned();
    let text_of = |name: &str| field(&fields, name).unwrap_or("").to_owned();
    let action = text_of("action");
    let mut error = None;
    if action.starts_with("save") {
        let parsed = serde_json::from_str::<Value>(&json).map(unwrapped);
        let dashboard = match (load(&json, "new"), parsed) {
            (Ok(_), Ok(dashboard)) => Ok(dashboard),
            (Err(e), _) => Err(SaveError::Invalid(e)),
            (_, Err(e)) => Err(SaveError::Refused(e.to_string())),
        };
        let saved = match dashboard {
            Ok(dashboard) => {
                let overwrite = action == "save-anyway";
                let save = Save { dashboard, folder: Some(text_of("folder")), overwrite, message: text_of("message") };
                save_now(&state, save).await
            }
            Err(e) => Err(e),
        };
        match saved {
            Ok(saved) => {
                let query = Params::new(pairs).query();
                return Redirect::to(&format!("/d/{}/{}{query}", saved.uid, encode_path(&saved.slug))).into_response();
            }
            Err(e) => error = Some(e),
        }
    }
    let title = load(&json, "new").map_or_else(|_| "Dashboard".to_owned(), |d| d.title);
    let back_url = "/dashboards".to_owned();
    let editing = Editing { title, json, folder: text_of("folder"), message: text_of("message"), error, back_url };
    editor(&state, editing, pairs, &headers).await
}

/// A slug holds letters of any language.
fn encode_path(slug: &str) -> String {
    crate::dashboard::interpolate::percent_encode(slug)
}

/// `POST /dashboard/preview`: verdict and picture of a text, for the script.
pub(super) async fn preview_now(
    State(state): State<Dashboards>,
    Query(pairs): Pairs,
    headers: HeaderMap,
    Form(fields): Fields,
) -> Response {
    if let Some(refused) = refuse_others(&headers) {
        return refused;
    }
    let (preview, _) = preview(&state, field(&fields, "json").unwrap_or(""), pairs, &headers).await;
    match preview.render() {
        Ok(body) => fragment(body),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// `GET /dashboard/import`.
pub(super) async fn import(State(state): State<Dashboards>, Query(pairs): Pairs, headers: HeaderMap) -> Response {
    import_page(&state, &pairs, &headers, &[], None).await
}

/// `POST /dashboard/import`: reads the text, then saves it with the answers to what it asks.
pub(super) async fn import_now(
    State(state): State<Dashboards>,
    Query(pairs): Pairs,
    headers: HeaderMap,
    Form(fields): Fields,
) -> Response {
    if let Some(refused) = refuse_others(&headers) {
        return refused;
    }
    let json = field(&fields, "json").unwrap_or("");
    if field(&fields, "action") != Some("import") {
        let error = load(json, "import").err().map(SaveError::Invalid);
        return import_page(&state, &pairs, &headers, &fields, error).await;
    }
    let read = load(json, "import").map_err(SaveError::Invalid);
    let parsed = read.and_then(|_| serde_json::from_str::<Value>(json).map_err(|e| SaveError::Refused(e.to_string())));
    let saved = match parsed {
        Ok(value) => {
            let mut dashboard = unwrapped(value);
            with_inputs(&mut dashboard, &|name| field(&fields, &format!("input-{name}")).map(str::to_owned));
            for name in ["title", "uid"] {
                if let (Some(given), Some(members)) = (field(&fields, name), dashboard.as_object_mut()) {
                    members.insert(name.to_owned(), json!(given.trim()));
                }
            }
            let save = Save {
                dashboard,
                folder: field(&fields, "folder").map(str::to_owned),
                overwrite: field(&fields, "overwrite").is_some(),
                message: "imported".to_owned(),
            };
            save_now(&state, save).await
        }
        Err(e) => Err(e),
    };
    match saved {
        Ok(saved) => Redirect::to(&format!("/d/{}/{}", saved.uid, encode_path(&saved.slug))).into_response(),
        Err(e) => import_page(&state, &pairs, &headers, &fields, Some(e)).await,
    }
}

async fn import_page(
    state: &Dashboards,
    pairs: &[(String, String)],
    headers: &HeaderMap,
    fields: &[(String, String)],
    error: Option<SaveError>,
) -> Response {
    let catalog = catalog(state).await;
    let json = field(fields, "json").unwrap_or("").to_owned();
    let loaded = load(&json, "").ok();
    let value = serde_json::from_str::<Value>(&json).map_or(Value::Null, unwrapped);
    let mut asked = inputs(&value);
    for input in &mut asked {
        if let Some(given) = field(fields, &format!("input-{}", input.name)) {
            input.value = given.to_owned();
        }
    }
    let given = |name: &str| field(fields, name).or_else(|| text(&value, name)).unwrap_or("").to_owned();
    let uid = given("uid");
    let taken = catalog.get(&uid).filter(|_| !uid.is_empty()).map(|e| e.dashboard.title.clone());
    let status = error.as_ref().map_or(StatusCode::OK, |e| e.status().0);
    let view = ImportPage {
        shell: Shell::of_page("Import a dashboard", "dashboards", pairs, headers),
        is_read: loaded.is_some(),
        verdict: if loaded.is_some() { Verdict::of(&json) } else { Verdict::default() },
        title: given("title"),
        taken: taken.unwrap_or_default(),
        uid,
        folders: folder_choices(&catalog, field(fields, "folder").unwrap_or("")),
        inputs: asked,
        json,
        error: error.map(|e| e.to_string()).unwrap_or_default(),
        locked: locked(&state.0),
    };
    page(status, &view)
}

/// `GET /dashboard/versions/<uid>`, with `?show=<version>` what that one changed.
pub(super) async fn versions(
    State(state): State<Dashboards>,
    Path(uid): Path<String>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Response {
    let catalog = catalog(&state).await;
    let shell = Shell::of_page("Versions", "dashboards", &pairs, &headers);
    let Some(entry) = catalog.get(&uid).cloned() else { return not_found(&uid, shell.theme) };
    let inner = state.0.clone();
    let history = {
        let (inner, uid) = (inner.clone(), uid.clone());
        move || inner.settings.store().history(&uid)
    };
    let (all, error) = match inner.run(history).await {
        Ok(Ok(all)) => (all, String::new()),
        Ok(Err(e)) => (Vec::new(), e.to_string()),
        Err(e) => (Vec::new(), e.to_string()),
    };
    let params = Params::new(pairs);
    let (tz, _, _) = zone(params.get("timezone"), "browser", &headers);
    let shown = params.get("show").and_then(|v| v.parse().ok()).or(all.first().map(|v| v.version));
    let (diff_title, lines) = difference(&all, shown);
    let d = &entry.dashboard;
    let row = |v: &Version| VersionRow {
        version: v.version,
        when: local(v.created_ms, &tz),
        message: v.message.clone(),
        is_current: v.version == entry.version,
        diff_url: format!("/dashboard/versions/{}?show={}", encode_path(&uid), v.version),
        is_shown: Some(v.version) == shown,
    };
    let view = VersionsPage {
        shell,
        title: d.title.clone(),
        back_url: format!("/d/{}/{}", d.uid, d.slug()),
        versions: all.iter().map(row).collect(),
        diff_title,
        lines,
        can_delete: error.is_empty() && entry.path.is_some(),
        error,
        uid,
    };
    page(StatusCode::OK, &view)
}

/// What version `shown` changed of the one before it.
fn difference(all: &[Version], shown: Option<i64>) -> (String, Vec<(&'static str, String)>) {
    let Some(i) = all.iter().position(|v| Some(v.version) == shown) else { return (String::new(), Vec::new()) };
    let Some(before) = all.get(i + 1) else { return (format!("Version {} is the first.", all[i].version), Vec::new()) };
    let (old, new) = (pretty_text(&before.dashboard), pretty_text(&all[i].dashboard));
    let mut lines: Vec<(&'static str, String)> = diff(&old, &new)
        .iter()
        .take(DIFF_LINES_MAX)
        .map(|line| match line {
            Line::Same(t) => ("same", (*t).to_owned()),
            Line::Removed(t) => ("del", (*t).to_owned()),
            Line::Added(t) => ("ins", (*t).to_owned()),
            Line::Skipped(n) => ("skip", format!("{n} equal lines")),
        })
        .collect();
    if lines.len() == DIFF_LINES_MAX {
        lines.push(("skip", "more follows".to_owned()));
    }
    (format!("Version {} to {}", before.version, all[i].version), lines)
}

/// `POST /dashboard/restore/<uid>`.
pub(super) async fn restore(
    State(state): State<Dashboards>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    Form(fields): Fields,
) -> Response {
    if let Some(refused) = refuse_others(&headers) {
        return refused;
    }
    let number = field(&fields, "version").and_then(|v| v.parse().ok()).unwrap_or(-1);
    let inner = state.0.clone();
    let run = {
        let inner = inner.clone();
        move || restore_version(&inner, &uid, number)
    };
    answer(inner.run(run).await.map(|done| done.map(|s| format!("/d/{}/{}", s.uid, encode_path(&s.slug)))))
}

/// `POST /dashboard/delete/<uid>`.
pub(super) async fn delete(State(state): State<Dashboards>, Path(uid): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refused) = refuse_others(&headers) {
        return refused;
    }
    let inner = state.0.clone();
    let run = {
        let inner = inner.clone();
        move || {
            let deleted = inner.change_store(|store, fresh, _| store.delete(&uid, fresh));
            deleted.map(|_| "/dashboards".to_owned())
        }
    };
    answer(inner.run(run).await)
}

fn answer(done: Result<Result<String, SaveError>, crate::dashboard::state::WorkError>) -> Response {
    match done {
        Ok(Ok(to)) => Redirect::to(&to).into_response(),
        Ok(Err(e)) => (e.status().0, format!("{e}\n")).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response(),
    }
}
