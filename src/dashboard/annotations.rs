//! Annotations from queries: what happened, as lines and stripes over every plot of a dashboard.
//!
//! # Source
//! As in Grafana every point that is not zero is an event, points a step apart are one, and labels fill the texts.

use promontory_promql::value::{RangeSpec, Value};

use super::frame::legend;
use super::interpolate::{Binding, Context, interpolate};
use super::model::AnnotationDef;
use super::query::QueryContext;
use super::timerange::{interval_text, parse_interval, round_interval};

/// Events of one dashboard.
const EVENTS_MAX: usize = 500;
/// Step of a query that names none.
const STEP_MS: i64 = 60_000;
/// Points that one query of events may have.
const POINTS_MAX: i64 = 1_000;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) from_ms: i64,
    /// The same as the start for a moment.
    pub(crate) to_ms: i64,
    /// As the dashboard names it.
    pub(crate) color: String,
    /// What happened, in words.
    pub(crate) text: String,
    pub(crate) tags: Vec<String>,
    /// The one panel that shows it; 0 for all.
    pub(crate) panel: i64,
}

/// Asks for all events of the window. What fails is left out; `errors` says why.
pub(crate) fn run(defs: &[&AnnotationDef], context: &QueryContext<'_>, errors: &mut Vec<String>) -> Vec<Event> {
    let mut out = Vec::new();
    for def in defs {
        match one(def, context) {
            Ok(events) => out.extend(events),
            Err(e) => errors.push(format!("annotation {:?}: {e}", def.name)),
        }
    }
    out.sort_by_key(|e| e.from_ms);
    out.truncate(EVENTS_MAX);
    out
}

fn one(def: &AnnotationDef, context: &QueryContext<'_>) -> Result<Vec<Event>, String> {
    let window = context.window;
    let asked = parse_interval(&context.text(&def.step)).unwrap_or(STEP_MS);
    let step = asked.max(round_interval(window.length_ms() / POINTS_MAX)).max(1_000);
    let expr = interpolate(&def.expr, Context::PromQl, &|name| match name {
        "__interval" | "__rate_interval" => Some(Binding::plain(interval_text(step))),
        "__interval_ms" => Some(Binding::plain(step.to_string())),
        name => context.lookup(name),
    });
    let start_ms = window.from_ms.div_euclid(step) * step;
    let steps = RangeSpec { start_ms, end_ms: window.to_ms, step_ms: step };
    let output = context.source.range(&expr, steps, context.cancel).map_err(|e| e.to_string())?;
    let Value::Matrix(series) = output.value else { return Ok(Vec::new()) };
    let mut out: Vec<Event> = Vec::new();
    for s in &series {
        let words = |format: &str| legend(&context.text(format), &s.labels);
        let title = words(&def.title_format);
        let title = if title.is_empty() { def.name.clone() } else { title };
        let text = words(&def.text_format);
        let text = if text.is_empty() { title } else { format!("{title}: {text}") };
        let tags: Vec<String> =
            def.tag_keys.iter().filter_map(|k| s.labels.get(k)).filter(|v| !v.is_empty()).map(str::to_owned).collect();
        let event = |from_ms, to_ms| Event {
            from_ms,
            to_ms,
            color: def.color.clone(),
            text: text.clone(),
            tags: tags.clone(),
            panel: 0,
        };
        let mut last: Option<i64> = None;
        for (t, v) in s.floats.iter().filter(|(_, v)| *v != 0.0 && !v.is_nan()) {
            if out.len() >= EVENTS_MAX {
                break;
            }
            if def.use_value_for_time {
                let at = *v as i64;
                let is_new = !out.iter().any(|e| e.from_ms == at && e.text == text);
                if is_new && (window.from_ms..=window.to_ms).contains(&at) {
                    out.push(event(at, at));
                }
                continue;
            }
            match (last, out.last_mut()) {
                (Some(before), Some(open)) if t - before <= step => open.to_ms = *t,
                _ => out.push(event(*t, *t)),
            }
            last = Some(*t);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use promontory_model::Cancel;

    use super::*;
    use crate::dashboard::testing::{Synthetic, window};
    use crate::dashboard::variables::Variables;

    #[track_caller]
    fn check(def: AnnotationDef, expected: &[&str]) {
        let (window, variables) = (window(), Variables::default());
        let context = QueryContext {
            source: &Synthetic,
            variables: &variables,
            scoped: &[],
            window: &window,
            tz: &TimeZone::UTC,
            now_ms: 1_700_000_000_000,
            width_px: 700,
            scrape_interval_ms: 15_000,
            cancel: &Cancel::new(),
        };
        let mut errors = Vec::new();
        let events = run(&[&def], &context, &mut errors);
        let mut got: Vec<String> = events
            .iter()
            .map(|e| format!("{} +{}s {} {}", e.from_ms / 1000, (e.to_ms - e.from_ms) / 1000, e.text, e.tags.join(",")))
            .collect();
        got.extend(errors);
        let begins = got.iter().zip(expected).all(|(g, e)| g.starts_with(e));
        assert!(got.len() == expected.len() && begins, "{got:?}");
    }

    #[test]
    fn points_that_touch_are_one_event() {
        let def = AnnotationDef {
            name: "restarts".into(),
            expr: "up{job=\"node\"}".into(),
            title_format: "{{job}}".into(),
            text_format: "of {{instance}}".into(),
            tag_keys: vec!["instance".into(), "gone".into()],
            ..AnnotationDef::default()
        };
        check(def.clone(), &["1699996380 +3600s node: of node-1 node-1"]);
        check(AnnotationDef { expr: "up{".into(), ..def }, &["annotation \"restarts\": 1:"]);
    }
}
