//! Type, help and unit of the families that a target exposes, shared with whoever shows them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use promontory_model::{MetricMetadata, MetricType};

use super::exposition::{Format, Item, Metadata, Parser};

/// The families of one target. The lock protects the map alone and is taken only when metadata changes or is shown.
#[derive(Debug, Default)]
pub struct Families(Mutex<BTreeMap<String, MetricMetadata>>);

impl Families {
    /// All families by name.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, MetricMetadata> {
        self.lock().clone()
    }

    /// What is known of `family`.
    #[must_use]
    pub fn get(&self, family: &str) -> Option<MetricMetadata> {
        self.lock().get(family).cloned()
    }

    /// Number of families, and bytes of their names, helps and units.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let families = self.lock();
        let bytes = families.iter().map(|(name, m)| name.len() + m.help.len() + m.unit.len() + m.kind.as_str().len());
        (families.len(), bytes.sum())
    }

    pub(crate) fn set(&self, family: String, text: Metadata) {
        let mut families = self.lock();
        let metadata = families.entry(family).or_default();
        match text {
            Metadata::Type(kind) => metadata.kind = kind,
            Metadata::Help(help) => metadata.help = help,
            Metadata::Unit(unit) => metadata.unit = unit,
        }
    }

    /// Takes back what the metadata line `line` said, unless another line has said something else since.
    pub(crate) fn forget(&self, line: &[u8]) {
        // The formats write these lines alike, but have not all types, and not all units.
        let formats = [Format::OpenMetrics, Format::Text, Format::Assembled];
        let parsed = formats.iter().find_map(|f| Parser::new(line, *f).next_item().ok());
        let Some(Item::Metadata { family, text, .. }) = parsed else { return };
        let mut families = self.lock();
        let Some(metadata) = families.get_mut(&family) else { return };
        match text {
            Metadata::Type(kind) if metadata.kind == kind => metadata.kind = MetricType::Unknown,
            Metadata::Help(help) if metadata.help == help => metadata.help.clear(),
            Metadata::Unit(unit) if metadata.unit == unit => metadata.unit.clear(),
            _ => return,
        }
        if *metadata == MetricMetadata::default() {
            families.remove(&family);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, MetricMetadata>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
