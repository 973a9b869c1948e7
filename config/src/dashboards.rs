//! `dashboards`: folders with dashboard JSON. A section of this server, not of Prometheus.

use std::path::PathBuf;

use crate::Config;
use crate::decode::Field;

/// The section `dashboards`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DashboardsConfig {
    /// Folders whose `*.json` files are dashboards.
    pub paths: Vec<PathBuf>,
}

pub(crate) fn read(field: &Field<'_>, config: &mut Config) {
    let Some(fields) = field.fields() else { return };
    config.dashboards.paths = fields.list("paths").iter().filter_map(Field::path_buf).collect();
    fields.finish(&[]);
}
