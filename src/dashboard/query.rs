//! The queries of a panel: step and built-in intervals, evaluation, frames.
//!
//! Blocking; runs on a worker thread with the request's cancellation flag.
//!
//! # Source
//! Steps and `$__rate_interval` are computed as Grafana's Prometheus data source does.

use std::sync::Arc;

use jiff::tz::TimeZone;
use promontory_model::{Cancel, Duration};
use promontory_promql::annotations::Severity;
use promontory_promql::value::{QueryOutput, RangeSpec, Value};

use super::expression::{Answer, evaluate};
use super::frame::{self, Frame, name_series};
use super::interpolate::{Binding, Context, interpolate};
use super::model::{Format, Panel, Target};
use super::source::DataSource;
use super::timerange::{Window, interval_text, parse_interval, round_interval};
use super::variables::{Variables, window_binding};

/// Points that one series may have, as Prometheus allows.
const POINTS_MAX: i64 = 11_000;
/// Series that one query of a panel may bring to the page.
pub(crate) const SERIES_MAX: usize = 1_000;

/// What a panel's queries depend on.
pub(crate) struct QueryContext<'a> {
    pub(crate) source: &'a dyn DataSource,
    pub(crate) variables: &'a Variables,
    /// Values of single variables inside a repeated panel.
    pub(crate) scoped: &'a [(String, Binding)],
    pub(crate) window: &'a Window,
    pub(crate) tz: &'a TimeZone,
    pub(crate) now_ms: i64,
    /// Width of the panel in CSS pixels.
    pub(crate) width_px: i64,
    /// The usual interval between samples.
    pub(crate) scrape_interval_ms: i64,
    pub(crate) cancel: &'a Cancel,
}

/// What the queries of a panel answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct PanelData {
    pub(crate) frames: Vec<Frame>,
    /// refId and message of the queries that failed.
    pub(crate) errors: Vec<(String, String)>,
    /// Warnings of the queries, and what was cut.
    pub(crate) notices: Vec<String>,
    /// refId, expression and steps of the queries as they ran.
    pub(crate) queries: Vec<(String, String, String)>,
    /// The panel's own window.
    pub(crate) window: Option<Window>,
    /// Why the window differs from the page's; empty when it does not.
    pub(crate) window_note: String,
    pub(crate) step_ms: i64,
}

impl QueryContext<'_> {
    /// What a name stands for outside of a query.
    pub(crate) fn lookup(&self, name: &str) -> Option<Binding> {
        let scoped = self.scoped.iter().find(|(n, _)| n == name).map(|(_, b)| b.clone());
        scoped.or_else(|| self.variables.binding(name)).or_else(|| window_binding(name, self.window))
    }

    /// Replaces variables in a text for people.
    pub(crate) fn text(&self, text: &str) -> String {
        interpolate(text, Context::Text, &|name| self.lookup(name))
    }
}

/// Runs the panel's queries.
pub(crate) fn run(panel: &Panel, context: &QueryContext<'_>) -> PanelData {
    let (window, window_note) = panel_window(panel, context);
    let mut data = PanelData { window_note, ..PanelData::default() };
    let range = window.length_ms();
    let points = panel.max_data_points.unwrap_or(context.width_px).clamp(1, POINTS_MAX);
    let least = parse_interval(&context.text(&panel.interval)).unwrap_or(context.scrape_interval_ms);
    let interval = round_interval(range / points).max(least).max(1);
    data.step_ms = interval;
    let table_queries = panel.targets.iter().filter(|t| t.format == Format::Table && !t.hide).count();
    for target in panel.targets.iter().filter(|t| !t.hide) {
        if let Err(message) = run_target(panel, target, context, &window, interval, table_queries > 1, &mut data) {
            data.errors.push((target.ref_id.clone(), message));
        }
    }
    name_series(&mut data.frames, &panel.targets, &|text| context.text(text));
    data.window = Some(window);
    data
}

/// The steps and intervals of one query in a window.
struct Steps {
    spec: RangeSpec,
    /// What `$__interval` and `$__rate_interval` stand for.
    interval_ms: i64,
    rate_interval: String,
}

fn steps_of(target: &Target, context: &QueryContext<'_>, window: &Window, interval: i64) -> Steps {
    let own = interpolate(&target.interval, Context::Text, &|name| match name {
        "__interval" => Some(Binding::plain(interval_text(interval))),
        "__rate_interval" => Some(Binding::plain(rate_interval(interval, context.scrape_interval_ms))),
        name => context.lookup(name),
    });
    let own_ms = parse_interval(&own);
    let safe = round_interval(window.length_ms() / POINTS_MAX);
    let step = interval.max(own_ms.unwrap_or(0)).max(safe).saturating_mul(target.interval_factor).max(1);
    let scrape = own_ms.filter(|_| !target.interval.contains("$__")).unwrap_or(context.scrape_interval_ms);
    let offset = i64::from(offset_seconds(context.tz, window.from_ms)) * 1000;
    let floor = |t: i64| (t + offset).div_euclid(step) * step - offset;
    Steps {
        spec: RangeSpec { start_ms: floor(window.from_ms), end_ms: floor(window.to_ms), step_ms: step },
        interval_ms: step,
        rate_interval: rate_interval(interval, scrape),
    }
}

fn run_target(
    panel: &Panel,
    target: &Target,
    context: &QueryContext<'_>,
    window: &Window,
    interval: i64,
    many_tables: bool,
    data: &mut PanelData,
) -> Result<(), String> {
    if let Some(computed) = &target.computed {
        let fill = |name: &str| bound(name, &steps_of(target, context, window, interval), context, window);
        let mut notices = Vec::new();
        let mut ask = |referred: &Target| {
            let steps = steps_of(referred, context, window, interval);
            let expr = filled(referred, &steps, context, window);
            let (output, times) = match referred.range {
                true => ranged(&expr, steps.spec, context)?,
                false => once(&expr, window, context)?,
            };
            notices.extend(output.annotations.texts(Severity::Warning, &expr));
            Ok(Answer { value: output.value, times: times.to_vec() })
        };
        let answer = evaluate(target, panel, window.to_ms, &fill, &mut ask);
        data.queries.push((target.ref_id.clone(), computed.to_string(), "computed".to_owned()));
        notices.into_iter().for_each(|text| notice(text, data));
        let Answer { value, times } = answer?;
        push(target, value, &times.into(), many_tables, data);
        return Ok(());
    }
    let steps = steps_of(target, context, window, interval);
    let expr = filled(target, &steps, context, window);
    let shape = match (target.range, target.instant) {
        (true, true) => format!("every {} and once", interval_text(steps.interval_ms)),
        (true, false) => format!("every {}", interval_text(steps.interval_ms)),
        _ => "once".to_owned(),
    };
    data.queries.push((target.ref_id.clone(), expr.clone(), shape));
    let mut show = |(output, times): (QueryOutput, Arc<[i64]>)| {
        output.annotations.texts(Severity::Warning, &expr).into_iter().for_each(|text| notice(text, data));
        push(target, output.value, &times, many_tables, data);
    };
    if target.range {
        show(ranged(&expr, steps.spec, context)?);
    }
    if target.instant {
        show(once(&expr, window, context)?);
    }
    Ok(())
}

/// What a name stands for in a query.
fn bound(name: &str, steps: &Steps, context: &QueryContext<'_>, window: &Window) -> Option<Binding> {
    match name {
        "__interval" => Some(Binding::plain(interval_text(steps.interval_ms))),
        "__interval_ms" => Some(Binding::plain(steps.interval_ms.to_string())),
        "__rate_interval" => Some(Binding::plain(&steps.rate_interval)),
        "__range" | "__range_s" | "__range_ms" | "__from" | "__to" => window_binding(name, window),
        name => context.lookup(name),
    }
}

/// The PromQL of a target, as it is asked.
fn filled(target: &Target, steps: &Steps, context: &QueryContext<'_>, window: &Window) -> String {
    let expr = interpolate(&target.expr, Context::PromQl, &|name| bound(name, steps, context, window));
    super::adhoc::apply(&expr, &context.variables.filters())
}

fn ranged(expr: &str, steps: RangeSpec, context: &QueryContext<'_>) -> Result<(QueryOutput, Arc<[i64]>), String> {
    let output = context.source.range(expr, steps, context.cancel).map_err(|e| e.to_string())?;
    Ok((output, frame::grid(steps.start_ms, steps.end_ms, steps.step_ms)))
}

fn once(expr: &str, window: &Window, context: &QueryContext<'_>) -> Result<(QueryOutput, Arc<[i64]>), String> {
    let output = context.source.instant(expr, window.to_ms, context.cancel).map_err(|e| e.to_string())?;
    Ok((output, Arc::from([window.to_ms])))
}

fn notice(text: String, data: &mut PanelData) {
    if !data.notices.contains(&text) {
        data.notices.push(text);
    }
}

fn push(target: &Target, mut value: Value, times: &Arc<[i64]>, many_tables: bool, data: &mut PanelData) {
    let n = match &mut value {
        Value::Matrix(all) => {
            let n = all.len();
            all.truncate(SERIES_MAX);
            n
        }
        Value::Vector(all) => {
            let n = all.len();
            if target.format != Format::Table {
                all.truncate(SERIES_MAX);
            }
            n
        }
        _ => 0,
    };
    if n > SERIES_MAX && target.format != Format::Table {
        data.notices.push(format!("query {} has {n} series; the first {SERIES_MAX} are shown", target.ref_id));
    }
    if target.format == Format::Table {
        data.frames.push(frame::table(target, &value, times, many_tables));
    } else {
        data.frames.extend(frame::time_series(target, &value, times));
    }
}

/// The window of a panel with its own time range, and a note that says so.
fn panel_window(panel: &Panel, context: &QueryContext<'_>) -> (Window, String) {
    let mut window = context.window.clone();
    let mut note = String::new();
    let from = context.text(&panel.time_from);
    if !from.is_empty() {
        let from = if from.starts_with("now") { from } else { format!("now-{from}") };
        let to = if from.contains('/') { from.clone() } else { "now".to_owned() };
        window = Window::new(&from, &to, context.now_ms, context.tz);
        note = window.describe(context.tz);
    }
    let shift = context.text(&panel.time_shift);
    if let Some(ms) = parse_interval(&shift) {
        window.from_ms -= ms;
        window.to_ms -= ms;
        note = format!("{note} shifted by {shift}").trim_start().to_owned();
    }
    if panel.hide_time_override {
        note.clear();
    }
    (window, note)
}

fn offset_seconds(tz: &TimeZone, ms: i64) -> i32 {
    jiff::Timestamp::from_millisecond(ms).map_or(0, |t| tz.to_offset(t).seconds())
}

fn rate_interval(interval_ms: i64, scrape_ms: i64) -> String {
    Duration((interval_ms + scrape_ms).max(4 * scrape_ms)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::load::load;
    use crate::dashboard::source::SourceError;
    use crate::dashboard::testing::{Synthetic, window};
    use promontory_model::TimeRange;
    use promontory_promql::engine::Operator;
    use promontory_promql::lint::Suggestion;
    use std::sync::Mutex;

    /// Remembers what was asked.
    #[derive(Default)]
    struct Spy(Mutex<Vec<String>>);

    impl DataSource for Spy {
        fn instant(&self, q: &str, t: i64, c: &Cancel) -> Result<QueryOutput, SourceError> {
            self.0.lock().unwrap().push(format!("{q} @ {t}"));
            Synthetic.instant(q, t, c)
        }
        fn range(&self, q: &str, s: RangeSpec, c: &Cancel) -> Result<QueryOutput, SourceError> {
            self.0.lock().unwrap().push(format!("{q} {}..{}/{}", s.start_ms, s.end_ms, s.step_ms));
            Synthetic.range(q, s, c)
        }
        fn analyze(
            &self,
            query: &str,
            steps: RangeSpec,
            cancel: &Cancel,
        ) -> Result<(QueryOutput, Vec<Operator>), SourceError> {
            Synthetic.analyze(query, steps, cancel)
        }

        fn suggestions(&self, query: &str, range: TimeRange, cancel: &Cancel) -> Vec<Suggestion> {
            Synthetic.suggestions(query, range, cancel)
        }

        fn label_values(&self, _: &str, _: Option<&str>, _: TimeRange, _: &Cancel) -> Result<Vec<String>, SourceError> {
            Ok(Vec::new())
        }
        fn label_names(&self, _: Option<&str>, _: TimeRange, _: &Cancel) -> Result<Vec<String>, SourceError> {
            Ok(Vec::new())
        }
        fn series(&self, _: &str, _: TimeRange, _: &Cancel) -> Result<Vec<promontory_model::Labels>, SourceError> {
            Ok(Vec::new())
        }
    }

    #[track_caller]
    fn check(panel: &str, expected: &[&str]) {
        let d = load(&format!("{{\"panels\": [{panel}]}}"), "f").unwrap();
        let (spy, window) = (Spy::default(), window());
        let context = QueryContext {
            source: &spy,
            variables: &Variables::default(),
            scoped: &[],
            window: &window,
            tz: &TimeZone::UTC,
            now_ms: 1_700_000_000_000,
            width_px: 700,
            scrape_interval_ms: 15_000,
            cancel: &Cancel::new(),
        };
        let data = run(d.panels().next().unwrap(), &context);
        assert_eq!(data.errors, []);
        assert_eq!(*spy.0.lock().unwrap(), expected);
    }

    #[test]
    fn steps_and_intervals_are_grafanas() {
        let range = "1699996395000..1699999995000/15000";
        check(r#"{"targets": [{"expr": "up"}]}"#, &[&format!("up {range}")]);
        check(
            r#"{"targets": [{"expr": "rate(up[$__rate_interval]) / $__interval_ms > $__range_s"}]}"#,
            &[&format!("rate(up[1m]) / 15000 > 3600 {range}")],
        );
        check(
            r#"{"interval": "1m", "targets": [{"expr": "rate(up[$__rate_interval])"}]}"#,
            &["rate(up[1m15s]) 1699996380000..1699999980000/60000"],
        );
        check(
            r#"{"maxDataPoints": 100, "targets": [{"expr": "rate(up[$__interval])", "intervalFactor": 2}]}"#,
            &["rate(up[1m]) 1699996380000..1699999980000/60000"],
        );
        check(r#"{"targets": [{"expr": "up", "instant": true}]}"#, &["up @ 1700000000000"]);
        check(r#"{"timeShift": "1h", "targets": [{"expr": "up"}]}"#, &["up 1699992795000..1699996395000/15000"]);
        check(r#"{"targets": [{"expr": "up", "hide": true}]}"#, &[]);
    }

    #[test]
    fn queries_of_expressions_are_asked_for_once_in_their_own_form() {
        let expression = |more: &str, instant: bool| {
            format!(
                r#"{{"targets": [{{"refId": "A", "expr": "up", "hide": true, "instant": {instant}}},
                    {{"refId": "B", "expr": "sum(up)", "hide": true, "instant": {instant}}},
                    {{"refId": "C", "datasource": {{"type": "__expr__"}}, {more}}}]}}"#
            )
        };
        let (range, once) = ("1699996395000..1699999995000/15000", "@ 1700000000000");
        let math = r#""type": "math", "expression": "$A / ${B} * $A""#;
        check(&expression(math, false), &[&format!("up {range}"), &format!("sum(up) {range}")]);
        check(&expression(math, true), &[&format!("up {once}"), &format!("sum(up) {once}")]);
        let reduce = r#""type": "reduce", "expression": "A", "reducer": "max""#;
        check(&expression(reduce, false), &[&format!("up {range}")]);
    }
}
