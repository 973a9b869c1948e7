//! `/admin/tsdb/*`: deleting samples and making snapshots, behind `--web.enable-admin-api`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use promontory_model::{Matcher, TimeRange, Timestamp};

use super::answer::{ApiError, ErrorType, Remarks, success};
use super::backend::Admin;
use super::params::Params;
use super::series::read_set;
use super::{Http, json};

fn admin(http: &Http) -> Result<Arc<dyn Admin>, ApiError> {
    http.admin.clone().ok_or_else(|| ApiError::new(ErrorType::Unavailable, "admin APIs disabled"))
}

/// Does `work` on a thread that may block. It goes on when the client leaves: what has begun is finished.
async fn run<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(e.to_string()));
    done.map_err(|reason| ApiError::new(ErrorType::Internal, reason))
}

/// `/admin/tsdb/delete_series`. With `dry_run=true`, which Prometheus does not have, nothing is deleted and the answer
/// says how many series and samples would be.
pub(crate) async fn delete_series(State(http): State<Arc<Http>>, params: Params) -> Result<Response, ApiError> {
    let admin = admin(&http)?;
    params.whole()?;
    let selectors: Vec<Vec<Matcher>> = params.all("match[]").map(read_set).collect::<Result<_, _>>()?;
    if selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let mint = params.time("start")?.map_or(Timestamp::MIN, Timestamp);
    let maxt = params.time("end")?.map_or(Timestamp::MAX, Timestamp);
    let range = TimeRange { mint, maxt };
    if params.switch("dry_run", false)? {
        let timeout_ms = http.options.query_timeout.ms();
        let count = move |cancel: &_| Ok(admin.count_series(&selectors, range, cancel)?);
        let (series, samples) = http.run(timeout_ms, count).await?.value;
        let text = format!("{{\"series\":{series},\"samples\":{samples}}}");
        return Ok(success(&Remarks::default(), |out| out.extend_from_slice(text.as_bytes())));
    }
    run(move || admin.delete_series(&selectors, range)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `/admin/tsdb/clean_tombstones`.
pub(crate) async fn clean_tombstones(State(http): State<Arc<Http>>) -> Result<Response, ApiError> {
    let admin = admin(&http)?;
    run(move || admin.clean_tombstones()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `/admin/tsdb/snapshot`.
pub(crate) async fn snapshot(State(http): State<Arc<Http>>, params: Params) -> Result<Response, ApiError> {
    let admin = admin(&http)?;
    let skip_head = params.switch("skip_head", false)?;
    let name = run(move || admin.snapshot(skip_head)).await?;
    Ok(success(&Remarks::default(), |out| {
        out.extend_from_slice(b"{\"name\":");
        json::push_string(out, &name);
        out.push(b'}');
    }))
}
