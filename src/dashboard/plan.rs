//! The plan of a query as a table: what each operator reads, holds and takes.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use promontory_promql::engine::Operator;

use super::html::escape;
use super::units::Unit;

/// Rows of the table; a plan has one per expression of the query.
const ROWS_MAX: usize = 500;

/// A table with a row per operator, each below what reads it.
pub(super) fn html(operators: &[Operator]) -> String {
    let mut table = Table { operators, shown: vec![false; operators.len()], out: String::new(), rows: 0 };
    table.out.push_str(
        "<div class=\"table-wrap\"><table class=\"data wide plan\"><thead><tr><th>Operator</th><th>On</th>\
         <th class=\"num\">Series</th><th class=\"num\">Values</th><th class=\"num\">Samples read</th>\
         <th class=\"num\">Memory</th><th class=\"num\">Own time</th><th class=\"num\">Share</th></tr></thead><tbody>",
    );
    if let Some(root) = operators.len().checked_sub(1) {
        table.row(root, &mut String::new(), "");
    }
    table.out.push_str("</tbody></table></div>");
    table.out
}

struct Table<'a> {
    operators: &'a [Operator],
    /// An operator that is read twice is shown in full once.
    shown: Vec<bool>,
    out: String,
    rows: usize,
}

impl Table<'_> {
    /// One operator and those below it; `indent` is drawn before all of them, `branch` before this one.
    fn row(&mut self, id: usize, indent: &mut String, branch: &str) {
        self.rows += 1;
        if self.rows > ROWS_MAX {
            return;
        }
        let o = &self.operators[id];
        let again = std::mem::replace(&mut self.shown[id], true);
        let _ = write!(
            self.out,
            "<tr><td class=\"op\"><span class=\"dim\">{indent}{branch}</span>{}</td><td class=\"on\">{}</td>",
            escape(&o.name),
            escape(&o.detail)
        );
        if again {
            self.out.push_str("<td colspan=\"6\" class=\"dim\">as above, evaluated once</td></tr>");
            return;
        }
        self.figures(o);
        self.out.push_str("</tr>");
        let depth = indent.len();
        match branch {
            "├ " => indent.push_str("│ "),
            "└ " => indent.push_str("\u{a0} "),
            _ => {}
        }
        for (i, input) in o.inputs.iter().enumerate() {
            self.row(*input, indent, if i + 1 < o.inputs.len() { "├ " } else { "└ " });
        }
        indent.truncate(depth);
    }

    fn figures(&mut self, o: &Operator) {
        let unit = |name: &str, v: u64| Unit::find(name).format(v as f64, None, &TimeZone::UTC);
        let count = |v: u64| unit("short", v);
        let Some(cost) = o.cost else {
            let series = o.estimate.map(|e| count(e.series)).unwrap_or_default();
            let samples = o.estimate.map(|e| format!("≤ {}", count(e.samples))).unwrap_or_default();
            let _ = write!(
                self.out,
                "<td class=\"num\">{series}</td><td></td><td class=\"num\">{samples}</td>\
                 <td colspan=\"3\" class=\"dim\">inside the operator above</td>"
            );
            return;
        };
        let total = self.operators.last().and_then(|root| root.cost).map_or(0, |c| c.total_ns).max(1);
        let share = cost.own_ns as f64 / total as f64 * 100.0;
        let _ = write!(
            self.out,
            "<td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>\
             <td class=\"num\">{}</td><td class=\"num\"><meter min=\"0\" max=\"100\" value=\"{share:.1}\"></meter> \
             {share:.0} %</td>",
            count(cost.series),
            count(cost.values),
            if cost.samples_read > 0 { count(cost.samples_read) } else { String::new() },
            unit("bytes", cost.bytes),
            unit("ns", cost.own_ns),
        );
    }
}

#[cfg(test)]
mod tests {
    use promontory_promql::engine::{Cost, Estimate};

    use super::*;

    fn operator(id: usize, name: &str, inputs: &[usize], cost: Option<Cost>) -> Operator {
        Operator {
            id,
            name: name.to_owned(),
            detail: "<a>".to_owned(),
            inputs: inputs.to_vec(),
            readers: 1,
            spans: Vec::new(),
            steps: 1,
            estimate: cost.is_none().then_some(Estimate { series: 7, samples: 1400 }),
            cost,
        }
    }

    #[test]
    fn operators_stand_below_their_readers() {
        let cost = |own_ns| Some(Cost { series: 3, values: 6, own_ns, total_ns: 100, ..Cost::default() });
        let plan =
            [operator(0, "rate", &[], None), operator(1, "sum", &[0], cost(25)), operator(2, "/", &[1, 1], cost(75))];
        let page = html(&plan);
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is not in {page}"));
        assert!(at(">/<") < at("├ </span>sum") && at("├ </span>sum") < at("│ └ </span>rate"), "{page}");
        assert!(at("as above") > at("└ </span>sum"), "{page}");
        assert!(page.contains("&lt;a&gt;") && page.contains("≤ 1.40 K") && page.contains("25 %"), "{page}");
    }

    #[test]
    fn no_plan_is_an_empty_table() {
        assert!(html(&[]).ends_with("<tbody></tbody></table></div>"));
    }
}
