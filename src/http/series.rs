//! `/series`, `/labels` and `/label/<name>/values`: what there is, without samples.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use promontory_model::{Cancel, Labels, Matcher, ReadError, Select, Snapshot, TimeRange, Timestamp};
use promontory_promql::parser;

use super::answer::{ApiError, Remarks, success_list};
use super::params::Params;
use super::{Http, json};

/// Which series, and how much of the answer.
struct Selection {
    /// A series belongs if it passes all matchers of one of these. None at all selects everything.
    sets: Vec<Vec<Matcher>>,
    range: TimeRange,
    limit: Option<usize>,
}

impl Selection {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let limit = params.limit("limit")?;
        let mint = params.time("start")?.map_or(Timestamp::MIN, Timestamp);
        let maxt = params.time("end")?.map_or(Timestamp::MAX, Timestamp);
        let sets = params.all("match[]").map(read_set).collect::<Result<_, _>>()?;
        Ok(Self { sets, range: TimeRange { mint, maxt }, limit })
    }

    /// As many answers as are needed to know whether there are more than the limit.
    fn enough(&self) -> usize {
        self.limit.map_or(usize::MAX, |limit| limit.saturating_add(1))
    }

    /// Calls `one` for each set of matchers.
    fn each(
        &self,
        cancel: &Cancel,
        mut one: impl FnMut(&Select<'_>) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let everything = [Vec::new()];
        let sets = if self.sets.is_empty() { &everything[..] } else { &self.sets };
        for matchers in sets {
            cancel.check()?;
            one(&Select { range: self.range, matchers, cancel })?;
        }
        Ok(())
    }
}

/// The matchers of one `match[]`.
pub(crate) fn read_set(text: &str) -> Result<Vec<Matcher>, ApiError> {
    match parser::parse_selector(text) {
        Ok(selector) => Ok(selector.matchers),
        // The parser says so of any query; of this parameter Prometheus says it in its own words.
        Err(e) if e.message.ends_with("must contain at least one non-empty matcher") => {
            Err(ApiError::parameter("match[]", "match[] must contain at least one non-empty matcher"))
        }
        Err(e) => Err(ApiError::parameter("match[]", e)),
    }
}

/// `/api/v1/labels`.
pub(crate) async fn label_names(State(http): State<Arc<Http>>, params: Params) -> Result<Response, ApiError> {
    list(&http, &params, |snapshot, select, _| snapshot.label_names(select)).await
}

/// `/api/v1/label/<name>/values`.
pub(crate) async fn label_values(
    State(http): State<Arc<Http>>,
    name: Result<Path<String>, PathRejection>,
    params: Params,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|e| ApiError::bad_data(format!("invalid label name: {}", e.body_text())))?;
    let name = unescape(&name).unwrap_or(name);
    if name.is_empty() {
        return Err(ApiError::bad_data(format!("invalid label name: \"{name}\"")));
    }
    list(&http, &params, move |snapshot, select, limit| snapshot.label_values(&name, select, limit)).await
}

/// Answers with the sorted texts that `ask` gives for any of the request's sets of matchers; `ask` need not give
/// more of them than its last argument says.
async fn list(
    http: &Arc<Http>,
    params: &Params,
    ask: impl Fn(&dyn Snapshot, &Select<'_>, usize) -> Result<Vec<String>, ReadError> + Send + 'static,
) -> Result<Response, ApiError> {
    let selection = Selection::read(params)?;
    let limit = selection.limit;
    let data = http.data.clone();
    let ran = http
        .run(http.options.query_timeout.ms(), move |cancel| {
            let snapshot = data.snapshot()?;
            let mut texts = BTreeSet::new();
            selection.each(cancel, |select| {
                texts.extend(ask(&*snapshot, select, selection.enough())?);
                Ok(())
            })?;
            Ok(texts.into_iter().collect::<Vec<_>>())
        })
        .await?;
    let mut texts = ran.value;
    let mut remarks = Remarks::default();
    if limit.is_some_and(|limit| texts.len() > limit) {
        texts.truncate(limit.unwrap_or(usize::MAX));
        remarks.truncated();
    }
    Ok(success_list(&remarks, texts, |out, text| json::push_string(out, text)))
}

/// `/api/v1/series`.
pub(crate) async fn series(State(http): State<Arc<Http>>, params: Params) -> Result<Response, ApiError> {
    params.whole()?;
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let selection = Selection::read(&params)?;
    let limit = selection.limit;
    let data = http.data.clone();
    let ran = http
        .run(http.options.query_timeout.ms(), move |cancel| {
            let snapshot = data.snapshot()?;
            let mut remarks = Remarks::default();
            let mut found: Vec<Labels> = Vec::new();
            selection.each(cancel, |select| {
                let list = snapshot.series(select, selection.enough())?;
                remarks.warnings.extend(list.warnings);
                found.extend(list.labels);
                Ok(())
            })?;
            found.sort_unstable();
            found.dedup();
            if limit.is_some_and(|limit| found.len() > limit) {
                found.truncate(limit.unwrap_or(usize::MAX));
                remarks.truncated();
            }
            Ok((found, remarks))
        })
        .await?;
    let (found, remarks) = ran.value;
    Ok(success_list(&remarks, found, json::push_labels))
}

/// Undoes the escaping of names that do not fit a path: `U__` and then `_<hex>_` for a character, `__` for `_`.
/// `None` when the name is not escaped so.
fn unescape(name: &str) -> Option<String> {
    let mut rest = name.strip_prefix("U__")?;
    let mut out = String::with_capacity(rest.len());
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '_' {
            out.push(c);
            continue;
        }
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let (hex, after) = rest.split_once('_')?;
        let is_hex = (1..=6).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit());
        let code = is_hex.then(|| u32::from_str_radix(hex, 16).ok()).flatten()?;
        out.push(char::from_u32(code)?);
        rest = after;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Option<&str>) {
        assert_eq!(unescape(name).as_deref(), expected, "{name}");
    }

    #[test]
    fn escaped_label_names_are_understood() {
        check("U__http_2e_status", Some("http.status"));
        check("U__a__b", Some("a_b"));
        check("U___1F600_x", Some("😀x"));
        check("job", None);
        check("U__a_zz_", None);
        check("U__a_2e", None);
        check("U___110000_", None);
    }
}
