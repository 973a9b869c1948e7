//! A request for a dashboard, understood: the dashboard, its variables and window, the zone and the colours.

use std::collections::HashSet;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::tz::TimeZone;
use promontory_model::Cancel;

use crate::dashboard::annotations::Event;
use crate::dashboard::color::Theme;
use crate::dashboard::interpolate::{Binding, Context, interpolate, query_params};
use crate::dashboard::model::{AnnotationDef, Dashboard};
use crate::dashboard::params::Params;
use crate::dashboard::parts::{Extent, Found, Key};
use crate::dashboard::provider::{Catalog, Entry};
use crate::dashboard::state::{Dashboards, Inner, WorkError};
use crate::dashboard::store::{Note, NoteFilter};
use crate::dashboard::timerange::Window;
use crate::dashboard::variables::{Variables, resolve, window_binding};
use crate::ui::shell::cookie;
use crate::ui::{Shell, ThemeChoice, page};

use super::view;

/// Width of the panels of a page when nothing is known of the window, CSS pixels.
const PAGE_PX: f64 = 1408.0;

/// A request for a dashboard, understood.
pub(crate) struct Request {
    pub(crate) state: Arc<Inner>,
    pub(crate) entry: Entry,
    pub(crate) params: Params,
    pub(crate) window: Window,
    pub(crate) tz: TimeZone,
    pub(crate) tz_name: String,
    /// Whether the zone is the browser's, as far as it told.
    pub(crate) tz_is_browsers: bool,
    pub(crate) theme: Theme,
    pub(crate) theme_choice: ThemeChoice,
    pub(crate) variables: Arc<Variables>,
    pub(crate) now_ms: i64,
    pub(crate) hidden: HashSet<String>,
    /// Width that all panels of a row have together, CSS pixels.
    pub(crate) page_px: f64,
    /// Width and height of a panel's body where something other than the grid says so, CSS pixels.
    pub(crate) body_px: Option<(f64, f64)>,
    /// What this page and its parts share.
    pub(super) found: Found,
}

/// The zone of the page: the address, else the dashboard, else the browser's as a cookie tells, else UTC.
pub(crate) fn zone(asked: Option<&str>, default: &str, headers: &HeaderMap) -> (TimeZone, String, bool) {
    let wanted = asked.filter(|z| !z.is_empty()).unwrap_or(default);
    let (name, is_browsers) = match wanted {
        "utc" | "UTC" => ("UTC".to_owned(), false),
        "" | "browser" | "default" => {
            let told = cookie(headers, "tz").map(|z| z.replace("%2F", "/"));
            (told.unwrap_or_else(|| "UTC".to_owned()), true)
        }
        other => (other.to_owned(), false),
    };
    match TimeZone::get(&name) {
        Ok(tz) => (tz, name, is_browsers),
        Err(_) => (TimeZone::UTC, "UTC".to_owned(), is_browsers),
    }
}

impl Request {
    pub(super) fn dashboard(&self) -> &Dashboard {
        &self.entry.dashboard
    }

    pub(super) fn lookup(&self, scoped: &[(String, Binding)], name: &str) -> Option<Binding> {
        if let Some((_, binding)) = scoped.iter().find(|(n, _)| n == name) {
            return Some(binding.clone());
        }
        self.variables.binding(name).or_else(|| window_binding(name, &self.window)).or_else(|| {
            Some(match name {
                "__url_time_range" => Binding::plain(format!("from={}&to={}", self.window.from, self.window.to)),
                "__all_variables" => {
                    let all: Vec<String> = self
                        .variables
                        .all
                        .iter()
                        .filter_map(|v| self.variables.binding(&v.def.name).map(|b| query_params(&v.def.name, &b)))
                        .collect();
                    Binding::plain(all.join("&"))
                }
                "__dashboard" => Binding::plain(self.dashboard().title.clone()),
                "__dashboard.uid" => Binding::plain(self.dashboard().uid.clone()),
                "__timezone" => Binding::plain(self.tz_name.clone()),
                "__org" | "__org.id" => Binding::plain("1"),
                _ => return None,
            })
        })
    }

    /// Whether the events of an annotation show.
    pub(crate) fn shows(&self, def: &AnnotationDef) -> bool {
        match self.params.get(&format!("annotation.{}", def.name)) {
            Some(said) => said == "on",
            None => def.is_on,
        }
    }

    /// What readers have noted for this dashboard in its window.
    pub(super) fn notes(&self) -> Vec<Event> {
        let filter = NoteFilter {
            dashboard: Some(self.dashboard().uid.clone()),
            window: Some((self.window.from_ms, self.window.to_ms)),
            ..NoteFilter::default()
        };
        let event = |n: Note| Event {
            from_ms: n.from_ms,
            to_ms: n.to_ms,
            color: "blue".to_owned(),
            text: n.text,
            tags: n.tags,
            panel: n.panel,
        };
        self.state.settings.store().notes(&filter).into_iter().map(event).collect()
    }

    /// A title with its variables filled in.
    pub(super) fn title(&self, text: &str, scoped: &[(String, Binding)]) -> String {
        interpolate(text, Context::Title, &|name| self.lookup(scoped, name))
    }

    /// A text with its variables filled in.
    pub(super) fn text(&self, text: &str, scoped: &[(String, Binding)]) -> String {
        interpolate(text, Context::Text, &|name| self.lookup(scoped, name))
    }
}

/// What a request for a dashboard says, before it is understood.
pub(super) struct Asked<'a> {
    pairs: Vec<(String, String)>,
    headers: &'a HeaderMap,
    cancel: &'a Cancel,
    extent: Extent,
}

impl<'a> Asked<'a> {
    /// For a whole page.
    pub(super) fn whole(pairs: Vec<(String, String)>, headers: &'a HeaderMap, cancel: &'a Cancel) -> Self {
        Self { pairs, headers, cancel, extent: Extent::Whole }
    }

    /// For one panel of a page; its variables may be a moment old.
    pub(super) fn part(pairs: Vec<(String, String)>, headers: &'a HeaderMap, cancel: &'a Cancel) -> Self {
        Self { extent: Extent::Part, ..Self::whole(pairs, headers, cancel) }
    }
}

/// Finds the dashboard and resolves its variables. Returns the not-found page otherwise.
pub(super) async fn understand(state: &Dashboards, uid: &str, asked: Asked<'_>) -> Result<Request, Response> {
    let (wanted, headers) = (uid.to_owned(), asked.headers);
    let theme = asked.pairs.iter().rev().find(|(n, _)| n == "theme").map(|(_, v)| v.clone());
    let found = understand_of(state, move |catalog| catalog.get(&wanted).cloned(), asked).await?;
    found.ok_or_else(|| not_found(uid, ThemeChoice::choose(theme.as_deref(), headers)))
}

/// The same of a dashboard that `find` gives, which need not be among those that are kept.
pub(super) async fn understand_of(
    state: &Dashboards,
    find: impl FnOnce(&Catalog) -> Option<Entry> + Send + 'static,
    asked: Asked<'_>,
) -> Result<Option<Request>, Response> {
    let Asked { pairs, headers, cancel, extent } = asked;
    let inner = state.0.clone();
    let now_ms = inner.now_ms();
    let params = Arc::new(Params::new(pairs));
    let theme_choice = ThemeChoice::choose(params.get("theme"), headers);
    let theme = if theme_choice.is_light(headers) { Theme::Light } else { Theme::Dark };
    let entry = {
        let inner = inner.clone();
        move || find(&inner.settings.catalog(now_ms))
    };
    let Some(entry) = inner.run(entry).await.map_err(lost)? else { return Ok(None) };
    let d = entry.dashboard.clone();
    let (tz, tz_name, tz_is_browsers) = zone(params.get("timezone"), &d.timezone, headers);
    let from = params.get("from").unwrap_or(&d.from);
    let to = params.get("to").unwrap_or(&d.to);
    let window = Window::new(from, to, now_ms, &tz);
    let key = Key::new(from, to, &tz_name, &params);
    let resolved = {
        let (inner, d, params, window) = (inner.clone(), d.clone(), params.clone(), window.clone());
        let cancel = cancel.clone();
        move || resolve(&d.variables, &|name| params.variable(name), &window, inner.source.as_ref(), &cancel)
    };
    let now_ns = inner.clock.monotonic_ns();
    let found = inner.pages.found(extent, (&d, key), now_ns, cancel, inner.run(resolved)).await.map_err(lost)?;
    Ok(Some(Request {
        state: inner,
        entry,
        hidden: params.all("hide").into_iter().collect(),
        params: Arc::unwrap_or_clone(params),
        window,
        tz,
        tz_name,
        tz_is_browsers,
        theme,
        theme_choice,
        variables: found.variables.clone(),
        found,
        now_ms,
        page_px: PAGE_PX,
        body_px: None,
    }))
}

fn lost(e: WorkError) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response()
}

pub(super) fn not_found(uid: &str, theme: ThemeChoice) -> Response {
    let shell = Shell::new("Not found", "dashboards", theme);
    let message = format!("There is no dashboard with the uid “{uid}”.");
    page(StatusCode::NOT_FOUND, &view::MessagePage { shell, title: "Dashboard not found".to_owned(), message })
}
