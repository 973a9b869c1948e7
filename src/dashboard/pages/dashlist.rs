//! The panel that lists dashboards: those of its tags, folder and words. Stars are kept by the browser, so the
//! dashboards with one are a link to where the browser shows them.

use std::fmt::Write as _;

use crate::dashboard::html::escape;
use crate::dashboard::json::{flag, integer, string, strings};
use crate::dashboard::model::Panel;
use crate::dashboard::params::Params;

use super::list::is_match;
use super::request::Request;

/// Dashboards that one panel lists at most.
const ITEMS_MAX: usize = 100;

/// The body of the panel.
pub(super) fn draw(request: &Request, panel: &Panel) -> String {
    let options = &panel.options;
    let (query, tags, folder) = (string(options, "query"), strings(options, "tags"), string(options, "folderUID"));
    let wants = |name: &str| flag(options, name).unwrap_or(false);
    let narrows = !query.is_empty() || !tags.is_empty() || !folder.is_empty();
    let limit = integer(options, "maxItems").and_then(|n| usize::try_from(n).ok()).unwrap_or(10).clamp(1, ITEMS_MAX);
    let mut extra = Vec::new();
    if wants("keepTime") {
        extra.push(("from".to_owned(), request.window.from.clone()));
        extra.push(("to".to_owned(), request.window.to.clone()));
    }
    if wants("includeVars") {
        extra.extend(request.variables.params());
    }
    let extra = Params::new(extra).query();
    let mut out = String::from("<div class=\"text\"><ul>");
    if wants("showStarred") {
        out.push_str("<li><a href=\"/dashboards#starred\">★ Starred dashboards</a></li>");
    }
    // Without a search the panel listed what its reader had starred and seen.
    if wants("showSearch") || narrows || !wants("showStarred") {
        let catalog = request.state.settings.catalog(request.now_ms);
        let found = catalog.entries.iter().filter(|e| is_match(e, &query, &tags));
        let found = found.filter(|e| folder.is_empty() || e.folder_uid == folder);
        for d in found.take(limit).map(|e| &e.dashboard) {
            let url = escape(&format!("/d/{}/{}{extra}", d.uid, d.slug()));
            let _ = write!(out, "<li><a href=\"{url}\">{}</a></li>", escape(&d.title));
        }
    }
    out.push_str("</ul></div>");
    out
}
