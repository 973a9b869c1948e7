//! `info`: adds the labels of info series that describe the same target.

use promontory_model::Matcher;

use super::exec::Exec;
use super::vector::Vector;
use crate::error::QueryError;
use crate::plan::{Grid, When};

/// `input` with the labels of its info series.
pub(crate) fn enrich(
    _exec: &mut Exec<'_>,
    input: Vector,
    _matchers: &[Matcher],
    _when: When,
    _grid: Grid,
) -> Result<Vector, QueryError> {
    Ok(input)
}
