//! The top-level sections: one table from which the file is read, unknown names are told from known ones and the
//! help text is made.

use crate::decode::{Field, Harmless, NotBuilt};
use crate::yaml::{Kind, Node};
use crate::{Config, cardinality, dashboards, global, otlp, remote, scrape, storage};

/// A top-level section.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its key.
    pub name: &'static str,
    /// What it is for, in a line.
    pub about: &'static str,
    /// Whose it is.
    pub origin: Origin,
    pub(crate) read: Read,
}

/// Who defines a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Means what it means in Prometheus.
    Prometheus,
    /// Only this server has it.
    Own,
}

/// How a section is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Read {
    /// By this function, in the order of the table.
    With(fn(&Field<'_>, &mut Config)),
    /// Not at all: it configures what this server does not have.
    Nothing,
    /// An error unless it asks for nothing.
    /// The text is what this server does not do.
    NotBuilt(Harmless, &'static str),
}

impl Section {
    /// Whether this server acts on the section.
    #[must_use]
    pub fn is_built(&self) -> bool {
        !matches!(self.read, Read::NotBuilt(..))
    }
}

/// All sections, in the order in which they are read: `global` comes before what inherits from it.
pub const SECTIONS: [Section; 13] = [
    prometheus("global", "defaults of scraping, rules and queries", Read::With(global::read)),
    prometheus("runtime", "settings of Go's runtime; accepted and without effect", Read::Nothing),
    prometheus("scrape_configs", "jobs: what is scraped and how", Read::With(scrape::read)),
    prometheus("scrape_config_files", "files with more jobs", Read::With(scrape::read_files)),
    prometheus("storage", "retention and out-of-order window", Read::With(storage::read)),
    prometheus(
        "rule_files",
        "files with recording and alerting rules",
        Read::NotBuilt(Harmless::Empty, "this server evaluates no rules"),
    ),
    prometheus(
        "alerting",
        "where alerts are sent",
        Read::NotBuilt(Harmless::If(names_no_alertmanager), "this server sends no alerts"),
    ),
    prometheus("remote_write", "where samples are copied to", Read::With(remote::read_write)),
    prometheus("remote_read", "where samples are read from besides", Read::With(remote::read_read)),
    prometheus("otlp", "how OpenTelemetry metrics are translated", Read::With(otlp::read)),
    prometheus(
        "tracing",
        "where traces of this server are sent",
        Read::NotBuilt(Harmless::Empty, "this server sends no traces"),
    ),
    own("cardinality", "how many series scraping may hold", Read::With(cardinality::read)),
    own("dashboards", "folders with dashboards", Read::With(dashboards::read)),
];

const fn prometheus(name: &'static str, about: &'static str, read: Read) -> Section {
    Section { name, about, origin: Origin::Prometheus, read }
}

const fn own(name: &'static str, about: &'static str, read: Read) -> Section {
    Section { name, about, origin: Origin::Own, read }
}

/// Reads all sections of the document `root` into `config`.
pub(crate) fn read(root: &Field<'_>, config: &mut Config) {
    let Some(fields) = root.fields() else { return };
    let mut not_built = Vec::new();
    for section in &SECTIONS {
        match section.read {
            Read::With(read) => {
                if let Some(field) = fields.get(section.name) {
                    read(&field, config);
                }
            }
            Read::Nothing => {
                fields.get(section.name);
            }
            Read::NotBuilt(harmless, reason) => not_built.push(NotBuilt::because(section.name, harmless, reason)),
        }
    }
    fields.finish(&[&not_built]);
}

/// Whether an `alerting` section leads nowhere, as that of the configuration which Prometheus is shipped with.
fn names_no_alertmanager(alerting: &Node) -> bool {
    let Kind::Map(entries) = &alerting.kind else { return false };
    entries.iter().all(|e| e.value.is_empty() || (e.key == "alertmanagers" && all(&e.value, finds_nothing)))
}

fn finds_nothing(alertmanager: &Node) -> bool {
    let Kind::Map(entries) = &alertmanager.kind else { return alertmanager.is_empty() };
    entries.iter().all(|e| {
        e.value.is_empty()
            || !e.key.ends_with("_configs")
            || e.key.ends_with("relabel_configs")
            || (e.key == "static_configs" && all(&e.value, |group| group.get("targets").is_none_or(Node::is_empty)))
    })
}

fn all(list: &Node, check: impl Fn(&Node) -> bool) -> bool {
    match &list.kind {
        Kind::List(items) => items.iter().all(check),
        _ => false,
    }
}
