//! Dashboards ask the engine directly: no HTTP, no JSON in between.

use std::sync::Arc;

use promontory_model::{Cancel, Labels, Matcher, Queryable, Select, TimeRange};
use promontory_promql::ast::Expr;
use promontory_promql::engine::{Engine, Operator, Times};
use promontory_promql::error::QueryError;
use promontory_promql::lint::{Suggestion, lint};
use promontory_promql::parser;
use promontory_promql::value::{QueryOutput, RangeSpec};

use super::Shared;
use crate::dashboard::source::{DataSource, SourceError};
use crate::http::Known;
use crate::telemetry::QuerySlice;

pub(super) struct EngineSource {
    shared: Arc<Shared>,
}

impl EngineSource {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Runs one query and takes note of its cost; pages wait for a place before their queries, so none waits here.
    fn metered(&self, run: impl FnOnce(Engine) -> Result<QueryOutput, QueryError>) -> Result<QueryOutput, SourceError> {
        let queries = &self.shared.telemetry.queries;
        queries.active.inc();
        let began_ns = self.shared.clock.monotonic_ns();
        let output = run(Engine::with_pool(self.shared.engine_options(), self.shared.memory.clone()));
        let took_ns = self.shared.clock.monotonic_ns().saturating_sub(began_ns);
        queries.active.dec();
        queries.observe(QuerySlice::InnerEval, took_ns as f64 / 1e9);
        let output = output?;
        queries.samples.inc_by(output.stats.samples_read);
        Ok(output)
    }
}

/// The matchers of a selector; none selects everything.
fn matchers(selector: Option<&str>) -> Result<Vec<Matcher>, SourceError> {
    let Some(text) = selector else { return Ok(Vec::new()) };
    match parser::parse(text)? {
        Expr::Vector(selector) => Ok(selector.matchers),
        _ => Err(SourceError::NotASelector(text.to_owned())),
    }
}

/// As [`DataSource::label_values`], of any data.
pub(super) fn label_values(
    data: &dyn Queryable,
    name: &str,
    selector: Option<&str>,
    range: TimeRange,
    cancel: &Cancel,
) -> Result<Vec<String>, SourceError> {
    let matchers = matchers(selector)?;
    Ok(data.snapshot()?.label_values(name, &Select { range, matchers: &matchers, cancel }, usize::MAX)?)
}

/// As [`DataSource::label_names`], of any data.
pub(super) fn label_names(
    data: &dyn Queryable,
    selector: Option<&str>,
    range: TimeRange,
    cancel: &Cancel,
) -> Result<Vec<String>, SourceError> {
    let matchers = matchers(selector)?;
    Ok(data.snapshot()?.label_names(&Select { range, matchers: &matchers, cancel })?)
}

/// As [`DataSource::series`], of any data.
pub(super) fn series(
    data: &dyn Queryable,
    selector: &str,
    range: TimeRange,
    cancel: &Cancel,
) -> Result<Vec<Labels>, SourceError> {
    let matchers = matchers(Some(selector))?;
    Ok(data.snapshot()?.series(&Select { range, matchers: &matchers, cancel }, usize::MAX)?.labels)
}

impl DataSource for EngineSource {
    fn instant(&self, query: &str, t_ms: i64, cancel: &Cancel) -> Result<QueryOutput, SourceError> {
        let expr = parser::parse(query)?;
        self.metered(|engine| engine.instant(&self.shared.data, &expr, t_ms, cancel))
    }

    fn range(&self, query: &str, steps: RangeSpec, cancel: &Cancel) -> Result<QueryOutput, SourceError> {
        let expr = parser::parse(query)?;
        self.metered(|engine| self.shared.results.range(&engine, &self.shared.data, query, &expr, steps, cancel))
    }

    fn analyze(
        &self,
        query: &str,
        steps: RangeSpec,
        cancel: &Cancel,
    ) -> Result<(QueryOutput, Vec<Operator>), SourceError> {
        let expr = parser::parse(query)?;
        let now = || self.shared.clock.monotonic_ns();
        let mut operators = Vec::new();
        let output = self.metered(|engine| {
            let (output, measured) = engine.analyze(&self.shared.data, &expr, Times::Range(steps), &now, cancel)?;
            operators = measured;
            Ok(output)
        })?;
        Ok((output, operators))
    }

    fn suggestions(&self, query: &str, range: TimeRange, cancel: &Cancel) -> Vec<Suggestion> {
        let (Ok(expr), Ok(snapshot)) = (parser::parse(query), self.shared.data.snapshot()) else { return Vec::new() };
        let metadata = self.shared.manager.metadata();
        lint(&expr, &Known { metadata: &metadata, snapshot: &*snapshot, range, cancel })
    }

    fn label_values(
        &self,
        name: &str,
        selector: Option<&str>,
        range: TimeRange,
        cancel: &Cancel,
    ) -> Result<Vec<String>, SourceError> {
        label_values(&self.shared.data, name, selector, range, cancel)
    }

    fn label_names(
        &self,
        selector: Option<&str>,
        range: TimeRange,
        cancel: &Cancel,
    ) -> Result<Vec<String>, SourceError> {
        label_names(&self.shared.data, selector, range, cancel)
    }

    fn series(&self, selector: &str, range: TimeRange, cancel: &Cancel) -> Result<Vec<Labels>, SourceError> {
        series(&self.shared.data, selector, range, cancel)
    }
}
