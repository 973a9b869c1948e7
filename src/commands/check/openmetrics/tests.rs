//! Pages that the specification forbids, each with its fault, and pages that it allows.

use super::*;
use crate::scrape::exposition::tests::openmetrics_cases;

fn faults(body: &str) -> Vec<String> {
    let mut page = Page::default();
    page.read(body.as_bytes());
    page.faults.iter().map(|fault| format!("{}: {}", fault.line, fault.text)).collect()
}

/// Each page, less its `# EOF`, is refused with one fault, which begins so.
#[track_caller]
fn refused(cases: &[(&str, &str)]) {
    for (body, expected) in cases {
        let faults = faults(&format!("{body}\n# EOF\n"));
        assert!(matches!(&faults[..], [one] if one.starts_with(expected)), "{body:?}: {expected:?}, but {faults:?}");
    }
}

#[track_caller]
fn accepted(bodies: &[&str]) {
    for body in bodies {
        assert_eq!(faults(&format!("{body}\n# EOF\n")), [""; 0], "{body:?}");
    }
}

#[test]
fn lines_follow_the_grammar() {
    refused(&[
        ("a", "1: column 2: one blank before the value expected, not the end of the line"),
        ("a  1", "1: column 3: a decimal number, `+Inf`, `-Inf` or `NaN` expected, not ' '"),
        ("a 1 ", "1: column 5: a timestamp in seconds"),
        ("a\t1", "1: column 2: one blank"),
        ("a 1\r", "1: column 3: a decimal number"),
        ("a 0x1", "1: column 3: a decimal number"),
        ("a 1_0", "1: column 3: a decimal number"),
        ("a 1e", "1: column 3: a decimal number"),
        ("a 1 1e999", "1: column 5: a timestamp"),
        ("a 1 +Inf", "1: column 5: a timestamp"),
        ("1a 1", "1: column 1: a name"),
        ("{a=\"b\"} 1", "1: column 1: a name"),
        ("a.b 1", "1: column 2: one blank"),
        ("a{b:c=\"d\"} 1", "1: column 4: `=`"),
        ("a{,} 1", "1: column 3: the name of a label"),
        ("a{b=\"c\",} 1", "1: column 9: the name of a label"),
        ("a{b=\"c\" ,d=\"e\"} 1", "1: column 8: `,` or `}` expected, not ' '"),
        ("a{b=\"c\"", "1: column 8: `,` or `}`"),
        ("a{b=\"c} 1", "1: column 10: `\"` expected"),
        ("a{b=\"c\\\"} 1", "1: column 12: `\"` expected"),
        ("a{b=\"c\",b=\"d\"} 1", "1: the label `b` is there twice"),
        ("# TYPE a meter", "1: `meter` is no type"),
        ("# TYPE a Gauge", "1: `Gauge` is no type"),
        ("# TYPE  a gauge", "1: column 8: a name"),
        ("# UNIT a_b b c", "1: `b c` is no unit"),
        ("# NOTE a b", "1: `# NOTE` is not known"),
        ("# note", "1: not one of"),
        ("#", "1: not one of"),
        ("a 1\n", "2: the line is empty"),
        (" a 1", "1: column 1: a name"),
        ("# TYPE a counter\na_total 1 # {b=\"c\"}", "2: column 20: one blank before the exemplar's value"),
        ("# TYPE a counter\na_total 1 # 1", "2: column 13: `{`"),
        ("# TYPE a counter\na_total 1 # {} 1 2 3", "2: column 19: the end of the line"),
        ("# TYPE a counter\na_total 1# {} 1", "2: column 9: a decimal number"),
    ]);
    accepted(&[
        "a +1.",
        "a -.5e+3 1",
        "a nan",
        "a{b=\"\"} +inf -1.5",
        "a{} -Infinity",
        "a{b=\"c d\\\\\\\"\\n\u{1f321}\"} 1",
        "# HELP a any \"text\" \\x # {",
        "# UNIT a ",
        "# TYPE a counter\na_total 1 # {} 1",
        "# TYPE a counter\na_total 1 2 # {b=\"c\"} NaN 1",
    ]);
    assert_eq!(faults("a 1\n# EOF"), [""; 0]);
    assert_eq!(faults("# EOF\n"), [""; 0]);
    assert_eq!(faults("a 1\n"), ["1: the last line is not `# EOF`; the exposition may be cut off"]);
    assert_eq!(faults("# EOF\na 1\n"), ["2: `# EOF` is in line 1; nothing may follow"]);
    assert_eq!(faults("# EOF\n\n"), ["2: `# EOF` is in line 1; nothing may follow"]);
    let mut page = Page::default();
    page.read(b"a{b=\"\xff\"} 1\n# EOF\n");
    assert_eq!(page.faults, [Fault { line: 1, text: "not UTF-8".to_owned() }]);
}

#[test]
fn families_stand_together_and_do_not_share_names() {
    refused(&[
        ("# TYPE a gauge\n# TYPE a gauge", "2: `# TYPE` of the family `a` is there twice"),
        ("# HELP a b\na 1\n# HELP a b", "3: `# HELP` of the family `a` is there twice"),
        ("a 1\n# HELP a b", "2: `# HELP` of the family `a` must stand before its samples"),
        ("a 1\nb 1\na 1 5", "3: the family `a` began in line 1"),
        ("# TYPE a counter\n# TYPE b gauge\n# TYPE a gauge", "3: the family `a` began in line 1"),
        (
            "# TYPE a_created gauge\n# TYPE a counter",
            "2: the name `a_created` belongs to the family `a_created` of line 1",
        ),
        ("# TYPE a summary\n# TYPE a_count gauge", "2: the name `a_count` belongs to the family `a` of line 1"),
        ("# TYPE a counter\na 1", "2: `a` is no sample of the counter `a` of line 1, which has `a_total`, `a_created`"),
        (
            "# TYPE a_total counter\na_total 1",
            "2: `a_total` is no sample of the counter `a_total` of line 1, which has `a_total_total`, `a_total_created`",
        ),
        ("# TYPE a info\n# TYPE a gauge", "2: `# TYPE` of the family `a` is there twice"),
        ("# TYPE a counter\nb 1\n# HELP a b", "3: the family `a` began in line 1"),
        ("# UNIT a seconds", "1: the name of the family `a` must end with its unit: `_seconds`"),
        ("# UNIT seconds seconds", "1: the name of the family `seconds` must end"),
        ("# TYPE a_b info\n# UNIT a_b b", "1: the family `a_b` of type info cannot have a unit"),
        ("# UNIT a_b b\n# TYPE a_b stateset", "1: the family `a_b` of type stateset cannot have a unit"),
    ]);
    accepted(&[
        "# TYPE a gauge\na 1\na_count 2\na_total 3",
        "# TYPE a info\n# UNIT a \na_info{b=\"c\"} 1",
        "# UNIT a_s s\n# HELP a_s b\n# TYPE a_s gauge\na_s 1",
        "# HELP a \n# HELP b \nb 1",
    ]);
}

#[test]
fn metrics_stand_together_in_the_order_of_time() {
    refused(&[
        ("a{b=\"1\"} 1\na{b=\"2\"} 1\na{b=\"1\"} 1", "3: samples of one metric of `a` must stand together"),
        ("a 1\na 1", "2: `a` is there twice with the same labels and without timestamps"),
        ("a 1 5\na 1 4.9", "2: the timestamp 4.9 is before 5"),
        ("a 1\na 1 5", "2: either all samples of a metric have timestamps or none"),
        ("a 1 5\na 1", "2: either all samples of a metric have timestamps or none"),
        (
            "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1 1\na_bucket{le=\"+Inf\"} 1 2\na_count 1 1",
            "4: the timestamp 1 is before 2",
        ),
    ]);
    accepted(&[
        "a{b=\"1\"} 1 5\na{b=\"1\"} 1 5\na{b=\"1\"} 1 6\na{b=\"2\"} 1 4",
        "a{c=\"1\",b=\"1\"} 1 5\na{b=\"1\",c=\"1\"} 1 6",
        "# TYPE a histogram\na_bucket{le=\"1\"} 1 1\na_bucket{le=\"+Inf\"} 1 1\na_bucket{le=\"1\"} 1 2\na_bucket{le=\"+Inf\"} 2 2",
    ]);
}

#[test]
fn types_say_what_samples_may_be() {
    refused(&[
        ("# TYPE a counter\na_total -1", "2: `a_total` of type counter must be a number that is not negative, not -1"),
        ("# TYPE a counter\na_total NaN", "2: `a_total` of type counter must be"),
        ("# TYPE a counter\na_total 1\na_created NaN", "3: `a_created` of type counter must be a time in seconds"),
        ("# TYPE a counter\na_total 1\na_created 1 # {} 1", "3: `a_created` of type counter cannot have an exemplar"),
        ("# TYPE a gauge\na 1 # {} 1", "2: `a` of type gauge cannot have an exemplar"),
        ("# TYPE a info\na_info 0", "2: `a_info` of type info must be 1, not 0"),
        ("# TYPE a stateset\na{a=\"b\"} 0.5", "2: `a` of type stateset must be 0 or 1"),
        ("# TYPE a stateset\na{b=\"c\"} 1", "2: `a` of a stateset must have the label `a`"),
        ("# TYPE a summary\na 1", "2: `a` of a summary must have the label `quantile`"),
        ("# TYPE a summary\na{quantile=\"1.1\"} 1", "2: `quantile` must be a number from 0 to 1, not `1.1`"),
        ("# TYPE a summary\na{quantile=\"\"} 1", "2: `quantile` must be a number from 0 to 1, not ``"),
        ("# TYPE a summary\na{quantile=\"1\"} -1", "2: `a` of type summary must be a number that is not negative"),
        ("# TYPE a summary\na_count 1.5", "2: `a_count` of type summary must be a whole number"),
        ("# TYPE a summary\na_sum NaN", "2: `a_sum` of type summary must be a number that is not negative"),
    ]);
    accepted(&[
        "# TYPE a counter\na_total 1.5\na_created 1.5",
        "# TYPE a stateset\na{a=\"x\"} 1\na{a=\"y\"} 0\na{b=\"1\",a=\"x\"} 1",
        "# TYPE a summary\na{quantile=\"0\"} NaN\na{quantile=\"1.0\"} 1\na_sum 1.5\na_count 2\na_created 1",
        "# TYPE a summary\na_count 2",
        "# TYPE a unknown\na -1",
    ]);
}

#[test]
fn histograms_are_whole() {
    refused(&[
        ("# TYPE a histogram\na_bucket 1", "2: `a_bucket` of a histogram must have the label `le`"),
        ("# TYPE a histogram\na_bucket{le=\"1\"} 1", "2: a histogram must have a bucket with `le=\"+Inf\"`"),
        ("# TYPE a gaugehistogram\na_gcount 1\na_gsum 1", "2: a histogram must have a bucket with `le=\"+Inf\"`"),
        ("# TYPE a histogram\na_bucket{le=\"+Inf\"} 0.5", "2: `a_bucket` of type histogram must be a whole number"),
        (
            "# TYPE a histogram\na_bucket{le=\"2\"} 1\na_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} 1",
            "3: buckets must stand in the order of `le`; 1 comes behind 2",
        ),
        (
            "# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1",
            "3: a bucket counts what those below it count too; 1 is less than 2",
        ),
        (
            "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_count 2\na_sum 1",
            "2: `_count` is 2 and the bucket `+Inf` 1; they must be equal",
        ),
        ("# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_count 1", "2: a histogram with `_count` must have `_sum`"),
        (
            "# TYPE a gaugehistogram\na_bucket{le=\"+Inf\"} 1\na_gsum 1",
            "2: a histogram with `_gsum` must have `_gcount`",
        ),
        (
            "# TYPE a histogram\na_bucket{le=\"-1\"} 1\na_bucket{le=\"+Inf\"} 1\na_count 1\na_sum 1",
            "2: a histogram with a negative `le` cannot have `_sum`",
        ),
        (
            "# TYPE a gaugehistogram\na_bucket{le=\"+Inf\"} 1\na_gcount 1\na_gsum -1",
            "2: `_gsum` cannot be negative where no `le` is",
        ),
        (
            "# TYPE a histogram\na_bucket{b=\"1\",le=\"1\"} 1\na_bucket{b=\"2\",le=\"+Inf\"} 1",
            "2: a histogram must have a bucket with `le=\"+Inf\"`",
        ),
    ]);
    let wrong = faults("# TYPE a histogram\na_bucket{le=\"Inf\"} 1\na_bucket{le=\"+Inf\"} 1\n# EOF\n");
    assert_eq!(wrong, ["2: `le` must be a number or `+Inf`, not `Inf`"]);
    accepted(&[
        "# TYPE a histogram\na_bucket{le=\"0.1\"} 1\na_bucket{le=\"+Inf\"} 2 # {b=\"c\"} 5\na_count 2\na_sum 1\na_created 3",
        "# TYPE a histogram\na_count{b=\"1\"} 2\na_sum{b=\"1\"} 1\na_bucket{le=\"+Inf\",b=\"1\"} 2\na_bucket{b=\"2\",le=\"+Inf\"} 2",
        "# TYPE a gaugehistogram\na_bucket{le=\"-1\"} 1\na_bucket{le=\"+Inf\"} 1\na_gcount 1\na_gsum -1",
    ]);
}

#[test]
fn openmetrics_cases_are_judged_as_the_specification_says() {
    let mut wrong = Vec::new();
    for (name, body, is_valid) in openmetrics_cases() {
        let mut out = Vec::new();
        if check_openmetrics(&body, &mut out).unwrap() != is_valid {
            wrong.push(format!("{name}: {}", String::from_utf8_lossy(&out)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
