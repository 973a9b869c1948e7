//! The table panel: columns, order, pages and the line of totals. Cells are drawn by [`cell`].
//!
//! Order, page, chosen result and searched words stand in the address, so that they work without a script and in
//! links that are passed on.

mod cell;

use std::cmp::Ordering;
use std::fmt::Write as _;

use crate::dashboard::field::Settings;
use crate::dashboard::frame::{Field, Frame, Trend, Values};
use crate::dashboard::html::escape;
use crate::dashboard::json::{flag, integer, list, strings, text};
use crate::dashboard::model::Panel;
use crate::dashboard::query::PanelData;
use crate::dashboard::reduce::{reduce, title};

use super::{DrawContext, no_data};

/// Rows that are written.
const ROWS_MAX: usize = 1_000;
/// Height of a row, of the head, and of the line with pages or results, CSS pixels.
const ROW_PX: f64 = 28.0;
/// Characters of a search.
const FIND_CHARS_MAX: usize = 200;

struct Column<'a> {
    field: &'a Field,
    settings: Settings,
    name: String,
    range: (f64, f64),
    index: usize,
}

pub(super) fn draw(panel: &Panel, data: &PanelData, context: &DrawContext<'_>, out: &mut String) {
    let chosen = context.param("frame").and_then(|i| i.parse().ok());
    let index = chosen.or(integer(&panel.options, "frameIndex").and_then(|i| usize::try_from(i).ok())).unwrap_or(0);
    let index = if index < data.frames.len() { index } else { 0 };
    let Some(frame) = data.frames.get(index).filter(|f| data.frames.len() > 1 || f.len() > 0) else {
        no_data(panel, out);
        return;
    };
    let columns = columns(panel, frame, context);
    let mut rows: Vec<usize> = (0..frame.len()).collect();
    let find = context.param("find").map(|f| f.chars().take(FIND_CHARS_MAX).collect::<String>()).unwrap_or_default();
    let wants_find = ["filterable", "showSearch"].iter().any(|w| flag(&panel.options, w) == Some(true));
    let can_find = !find.is_empty() || wants_find || columns.iter().any(|c| c.settings.custom_flag("filterable"));
    if !find.is_empty() {
        let words = find.to_lowercase();
        rows.retain(|r| columns.iter().any(|c| cell::shown(c, *r, context).text.to_lowercase().contains(&words)));
    }
    let order = Order::of(panel, context);
    order.sort(&columns, &mut rows);
    if can_find {
        search_form(&find, context, out);
    }
    out.push_str("<div class=\"table-wrap\"><table class=\"data\">");
    write_widths(&columns, out);
    if flag(&panel.options, "showHeader").unwrap_or(true) {
        out.push_str("<thead><tr>");
        columns.iter().for_each(|c| head(c, &order, context, out));
        out.push_str("</tr></thead>");
    }
    out.push_str("<tbody>");
    let pages = Pages::of(panel, rows.len(), can_find, data.frames.len() > 1, context);
    for row in rows.iter().skip(pages.first).take(pages.n) {
        cell::write_row(&columns, *row, context, out);
    }
    out.push_str("</tbody>");
    footer(panel, &columns, &rows, context, out);
    out.push_str("</table></div>");
    if rows.is_empty() {
        let reason = if find.is_empty() { "This result has no rows." } else { "No row has these words." };
        let _ = write!(out, "<p class=\"notice\">{reason}</p>");
    }
    pages.write(rows.len(), context, out);
    frame_picker(data, index, context, out);
}

fn columns<'a>(panel: &Panel, frame: &'a Frame, context: &DrawContext<'_>) -> Vec<Column<'a>> {
    let interpolate = |text: &str| context.text(text);
    let rules = panel.field_config.rules(&interpolate);
    let mut numbers = 0;
    let mut out = Vec::new();
    for field in &frame.fields {
        let config = rules.of(field, &frame.ref_id);
        let settings = Settings::of(&config, "thresholds");
        if field.is_number() {
            numbers += 1;
        }
        if settings.custom_flag("hidden") || settings.custom_flag("hideFrom.viz") {
            continue;
        }
        let name = match settings.display_name.as_deref() {
            Some(name) => super::field_text(&interpolate(name), field),
            None => field.shown().to_owned(),
        };
        let values = field.numbers().unwrap_or(&[]);
        let range = (
            settings.min.or(reduce("min", values)).unwrap_or(0.0),
            settings.max.or(reduce("max", values)).unwrap_or(100.0),
        );
        out.push(Column { field, settings, name, range, index: numbers.max(1) - 1 });
    }
    out
}

/// The value that a small graph ends with.
fn last(trend: Option<&Trend>) -> Option<f64> {
    reduce("lastNotNull", &trend?.values)
}

/// The order of two rows by one column; empty cells come first.
pub(crate) fn compare(field: &Field, a: usize, b: usize) -> Ordering {
    match &field.values {
        Values::Time(all) => all[a].cmp(&all[b]),
        Values::Number(all) => {
            let key = |i: usize| all[i].unwrap_or(f64::NEG_INFINITY);
            key(a).total_cmp(&key(b))
        }
        Values::Text(all) => {
            crate::dashboard::variables::natural(all[a].as_deref().unwrap_or(""), all[b].as_deref().unwrap_or(""))
        }
        Values::Trend(all) => {
            let key = |i: usize| last(all[i].as_ref()).unwrap_or(f64::NEG_INFINITY);
            key(a).total_cmp(&key(b))
        }
    }
}

/// Columns to sort by, the most important first, and whether downwards.
struct Order(Vec<(String, bool)>);

impl Order {
    /// The reader's choice, else the panel's.
    fn of(panel: &Panel, context: &DrawContext<'_>) -> Self {
        if let Some(name) = context.param("sort") {
            return Self(vec![(name.to_owned(), context.param("desc").is_some())]);
        }
        let rule = |r| Some((text(r, "displayName")?.to_owned(), flag(r, "desc") == Some(true)));
        Self(list(&panel.options, "sortBy").iter().filter_map(rule).collect())
    }

    fn sort(&self, columns: &[Column<'_>], rows: &mut [usize]) {
        for (name, is_desc) in self.0.iter().rev() {
            let Some(c) = columns.iter().find(|c| c.name == *name || c.field.name == *name) else { continue };
            rows.sort_by(|a, b| {
                let order = compare(c.field, *a, *b);
                if *is_desc { order.reverse() } else { order }
            });
        }
    }

    fn direction(&self, c: &Column<'_>) -> Option<bool> {
        self.0.first().filter(|(name, _)| *name == c.name || *name == c.field.name).map(|(_, desc)| *desc)
    }
}

/// Widths that the dashboard names; other columns share what is left.
fn write_widths(columns: &[Column<'_>], out: &mut String) {
    let width = |c: &Column<'_>| Some(c.settings.custom_number("width", 0.0)).filter(|w| (20.0..2000.0).contains(w));
    if columns.iter().all(|c| width(c).is_none()) {
        return;
    }
    out.push_str("<colgroup>");
    for c in columns {
        let _ = match width(c) {
            Some(w) => write!(out, "<col width=\"{w:.0}\">"),
            None => write!(out, "<col>"),
        };
    }
    out.push_str("</colgroup>");
}

fn head(c: &Column<'_>, order: &Order, context: &DrawContext<'_>, out: &mut String) {
    let direction = order.direction(c);
    let (aria, arrow) = match direction {
        Some(true) => (" aria-sort=\"descending\"", " ↓"),
        Some(false) => (" aria-sort=\"ascending\"", " ↑"),
        None => ("", ""),
    };
    // Up, down, and back to the order of the dashboard.
    let url = match direction {
        Some(true) => context.link(&[("sort", None), ("desc", None), ("page", None)]),
        Some(false) => context.link(&[("sort", Some(&c.name)), ("desc", Some("1")), ("page", None)]),
        None => context.link(&[("sort", Some(&c.name)), ("desc", None), ("page", None)]),
    };
    let name = escape(&c.name);
    let _ = write!(out, "<th{}{aria}>", cell::class(c));
    let _ = match url {
        Some(url) => write!(out, "<a class=\"part\" href=\"{}\" title=\"{name}\">{name}{arrow}</a></th>", escape(&url)),
        None => write!(out, "{name}{arrow}</th>"),
    };
}

fn search_form(find: &str, context: &DrawContext<'_>, out: &mut String) {
    let Some(hidden) = context.hidden_fields(&["find", "page"]) else { return };
    let _ = write!(
        out,
        "<form class=\"find\" method=\"get\">{hidden}<input type=\"search\" name=\"{}\" value=\"{}\" \
         placeholder=\"Filter rows\" aria-label=\"Filter rows\"></form>",
        escape(&context.param_name("find")),
        escape(find)
    );
}

/// The part of the rows that is written.
struct Pages {
    first: usize,
    n: usize,
    page: usize,
    pages: usize,
}

impl Pages {
    fn of(panel: &Panel, rows: usize, can_find: bool, many: bool, context: &DrawContext<'_>) -> Self {
        let wanted = ["enablePagination", "footer.enablePagination"];
        if !wanted.iter().any(|w| flag(&panel.options, w) == Some(true)) {
            return Self { first: 0, n: ROWS_MAX, page: 0, pages: 1 };
        }
        let extra = 2.0 + f64::from(u8::from(can_find)) + f64::from(u8::from(many));
        let n = ((context.height_px / ROW_PX - extra).floor().max(3.0) as usize).min(ROWS_MAX);
        let pages = rows.div_ceil(n).max(1);
        let page = context.param("page").and_then(|p| p.parse::<usize>().ok()).unwrap_or(1);
        let page = page.clamp(1, pages) - 1;
        Self { first: page * n, n, page, pages }
    }

    fn write(&self, rows: usize, context: &DrawContext<'_>, out: &mut String) {
        if self.pages > 1 {
            let _ = write!(out, "<nav class=\"pages\" aria-label=\"Pages of the table\">");
            let mut step = |to: Option<usize>, name: &str, sign: &str| {
                let number = to.map(|p| (p + 1).to_string());
                let url = number.as_deref().and_then(|n| context.link(&[("page", Some(n))]));
                let _ = match url {
                    Some(url) => {
                        write!(out, "<a class=\"part\" href=\"{}\" aria-label=\"{name}\">{sign}</a>", escape(&url))
                    }
                    None => write!(out, "<span class=\"dim\">{sign}</span>"),
                };
            };
            step(self.page.checked_sub(1), "Previous page", "‹");
            step(Some(self.page + 1).filter(|p| *p < self.pages), "Next page", "›");
            let last = (self.first + self.n).min(rows);
            let _ = write!(out, "<span>{}–{last} of {rows} rows</span></nav>", self.first + 1);
        } else if rows > self.n {
            let _ = write!(out, "<p class=\"notice\">{} of {rows} rows are shown.</p>", self.n);
        }
    }
}

/// Links to the other results when there are several.
fn frame_picker(data: &PanelData, index: usize, context: &DrawContext<'_>, out: &mut String) {
    const NAMED_MAX: usize = 50;
    if data.frames.len() < 2 {
        return;
    }
    let name = |f: &Frame| match f.fields.iter().filter(|f| f.is_number()).collect::<Vec<_>>().as_slice() {
        [one] if one.shown() != one.name => one.shown().to_owned(),
        _ => f.ref_id.clone(),
    };
    out.push_str("<nav class=\"pages\" aria-label=\"Results of the queries\">");
    for (i, frame) in data.frames.iter().enumerate().take(NAMED_MAX) {
        let number = i.to_string();
        let url = context.link(&[("frame", Some(&number)), ("page", None), ("find", None)]).unwrap_or_default();
        let current = if i == index { " aria-current=\"true\"" } else { "" };
        let _ = write!(out, "<a class=\"part\" href=\"{}\"{current}>{}</a>", escape(&url), escape(&name(frame)));
    }
    if data.frames.len() > NAMED_MAX {
        let _ = write!(out, "<span class=\"dim\">and {} more</span>", data.frames.len() - NAMED_MAX);
    }
    out.push_str("</nav>");
}

fn footer(panel: &Panel, columns: &[Column<'_>], rows: &[usize], context: &DrawContext<'_>, out: &mut String) {
    if flag(&panel.options, "footer.show") != Some(true) {
        return;
    }
    let calcs = strings(&panel.options, "footer.reducer");
    let Some(calc) = calcs.first() else { return };
    let only = strings(&panel.options, "footer.fields");
    let counts_rows = calc == "count" && flag(&panel.options, "footer.countRows") == Some(true);
    out.push_str("<tfoot><tr>");
    for (i, c) in columns.iter().enumerate() {
        let is_wanted = only.is_empty() || only.iter().any(|n| *n == c.name || *n == c.field.name);
        let values = c.field.numbers().filter(|_| is_wanted && !counts_rows);
        let value = values.and_then(|all| reduce(calc, &rows.iter().map(|r| all[*r]).collect::<Vec<_>>()));
        let body = match value {
            Some(_) => c.settings.show(value, c.range, c.index, &c.name, &context.look()).text,
            None if i == 0 && counts_rows => format!("Count: {}", rows.len()),
            None if i == 0 => title(calc).to_owned(),
            None => String::new(),
        };
        let _ = write!(out, "<td{}>{}</td>", cell::class(c), escape(&body));
    }
    out.push_str("</tr></tfoot>");
}
