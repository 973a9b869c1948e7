//! Transformations between queries and panel.

use super::json::{flag, text};
use super::model::Panel;
use super::query::PanelData;

/// Runs the panel's transformations on its frames. What is not known is left out and said.
pub(crate) fn apply(panel: &Panel, data: &mut PanelData) {
    for transformation in panel.transformations.iter().filter(|t| flag(t, "disabled") != Some(true)) {
        let id = text(transformation, "id").unwrap_or("");
        data.notices.push(format!("transformation {id:?} is not applied"));
    }
}
