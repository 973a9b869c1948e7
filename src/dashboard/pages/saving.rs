//! The part of Grafana's API that changes dashboards, folders and annotations, for tools such as Terraform.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use crate::dashboard::json::{at, flag, integer, list, scalar_text, string, text};
use crate::dashboard::load::{unwrapped, with_inputs};
use crate::dashboard::provider::Catalog;
use crate::dashboard::state::{Dashboards, Inner};
use crate::dashboard::store::{Save, SaveError, Saved, Store, Version};
use crate::dashboard::timerange::local;
use crate::ui::shell::is_own_page;

use super::api::{SOURCE, folder_json, numeric_id};
use super::list::json_response;

impl SaveError {
    /// The status, and Grafana's word for it.
    pub(super) fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::ReadOnly | Self::NoFolder | Self::BuiltIn(_) => (StatusCode::FORBIDDEN, "forbidden"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
            Self::Invalid(_) | Self::Refused(_) => (StatusCode::BAD_REQUEST, "bad-request"),
            Self::Missing(_) => (StatusCode::NOT_FOUND, "not-found"),
            Self::Changed { .. } => (StatusCode::PRECONDITION_FAILED, "version-mismatch"),
            Self::Io(_) => (StatusCode::INTERNAL_SERVER_ERROR, "error"),
        }
    }

    fn response(&self) -> Response {
        if let Self::Io(e) = self {
            tracing::warn!(error = %e, "a change of dashboards was not saved");
        }
        let (status, word) = self.status();
        json_response(status, &json!({"message": self.to_string(), "status": word}))
    }
}

/// Runs a change on a worker thread and answers with what it gives.
async fn change(
    state: &Dashboards,
    headers: &HeaderMap,
    work: impl FnOnce(&Arc<Inner>) -> Result<Value, SaveError> + Send + 'static,
) -> Response {
    if !is_own_page(headers) {
        let message = "pages of other servers may not change dashboards";
        return json_response(StatusCode::FORBIDDEN, &json!({"message": message, "status": "forbidden"}));
    }
    let inner = state.0.clone();
    let run = {
        let inner = inner.clone();
        move || work(&inner)
    };
    match inner.run(run).await {
        Ok(Ok(value)) => json_response(StatusCode::OK, &value),
        Ok(Err(e)) => e.response(),
        Err(e) => json_response(StatusCode::INTERNAL_SERVER_ERROR, &json!({"message": e.to_string()})),
    }
}

fn parse(body: &[u8]) -> Result<Value, SaveError> {
    let value: Value =
        serde_json::from_slice(body).map_err(|e| SaveError::Refused(format!("the body is not JSON: {e}")))?;
    Ok(value)
}

impl Inner {
    /// Changes what the folders hold, then reads them again, so that the next request finds the change; blocks.
    /// `work` has the store, the dashboards at this moment, and the time.
    pub(super) fn change_store<T>(&self, work: impl FnOnce(&Store, &dyn Fn() -> Arc<Catalog>, i64) -> T) -> T {
        let now_ms = self.now_ms();
        let fresh = || self.settings.fresh_catalog(now_ms);
        let done = work(&self.settings.store(), &fresh, now_ms);
        fresh();
        done
    }

    /// Saves a dashboard; blocks.
    pub(super) fn save(&self, save: Save) -> Result<Saved, SaveError> {
        self.change_store(|store, fresh, now_ms| store.save(save, fresh, now_ms))
    }
}

fn saved_json(saved: &Saved) -> Value {
    json!({
        "id": numeric_id(&saved.uid), "uid": saved.uid, "url": format!("/d/{}/{}", saved.uid, saved.slug),
        "slug": saved.slug, "status": "success", "version": saved.version, "folderUid": saved.folder_uid,
    })
}

fn folder_of(body: &Value) -> Option<String> {
    text(body, "folderUid").or_else(|| text(body, "folderUID")).map(str::to_owned)
}

/// `POST /api/dashboards/db`.
pub(super) async fn save(State(state): State<Dashboards>, headers: HeaderMap, body: Bytes) -> Response {
    change(&state, &headers, move |inner| {
        let mut body = parse(&body)?;
        let folder = folder_of(&body);
        let (overwrite, message) = (flag(&body, "overwrite").unwrap_or(false), string(&body, "message"));
        let dashboard = match body.get_mut("dashboard") {
            Some(dashboard) => dashboard.take(),
            None => return Err(SaveError::Refused("the body has no dashboard".to_owned())),
        };
        // A dashboard that is new to a folder-less request lies in the root; one that is there stays.
        inner.save(Save { dashboard, folder, overwrite, message }).map(|saved| saved_json(&saved))
    })
    .await
}

/// `POST /api/dashboards/import`.
pub(super) async fn import(State(state): State<Dashboards>, headers: HeaderMap, body: Bytes) -> Response {
    change(&state, &headers, move |inner| {
        let mut body = parse(&body)?;
        let given: Vec<(String, String)> = list(&body, "inputs")
            .iter()
            .filter_map(|i| Some((text(i, "name")?.to_owned(), at(i, "value").and_then(scalar_text)?)))
            .collect();
        let folder = folder_of(&body);
        let overwrite = flag(&body, "overwrite").unwrap_or(false);
        let mut dashboard = unwrapped(body.get_mut("dashboard").map(Value::take).unwrap_or(Value::Null));
        with_inputs(&mut dashboard, &|name| given.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()));
        let title = string(&dashboard, "title");
        let saved = inner.save(Save { dashboard, folder, overwrite, message: "imported".to_owned() })?;
        let url = format!("/d/{}/{}", saved.uid, saved.slug);
        Ok(json!({
            "uid": saved.uid, "title": title, "pluginId": "", "imported": true, "importedUri": format!("db/{}", saved.slug),
            "importedUrl": url, "slug": saved.slug, "dashboardId": numeric_id(&saved.uid), "folderUid": saved.folder_uid,
            "importedRevision": saved.version, "revision": saved.version, "description": "", "path": "", "removed": false,
        }))
    })
    .await
}

/// `DELETE /api/dashboards/uid/<uid>`.
pub(super) async fn delete(State(state): State<Dashboards>, Path(uid): Path<String>, headers: HeaderMap) -> Response {
    change(&state, &headers, move |inner| {
        let entry = inner.change_store(|store, fresh, _| store.delete(&uid, fresh))?;
        let title = &entry.dashboard.title;
        Ok(json!({
            "title": title, "message": format!("Dashboard {title} deleted"), "id": numeric_id(&uid), "uid": uid,
        }))
    })
    .await
}

fn version_json(uid: &str, v: &Version) -> Value {
    json!({
        "id": v.version, "uid": uid, "dashboardId": numeric_id(uid), "version": v.version, "parentVersion": v.version - 1,
        "created": local(v.created_ms, &jiff::tz::TimeZone::UTC).replace(' ', "T") + "Z", "createdBy": "", "message": v.message,
    })
}

/// `GET /api/dashboards/uid/<uid>/versions`.
pub(super) async fn versions(State(state): State<Dashboards>, Path(uid): Path<String>) -> Response {
    change(&state, &HeaderMap::new(), move |inner| {
        let all: Vec<Value> = inner.settings.store().history(&uid)?.iter().map(|v| version_json(&uid, v)).collect();
        Ok(json!({"continueToken": "", "versions": all}))
    })
    .await
}

/// `GET /api/dashboards/uid/<uid>/versions/<version>`.
pub(super) async fn version(State(state): State<Dashboards>, Path((uid, number)): Path<(String, i64)>) -> Response {
    change(&state, &HeaderMap::new(), move |inner| {
        let all = inner.settings.store().history(&uid)?;
        let found = all.into_iter().find(|v| v.version == number).ok_or(SaveError::Missing("Dashboard version"))?;
        let mut value = version_json(&uid, &found);
        value["data"] = found.dashboard;
        Ok(value)
    })
    .await
}

/// Makes a version the present one again; blocks.
pub(super) fn restore_version(inner: &Inner, uid: &str, number: i64) -> Result<Saved, SaveError> {
    let all = inner.settings.store().history(uid)?;
    let found = all.into_iter().find(|v| v.version == number).ok_or(SaveError::Missing("Dashboard version"))?;
    let mut dashboard = found.dashboard;
    if let Some(members) = dashboard.as_object_mut() {
        members.insert("uid".to_owned(), json!(uid));
    }
    let message = format!("restored from version {number}");
    inner.save(Save { dashboard, folder: None, overwrite: true, message })
}

/// `POST /api/dashboards/uid/<uid>/restore`.
pub(super) async fn restore(
    State(state): State<Dashboards>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    change(&state, &headers, move |inner| {
        let number = integer(&parse(&body)?, "version")
            .ok_or_else(|| SaveError::Refused("the body names no version".to_owned()))?;
        restore_version(inner, &uid, number).map(|saved| saved_json(&saved))
    })
    .await
}

/// `POST /api/folders`.
pub(super) async fn add_folder(State(state): State<Dashboards>, headers: HeaderMap, body: Bytes) -> Response {
    change(&state, &headers, move |inner| {
        let body = parse(&body)?;
        let (uid, title) = (string(&body, "uid"), string(&body, "title"));
        let made = inner.change_store(|store, fresh, _| store.save_folder(&uid, &title, true, fresh))?;
        Ok(folder_json(&made, true))
    })
    .await
}

/// `PUT /api/folders/<uid>`.
pub(super) async fn change_folder(
    State(state): State<Dashboards>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    change(&state, &headers, move |inner| {
        let title = string(&parse(&body)?, "title");
        let made = inner.change_store(|store, fresh, _| store.save_folder(&uid, &title, false, fresh))?;
        Ok(folder_json(&made, true))
    })
    .await
}

/// `DELETE /api/folders/<uid>`.
pub(super) async fn delete_folder(
    State(state): State<Dashboards>,
    Path(uid): Path<String>,
    headers: HeaderMap,
) -> Response {
    change(&state, &headers, move |inner| {
        let gone = inner.change_store(|store, fresh, _| store.delete_folder(&uid, fresh))?;
        Ok(json!({"message": format!("Folder {} deleted", gone.title), "title": gone.title, "id": numeric_id(&uid)}))
    })
    .await
}

/// `POST /api/annotations`.
pub(super) async fn add_note(State(state): State<Dashboards>, headers: HeaderMap, body: Bytes) -> Response {
    change(&state, &headers, move |inner| {
        let note = inner.settings.store().add_note(&parse(&body)?, inner.now_ms())?;
        Ok(json!({"message": "Annotation added", "id": note.id}))
    })
    .await
}

/// `PUT` and `PATCH /api/annotations/<id>`.
pub(super) async fn change_note(
    State(state): State<Dashboards>,
    Path(id): Path<i64>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    change(&state, &headers, move |inner| {
        inner.settings.store().change_note(id, &parse(&body)?)?;
        Ok(json!({"message": "Annotation updated"}))
    })
    .await
}

/// `DELETE /api/annotations/<id>`.
pub(super) async fn delete_note(State(state): State<Dashboards>, Path(id): Path<i64>, headers: HeaderMap) -> Response {
    change(&state, &headers, move |inner| {
        inner.settings.store().delete_note(id)?;
        Ok(json!({"message": "Annotation deleted"}))
    })
    .await
}

/// `POST`, `PUT` and `DELETE` below `/api/datasources`: there is one, and it is not to be changed.
pub(super) async fn fixed_source() -> Response {
    let message = format!(
        "this server has one data source, its own database (uid {SOURCE:?}); every data source of type prometheus in \
         a dashboard means it, so none needs to be added"
    );
    json_response(StatusCode::FORBIDDEN, &json!({"message": message, "status": "forbidden"}))
}
