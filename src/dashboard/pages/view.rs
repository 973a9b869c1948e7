//! What the templates show.

use askama::Template;

use crate::dashboard::adhoc;
use crate::dashboard::interpolate::percent_encode;
use crate::dashboard::model::{AnnotationDef, Dashboard, Link, Needs, VariableKind};
use crate::dashboard::repeat::Copy;
use crate::dashboard::timerange::{QUICK_RANGES, local, parse_interval};
use crate::dashboard::variables::{ALL, Variable};
use crate::ui::{Shell, ThemeChoice};

use super::Request;

/// A page with one message.
#[derive(Template)]
#[template(path = "message.html")]
pub(crate) struct MessagePage {
    pub(crate) shell: Shell,
    pub(crate) title: String,
    pub(crate) message: String,
}

/// The inside of a panel: head and body.
#[derive(Template, Default, Clone)]
#[template(path = "panel.html")]
pub(crate) struct PanelInner {
    pub(crate) title: String,
    /// HTML.
    pub(crate) description: String,
    pub(crate) note: String,
    pub(crate) notices: Vec<String>,
    pub(crate) view_url: String,
    pub(crate) explore_url: String,
    pub(crate) inspect_url: String,
    pub(crate) links: Vec<LinkText>,
    /// HTML.
    pub(crate) body: String,
}

/// Text, address and whether it opens a new tab.
pub(crate) type LinkText = (String, String, bool);

/// A panel in its place.
pub(crate) struct PanelView {
    pub(crate) key: String,
    pub(crate) class: String,
    pub(crate) inner: PanelInner,
}

impl PanelView {
    pub(crate) fn place(copy: &Copy, is_alone: bool) -> Self {
        let grid = copy.grid;
        let look = if copy.panel.transparent { " transparent" } else { "" };
        let bare = if copy.panel.title.is_empty() { " untitled" } else { "" };
        let class = if is_alone {
            format!("alone{bare}")
        } else {
            format!("x{} y{} w{} h{} {}{look}{bare}", grid.x, grid.y, grid.w, grid.h, safe_class(&copy.panel.kind))
        };
        Self { key: copy.key.clone(), class, inner: PanelInner::default() }
    }
}

/// A panel type as a class name.
fn safe_class(kind: &str) -> String {
    format!("k-{}", kind.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect::<String>())
}

pub(crate) struct RowView {
    pub(crate) title: String,
    pub(crate) is_collapsed: bool,
    pub(crate) n_panels: usize,
    pub(crate) url: String,
}

pub(crate) struct SectionView {
    pub(crate) row: Option<RowView>,
    pub(crate) panels: Vec<PanelView>,
}

/// A variable as a form control.
pub(crate) struct Picker {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) is_text: bool,
    /// An example of what may be written.
    pub(crate) placeholder: &'static str,
    pub(crate) is_multi: bool,
    pub(crate) shown: String,
    pub(crate) error: String,
    pub(crate) options: Vec<PickerOption>,
}

pub(crate) struct PickerOption {
    pub(crate) text: String,
    pub(crate) value: String,
    pub(crate) is_selected: bool,
}

/// A link with its text and whether it is the current one.
pub(crate) struct Choice {
    pub(crate) text: String,
    pub(crate) url: String,
    pub(crate) is_current: bool,
}

#[derive(Template)]
#[template(path = "dashboard.html")]
pub(crate) struct DashboardPage {
    shell: Shell,
    dash: DashAttributes,
    title: String,
    folder: String,
    folder_url: String,
    pickers: Vec<Picker>,
    /// Parameters that the form keeps.
    kept: Vec<(String, String)>,
    window_text: String,
    zone: String,
    from: String,
    to: String,
    quick: Vec<Choice>,
    refresh: Vec<PickerOption>,
    links: Vec<LinkText>,
    /// Title and links of each menu.
    menus: Vec<(String, Vec<LinkText>)>,
    /// Switches of annotations.
    annotations: Vec<Choice>,
    /// What of the page failed, where no panel says so.
    notices: Vec<String>,
    /// Whether there are no controls.
    is_bare: bool,
    /// Said where there are no panels.
    empty: String,
    sections: Vec<SectionView>,
    /// What the dashboard shows nothing without, where there is none.
    missing: Option<Needs>,
    back_url: String,
    path: String,
    /// The uid as a browser keeps it.
    star: String,
    /// The dashboard and its present window, for the links of its menu.
    uid: String,
    query: String,
    can_change: bool,
    /// Whether there is a file of it, with versions.
    has_file: bool,
}

/// What is behind a panel.
#[derive(Template)]
#[template(path = "inspect.html")]
pub(crate) struct InspectPage {
    pub(crate) shell: Shell,
    pub(crate) title: String,
    pub(crate) dashboard: String,
    pub(crate) back_url: String,
    pub(crate) csv_url: String,
    pub(crate) took: String,
    /// refId, expression and steps.
    pub(crate) queries: Vec<(String, String, String)>,
    pub(crate) errors: Vec<(String, String)>,
    /// HTML.
    pub(crate) tables: Vec<String>,
    pub(crate) more: usize,
    pub(crate) json: String,
}

/// What the script reads from the page.
#[derive(Default)]
pub(crate) struct DashAttributes {
    /// Empty where panels cannot be fetched one by one.
    pub(crate) path: String,
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    pub(crate) refresh_ms: i64,
    pub(crate) is_live: bool,
    pub(crate) tooltip: u8,
    pub(crate) zone: String,
    pub(crate) zone_is_browsers: bool,
}

#[derive(Template)]
#[template(path = "solo.html")]
pub(crate) struct SoloPage {
    shell: Shell,
    dash: DashAttributes,
    panel: PanelView,
}

const REFRESH: [&str; 9] = ["", "5s", "10s", "30s", "1m", "5m", "15m", "30m", "1h"];
/// The shortest automatic refresh.
const REFRESH_MS_MIN: i64 = 1_000;

fn refresh_text(request: &Request) -> String {
    match request.params.get("refresh") {
        Some(text) => text.to_owned(),
        None => request.entry.dashboard.refresh.clone(),
    }
}

impl DashAttributes {
    pub(crate) fn of(request: &Request) -> Self {
        let refresh_ms = parse_interval(&refresh_text(request)).map_or(0, |ms| ms.max(REFRESH_MS_MIN));
        Self {
            path: format!("/d/{}", request.entry.dashboard.uid),
            from_ms: request.window.from_ms,
            to_ms: request.window.to_ms,
            refresh_ms,
            is_live: request.window.is_live(),
            tooltip: request.entry.dashboard.graph_tooltip,
            zone: request.tz_name.clone(),
            zone_is_browsers: request.tz_is_browsers,
        }
    }

    /// For a page that stays as it is.
    pub(crate) fn detached(self) -> Self {
        Self { path: String::new(), refresh_ms: 0, is_live: false, zone_is_browsers: false, ..self }
    }
}

impl SoloPage {
    pub(crate) fn new(request: &Request, key: String, inner: PanelInner) -> Self {
        let mut shell = Shell::new(&inner.title, "", request.theme_choice);
        shell.is_kiosk = true;
        let dash = DashAttributes::of(request);
        shell.reload_seconds = (dash.refresh_ms > 0).then_some(dash.refresh_ms / 1000);
        let class = if inner.title.is_empty() { "alone untitled" } else { "alone" };
        Self { shell, dash, panel: PanelView { key, class: class.to_owned(), inner } }
    }
}

fn path_of(d: &Dashboard) -> String {
    format!("/d/{}/{}", d.uid, d.slug())
}

/// The address that opens or closes a row.
pub(crate) fn toggle_url(request: &Request, key: &str) -> String {
    let mut toggled = request.params.all("toggle");
    match toggled.iter().position(|k| k == key) {
        Some(i) => {
            toggled.remove(i);
        }
        None => toggled.push(key.to_owned()),
    }
    let base = request.params.without(&["toggle"]);
    let pairs: Vec<(&str, &str)> = toggled.iter().map(|k| ("toggle", k.as_str())).collect();
    format!("{}{}", path_of(&request.entry.dashboard), base.with(&pairs).query())
}

impl DashboardPage {
    pub(crate) fn new(
        request: &Request,
        sections: Vec<SectionView>,
        alone: Option<String>,
        missing: Option<Needs>,
        can_change: bool,
    ) -> Self {
        let d = &request.entry.dashboard;
        let params = &request.params;
        let mut shell = Shell::new(&d.title, "dashboards", request.theme_choice);
        shell.is_kiosk = params.has("kiosk");
        let dash = DashAttributes::of(request);
        shell.reload_seconds = (dash.refresh_ms > 0).then_some(dash.refresh_ms / 1000);
        let path = path_of(d);
        let quick = QUICK_RANGES
            .iter()
            .map(|(from, to, text)| Choice {
                text: (*text).to_owned(),
                url: format!("{path}{}", params.with(&[("from", from), ("to", to)]).query()),
                is_current: *from == request.window.from && *to == request.window.to,
            })
            .collect();
        let pickers: Vec<Picker> = request.variables.all.iter().filter(|v| is_shown(v)).map(picker).collect();
        let is_control = |name: &str| {
            matches!(name, "from" | "to" | "refresh" | "w" | "h" | "hide")
                || pickers.iter().any(|p| name.strip_prefix("var-") == Some(p.name.as_str()))
        };
        let kept = params.pairs().iter().filter(|(n, _)| !is_control(n)).cloned().collect();
        let input =
            |text: &str, ms: i64| if text.starts_with("now") { text.to_owned() } else { local(ms, &request.tz) };
        Self {
            links: d.links.iter().filter(|l| !l.as_dropdown).flat_map(|l| links(request, l)).collect(),
            menus: d
                .links
                .iter()
                .filter(|l| l.as_dropdown)
                .map(|l| (request.text(&l.title, &[]), links(request, l)))
                .filter(|(_, found)| !found.is_empty())
                .collect(),
            annotations: annotation_switches(request, &path),
            refresh: refresh_options(&refresh_text(request)),
            title: d.title.clone(),
            folder: request.entry.folder.clone(),
            folder_url: format!("/dashboards/f/{}", percent_encode(&request.entry.folder_uid)),
            window_text: request.window.describe(&request.tz),
            zone: request.tz_name.clone(),
            from: input(&request.window.from, request.window.from_ms),
            to: input(&request.window.to, request.window.to_ms),
            notices: notices(request, alone.is_none()),
            is_bare: params.get("kiosk").is_some_and(|k| k != "tv"),
            empty: match &alone {
                Some(key) => format!("This dashboard has no panel {key}."),
                None => "This dashboard has no panels.".to_owned(),
            },
            back_url: alone.map(|_| format!("{path}{}", params.without(&["viewPanel"]).query())).unwrap_or_default(),
            shell,
            dash,
            pickers,
            kept,
            quick,
            sections,
            missing,
            star: d.uid.clone(),
            uid: percent_encode(&d.uid),
            query: params.without(&["w", "h", "hide"]).query(),
            can_change,
            has_file: request.entry.path.is_some(),
            path,
        }
    }
}

/// What of the variables failed, and of the events unless the one panel says so.
pub(super) fn notices(request: &Request, with_events: bool) -> Vec<String> {
    let failed = |v: &Variable| v.error.as_ref().map(|e| format!("variable {:?}: {e}", v.def.name));
    let mut out: Vec<String> = request.variables.all.iter().filter_map(failed).collect();
    if with_events {
        out.extend(request.found.failed_events());
    }
    out
}

/// A link per annotation that turns its events on or off.
fn annotation_switches(request: &Request, path: &str) -> Vec<Choice> {
    let switch = |def: &AnnotationDef| {
        let is_on = request.shows(def);
        let name = format!("annotation.{}", def.name);
        let params = request.params.with(&[(name.as_str(), if is_on { "off" } else { "on" })]);
        Choice { text: def.name.clone(), url: format!("{path}{}", params.query()), is_current: is_on }
    };
    request.entry.dashboard.annotations.iter().filter(|d| !d.is_fixed).map(switch).collect()
}

fn is_shown(v: &Variable) -> bool {
    // A data source variable has one choice, ours.
    !v.def.hide && !matches!(v.def.kind, VariableKind::Constant | VariableKind::Datasource | VariableKind::Other)
}

fn picker(v: &Variable) -> Picker {
    let mut options = Vec::with_capacity(v.options.len() + 1);
    if v.def.include_all {
        options.push(PickerOption { text: "All".to_owned(), value: ALL.to_owned(), is_selected: v.is_all() });
    }
    options.extend(v.options.iter().map(|o| PickerOption {
        is_selected: !v.is_all() && v.selected.contains(&o.value),
        text: o.text.clone(),
        value: o.value.clone(),
    }));
    let is_adhoc = v.def.kind == VariableKind::Adhoc;
    let is_text = is_adhoc || v.def.kind == VariableKind::Textbox;
    let shown = match v.def.kind {
        // What cannot be read stays for its writer to mend.
        VariableKind::Adhoc => {
            adhoc::read(&v.selected).map_or_else(|_| v.selected.join(", "), |filters| adhoc::text(&filters))
        }
        VariableKind::Textbox => v.selected.join(""),
        _ => v.text(),
    };
    Picker {
        name: v.def.name.clone(),
        label: v.def.label.clone(),
        is_text,
        is_multi: v.def.multi,
        placeholder: if is_adhoc { "label=\"value\", …" } else { "" },
        shown: if shown.is_empty() && !is_text { "None".to_owned() } else { shown },
        error: v.error.clone().unwrap_or_default(),
        options,
    }
}

fn refresh_options(current: &str) -> Vec<PickerOption> {
    let mut values: Vec<&str> = REFRESH.to_vec();
    if !values.contains(&current) && parse_interval(current).is_some() {
        values.insert(1, current);
    }
    let option = |v: &str| PickerOption {
        text: if v.is_empty() { "Off".to_owned() } else { v.to_owned() },
        value: v.to_owned(),
        is_selected: v == current,
    };
    values.into_iter().map(option).collect()
}

/// Dashboards that one link by tags leads to.
const LINKED_MAX: usize = 100;

/// Text, address and whether it opens a new tab, for every target of a dashboard link.
pub(crate) fn links(request: &Request, link: &Link) -> Vec<LinkText> {
    let mut extra = Vec::new();
    if link.keep_time {
        extra.push(("from".to_owned(), request.window.from.clone()));
        extra.push(("to".to_owned(), request.window.to.clone()));
    }
    if link.include_vars {
        extra.extend(request.variables.params());
    }
    let with_extra = |url: String| {
        let query = crate::dashboard::params::Params::new(extra.clone()).query();
        let joined = if url.contains('?') { query.replacen('?', "&", 1) } else { query };
        format!("{url}{joined}")
    };
    match &link.tags {
        Some(tags) => {
            let catalog = request.state.settings.catalog(request.now_ms);
            let all = catalog.entries.iter().filter(|e| tags.iter().all(|t| e.dashboard.tags.contains(t)));
            all.filter(|e| e.dashboard.uid != request.entry.dashboard.uid)
                .take(LINKED_MAX)
                .map(|e| (e.dashboard.title.clone(), with_extra(path_of(&e.dashboard)), link.new_tab))
                .collect()
        }
        None => {
            let url = request.text(&link.url, &[]);
            if url.is_empty() || !crate::dashboard::html::is_safe_url(&url) {
                return Vec::new();
            }
            vec![(request.text(&link.title, &[]), with_extra(url), link.new_tab)]
        }
    }
}

/// A dashboard in the list.
pub(crate) struct ListItem {
    pub(crate) uid: String,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) url: String,
    /// Name and address.
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) is_builtin: bool,
    pub(crate) n_panels: usize,
}

#[derive(Template)]
#[template(path = "dashboards.html")]
pub(crate) struct ListPage {
    pub(crate) shell: Shell,
    pub(crate) query: String,
    /// Where the search form leads.
    pub(crate) action: String,
    /// Title of the one folder that is shown.
    pub(crate) only: String,
    pub(crate) tag: String,
    pub(crate) tags: Vec<TagCount>,
    /// Folder and its dashboards.
    pub(crate) folders: Vec<(String, Vec<ListItem>)>,
    pub(crate) broken: Vec<(String, String)>,
}

/// A tag that narrows the list.
pub(crate) struct TagCount {
    pub(crate) name: String,
    pub(crate) n: usize,
    pub(crate) is_on: bool,
    /// Narrows, or widens again.
    pub(crate) url: String,
}

/// The address of the list with one tag.
pub(crate) fn tag_url(tag: &str) -> String {
    format!("/dashboards?tag={}", percent_encode(tag))
}

impl ListPage {
    pub(crate) fn shell(theme: ThemeChoice) -> Shell {
        Shell::new("Dashboards", "dashboards", theme)
    }
}
