//! A dashboard as we draw it: what the JSON says, with defaults filled in and old forms brought up to date.
//!
//! Options of single panel types stay JSON and are read where the panel is drawn.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// A dashboard.
#[derive(Debug, Clone)]
pub(crate) struct Dashboard {
    pub(crate) uid: String,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) tags: Vec<String>,
    /// How often it was saved, as far as the file says.
    pub(crate) version: i64,
    /// `browser`, `utc` or the name of a zone.
    pub(crate) timezone: String,
    /// Interval of the automatic refresh, as written; empty for none.
    pub(crate) refresh: String,
    pub(crate) from: String,
    pub(crate) to: String,
    /// 0 own, 1 shared crosshair, 2 shared tooltip.
    pub(crate) graph_tooltip: u8,
    pub(crate) variables: Vec<VariableDef>,
    pub(crate) sections: Vec<Section>,
    pub(crate) links: Vec<Link>,
    pub(crate) annotations: Vec<AnnotationDef>,
    pub(crate) needs: Option<Needs>,
}

/// What a dashboard shows nothing without, and how that is had. Our own member `promontory` of the JSON; Grafana
/// passes over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Selects series of which one at least is there when the dashboard has something to show.
    pub(crate) selector: String,
    /// A sentence about where the metrics come from.
    pub(crate) hint: String,
    /// A configuration that scrapes them.
    pub(crate) scrape: String,
}

/// A query whose points are events over all plots.
#[derive(Debug, Clone, Default)]
pub(crate) struct AnnotationDef {
    pub(crate) name: String,
    pub(crate) expr: String,
    /// Step of the query, as written.
    pub(crate) step: String,
    pub(crate) color: String,
    pub(crate) title_format: String,
    pub(crate) text_format: String,
    /// Labels whose values are the tags.
    pub(crate) tag_keys: Vec<String>,
    /// Whether a point's value is the time of its event, ms.
    pub(crate) use_value_for_time: bool,
    /// Whether the events show before the reader has said otherwise.
    pub(crate) is_on: bool,
    /// Whether there is no switch for them.
    pub(crate) is_fixed: bool,
}

impl Dashboard {
    /// Every panel that is not a row.
    pub(crate) fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.sections.iter().flat_map(|s| &s.panels).map(|p| &**p)
    }

    /// The part of the address after the uid; decoration only.
    pub(crate) fn slug(&self) -> String {
        slug(&self.title)
    }
}

/// Lower-case words joined by dashes.
pub(crate) fn slug(title: &str) -> String {
    let mut out = String::new();
    for c in title.chars() {
        if c.is_alphanumeric() {
            out.extend(c.to_lowercase());
        } else if !out.ends_with('-') && !out.is_empty() {
            out.push('-');
        }
    }
    let out = out.trim_end_matches('-');
    if out.is_empty() { "dashboard".to_owned() } else { out.to_owned() }
}

/// A row with its panels; the first section may have no row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Section {
    pub(crate) row: Option<Row>,
    /// Shared, because every part of a page begins with a look at all of them.
    pub(crate) panels: Vec<Arc<Panel>>,
}

/// The head of a section.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) title: String,
    pub(crate) collapsed: bool,
    /// Variable over whose values the section repeats; empty for none.
    pub(crate) repeat: String,
}

/// A panel.
#[derive(Debug, Clone)]
pub(crate) struct Panel {
    pub(crate) id: i64,
    /// `timeseries`, `stat`, ….
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) transparent: bool,
    pub(crate) grid: Grid,
    pub(crate) targets: Vec<Target>,
    pub(crate) field_config: FieldConfig,
    pub(crate) options: Value,
    pub(crate) transformations: Vec<Value>,
    /// Lower bound of the step, as written; may hold variables.
    pub(crate) interval: String,
    pub(crate) max_data_points: Option<i64>,
    pub(crate) time_from: String,
    pub(crate) time_shift: String,
    pub(crate) hide_time_override: bool,
    pub(crate) repeat: String,
    pub(crate) repeat_vertical: bool,
    pub(crate) max_per_row: Option<i64>,
    pub(crate) links: Vec<Link>,
    /// Kind of a data source that is not ours; such a panel cannot be drawn.
    pub(crate) foreign_source: Option<String>,
}

/// Place in the grid of 24 columns, in grid units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Grid {
    pub(crate) x: i64,
    pub(crate) y: i64,
    pub(crate) w: i64,
    pub(crate) h: i64,
}

/// A query of a panel.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    pub(crate) ref_id: String,
    pub(crate) expr: String,
    pub(crate) legend: String,
    pub(crate) format: Format,
    pub(crate) instant: bool,
    pub(crate) range: bool,
    pub(crate) hide: bool,
    pub(crate) interval: String,
    pub(crate) interval_factor: i64,
    /// What is computed of other queries, instead of PromQL.
    pub(crate) computed: Option<Expression>,
}

/// A computation over the queries of a panel, which are named by their letters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expression {
    /// Arithmetic: `$A / $B * 100`.
    Math(String),
    /// One value of each series.
    Reduce { of: String, calc: String },
    /// The query itself; what it is resampled to is the step of the panel.
    Same(String),
    /// 1 where the query is above a bound, else 0.
    Above { of: String, bound: f64 },
    /// 1 where the query is below a bound, else 0.
    Below { of: String, bound: f64 },
    /// What is not evaluated, by its name.
    Unknown(String),
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Math(text) => f.write_str(text),
            Self::Reduce { of, calc } => write!(f, "{calc} of {of}"),
            Self::Same(of) => f.write_str(of),
            Self::Above { of, bound } => write!(f, "{of} > {bound}"),
            Self::Below { of, bound } => write!(f, "{of} < {bound}"),
            Self::Unknown(kind) => f.write_str(kind),
        }
    }
}

/// What a query's result becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    #[default]
    TimeSeries,
    Table,
    Heatmap,
}

/// How fields look.
#[derive(Debug, Clone, Default)]
pub(crate) struct FieldConfig {
    pub(crate) defaults: Value,
    pub(crate) overrides: Vec<Override>,
}

/// Properties for the fields that a matcher picks.
#[derive(Debug, Clone)]
pub(crate) struct Override {
    pub(crate) matcher: String,
    pub(crate) options: Value,
    /// Dotted paths and values.
    pub(crate) properties: Vec<(String, Value)>,
}

/// A link of a dashboard, panel or field.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    pub(crate) title: String,
    pub(crate) url: String,
    /// Search by tags instead of an address.
    pub(crate) tags: Option<Vec<String>>,
    /// Whether what the search finds stands in a menu.
    pub(crate) as_dropdown: bool,
    pub(crate) new_tab: bool,
    pub(crate) keep_time: bool,
    pub(crate) include_vars: bool,
}

/// A variable as defined.
#[derive(Debug, Clone, Default)]
pub(crate) struct VariableDef {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) kind: VariableKind,
    pub(crate) query: String,
    pub(crate) regex: String,
    pub(crate) sort: i64,
    pub(crate) multi: bool,
    pub(crate) include_all: bool,
    pub(crate) all_value: String,
    /// Values chosen when the file was saved.
    pub(crate) current: Vec<String>,
    pub(crate) hide: bool,
    pub(crate) auto_count: Option<i64>,
    pub(crate) auto_min: String,
}

/// Where a variable's options come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum VariableKind {
    #[default]
    Query,
    Datasource,
    Custom,
    Constant,
    Textbox,
    Interval,
    /// Conditions on the labels of all series.
    Adhoc,
    /// What we do not know: no options.
    Other,
}
