//! Answers of Prometheus 3.14 to queries, right and wrong, and the fixed point of printing.

use proptest::prelude::*;

use super::*;
use crate::printer;

/// `expected` is the canonical form, or the error.
#[track_caller]
fn check(text: &str, expected: &str) {
    let got = match parse(text) {
        Ok(expr) => printer::to_string(&expr),
        Err(e) => e.to_string(),
    };
    assert_eq!(got, expected, "{text}");
}

#[test]
fn numbers_and_durations() {
    check("1e3", "1000");
    check("0755", "493");
    check("0x_1f", "31");
    check("1_000", "1000");
    check(".5", "0.5");
    check("-5m", "-5m");
    check("5m", "5m");
    check("1__0", "1:1: parse error: bad number or duration syntax: \"1__\"");
    check("1.5h", "1:1: parse error: unknown unit \".\" in duration \"1.5h\"");
    check("30m1h", "1:1: parse error: not a valid duration string: \"30m1h\"");
    check("+Inf", "+Inf");
    check("Inf ^ +2", "Inf ^ 2");
    check("+Inf ^ 2 * Inf", "+Inf ^ 2 * +Inf");
    check("nan", "NaN");
}

#[test]
fn strings() {
    check("\"a\nb\"", "1:1: parse error: unterminated quoted string");
    check("'it''s'", "1:5: parse error: unexpected string \"'s'\"");
    check("'a\"b'", r#""a\"b""#);
    check("`a\\n`", r#""a\\n""#);
    check(r#""a\xc5z""#, r#""a\xc5z""#);
}

#[test]
fn precedence() {
    check("-2^2", "-2 ^ 2");
    assert!(matches!(parse("-2^2"), Ok(Expr::Unary(_))));
    assert!(matches!(parse("-2*2"), Ok(Expr::Binary(_))));
    check("2^3^2", "2 ^ 3 ^ 2");
    check("1 == bool 1 == bool 2", "1 == bool 1 == bool 2");
    let Ok(Expr::Binary(b)) = parse("a or b and c") else { panic!("no binary") };
    assert_eq!(b.op, crate::ast::BinaryOp::Or);
    let Ok(Expr::Binary(b)) = parse("2^3^4") else { panic!("no binary") };
    assert!(matches!(b.rhs, Expr::Binary(_)));
}

#[test]
fn names_and_matchers() {
    for name in ["by", "offset", "sum", "start", "end", "step", "range", "and", "anchored", "fill"] {
        check(name, name);
    }
    check("by{}", "by");
    check("foo{b=\"1\",a!=\"2\",}", "foo{a!=\"2\",b=\"1\"}");
    check("{\"a b\"}", "{__name__=\"a b\"}");
    check("{\"http.req\", \"a.b\"=\"c\"}", "{\"a.b\"=\"c\",__name__=\"http.req\"}");
    check("foo{\"x\"}", "1:1: parse error: metric name must not be set twice: \"foo\" or \"x\"");
    check("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher");
    check("{a=~\".*\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher");
    check("foo{a=b}", "1:7: parse error: unexpected identifier \"b\" in label matching, expected string");
    check("foo{", "1:5: parse error: unexpected end of input inside braces");
    check("inf{}", "1:4: parse error: unexpected \"{\"");
    check("foo{a=~\"(\"}", "1:5: parse error: error parsing regexp: missing closing ): `(`");
}

#[test]
fn keywords_where_none_fits() {
    check("bool", "1:1: parse error: unexpected <bool>");
    check("on", "1:1: parse error: unexpected <on>");
    check("group_left(x)", "1:1: parse error: unexpected <group_left>");
    check("atan2(1)", "1:1: parse error: unexpected <op:atan2>");
    check("sum(foo) by (a) without (b)", "1:17: parse error: unexpected <without>");
    check("sum some_metric by (test)", "1:5: parse error: unexpected identifier \"some_metric\"");
}

#[test]
fn modifiers() {
    check("foo @ 1.5", "foo @ 1.500");
    check("foo @ -1.5 offset 90s", "foo @ -1.500 offset 1m30s");
    check("foo[90s] @ start()", "foo[1m30s] @ start()");
    check("foo[5m] offset -5m anchored", "foo[5m] anchored offset -5m");
    check("rate(foo[5m])[1h:]", "rate(foo[5m])[1h:]");
    check("foo[1h:5m] @ end() offset 1m", "foo[1h:5m] @ end() offset 1m");
    check("foo offset 5m offset 1m", "1:1: parse error: offset may not be set multiple times");
    check("up offset 5m[1m]", "1:13: parse error: no offset modifiers allowed before range");
    check("up @ 1 [1m]", "1:8: parse error: no @ modifiers allowed before range");
    check("foo[0s]", "1:5: parse error: duration must be greater than 0");
    check("foo[-5m]", "1:5: parse error: duration must be greater than 0");
    check("rate(foo[5m", "1:12: parse error: unclosed left parenthesis");
    check("topk(2,up)[", "1:12: parse error: unexpected end of input in duration expression");
    check("foo[1m:1m] smoothed", "1:1: parse error: smoothed modifier is not supported for subqueries");
    check("foo @ x", "1:7: parse error: unexpected identifier \"x\" in @, expected timestamp");
    check(
        "foo offset x",
        "1:12: parse error: unexpected identifier \"x\" in offset, expected number, duration, step(), or range()",
    );
    check(
        "(1) offset 5m",
        "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
    );
}

#[test]
fn duration_expressions() {
    check("foo[2*1m]", "foo[2 * 1m]");
    check("foo[1800]", "foo[30m]");
    check("foo[step()+1m:max_of(1m,5*range())]", "foo[step() + 1m:max_of(1m, 5 * range())]");
    check("foo offset (1h/2)", "foo offset (1h / 2)");
    check("foo offset -(5m*2)", "foo offset -(5m * 2)");
    check("foo offset 100 + 2", "foo offset 1m40s + 2");
    check("foo offset -2^2", "foo offset -2s ^ 2");
    check("foo[5m/0]", "1:7: parse error: division by zero");
    check(
        "foo[5m % 'a']",
        "1:10: parse error: unexpected string \"'a'\" in subquery or range selector, expected number, duration, step(), or range()",
    );
    check(
        "foo[(5m]",
        "1:8: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()",
    );
    check(
        "foo[5m:1m+]",
        "1:11: parse error: unexpected \"]\" in subquery selector, expected number, duration, step(), range(), or \"]\"",
    );
    check("foo offset nan", "1:12: parse error: duration out of range");
    check("start() + max_of(1, step())", "start() + max_of(1, step())");
}

#[test]
fn aggregations_and_calls() {
    check("sum(foo) by(a)", "sum by (a) (foo)");
    check("sum by (a,) (x)", "sum by (a) (x)");
    check("sum without () (x)", "sum without () (x)");
    check("sum by (\"a b\", on) (x)", "sum by (\"a b\", on) (x)");
    check("topk(2, x)", "topk(2, x)");
    check("sum(x,)", "1:6: parse error: trailing commas not allowed in function call args");
    check("abs(x,)", "1:6: parse error: trailing commas not allowed in function call args");
    check(
        "topk(foo)",
        "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
    );
    check("sum(1)", "1:5: parse error: expected type instant vector in aggregation expression, got scalar");
    check("rate(foo)", "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector");
    check("xyz(1)", "1:1: parse error: unknown function with name \"xyz\"");
    check("hour(a, ,)", "1:7: parse error: trailing commas not allowed in function call args");
    check("a / on(b) group_left , c", "1:22: parse error: unexpected \",\" in grouping opts, expected \"(\"");
    check("abs(a, b)", "1:1: parse error: expected 1 argument(s) in call to \"abs\", got 2");
    check("label_join(a)", "1:1: parse error: expected at least 3 argument(s) in call to \"label_join\", got 1");
    check("round(a, 1, 2)", "1:1: parse error: expected at most 2 argument(s) in call to \"round\", got 3");
    check("info(a, {b=\"\"})", "info(a, {b=\"\"})");
    check("info(a, b)", "1:9: parse error: expected label selectors only, got vector selector instead");
}

#[test]
fn binary_operators() {
    check("a + on(b) group_left(c) d", "a + on (b) group_left (c) d");
    check("a - ignoring(x) fill_left(1) fill_right(-2) b", "a - ignoring (x) fill_left (1) fill_right (-2) b");
    check("a * fill (0) b", "a * fill (0) b");
    check("a </ 5", "a </ 5");
    check("1 > 2", "1:3: parse error: comparisons between scalars must use BOOL modifier");
    check("vector(1) and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression");
    check("foo and on() group_left() bar", "1:1: parse error: no grouping allowed for \"and\" operation");
    check("foo[1m] + 1", "1:1: parse error: binary expression must contain only scalar and instant vector types");
    check("1 +", "1:4: parse error: unexpected end of input");
    check("(", "1:2: parse error: unclosed left parenthesis");
    check("", "unknown position: parse error: no expression found in input");
    check("a + bool b", "1:3: parse error: bool modifier can only be used on comparison operators");
}

#[test]
fn faults_are_worded_as_in_prometheus() {
    check("*1", "1:1: parse error: unexpected <op:*>");
    check("(1))", "1:5: parse error: unexpected right parenthesis ')'");
    check("1 !~ 1", "1:3: parse error: unexpected character after '!': '~'");
    check("1 =~ 1", "1:3: parse error: unexpected character after '=': '~'");
    check("foo bar", "1:5: parse error: unexpected identifier \"bar\"");
    check("a 5m", "1:3: parse error: unexpected duration \"5m\"");
    check("a - on(b) ignoring(c) d", "1:11: parse error: unexpected <ignoring>");
    check("some{5=x}", "1:6: parse error: unexpected character inside braces: '5'");
    check("{x=}", "1:4: parse error: unexpected \"}\" in label matching, expected string");
    check("foo{bar,}", "1:8: parse error: unexpected \",\" in label matching, expected label matching operator");
    check("sum without(==)(a)", "1:13: parse error: unexpected <op:==> in grouping opts, expected label");
    check("sum without(,)(a)", "1:13: parse error: unexpected \",\" in grouping opts, expected label");
    check("sum by a (b)", "1:8: parse error: unexpected identifier \"a\" in grouping opts, expected \"(\"");
    check("(foo + bar)[5m]", "1:12: parse error: ranges only allowed for vector selectors");
    check(
        "1 @ 1",
        "1:1: parse error: @ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
    );
    check("foo @ +Inf", "1:1: parse error: timestamp out of bounds for @ modifier: +Inf");
    check("foo @ 1 @ 2", "1:1: parse error: @ <timestamp> may not be set multiple times");
    check("topk(a, b)", "1:6: parse error: expected type scalar in aggregation parameter, got instant vector");
    check("count_values(5, b)", "1:14: parse error: expected type string in aggregation parameter, got scalar");
    check(
        "-\"x\"",
        "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
    );
    check(
        "-a[5m]",
        "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\"",
    );
    check("a == on(x) group_left(x) b", "1:3: parse error: label \"x\" must not occur in ON and GROUP clause at once");
    check("1[5m:1m]", "1:1: parse error: subquery is only allowed on instant vector, got scalar instead");
    check("a + on(x) 1", "1:1: parse error: vector matching only allowed between instant vectors");
    check("a\n+\n  b c", "3:5: parse error: unexpected identifier \"c\"");
}

#[test]
fn parts_can_be_turned_off() {
    let off = ParserOptions {
        experimental_functions: false,
        extended_range_selectors: false,
        fill_modifiers: false,
        duration_expressions: false,
    };
    #[track_caller]
    fn check_off(options: ParserOptions, text: &str, expected: &str) {
        let error = parse_with(text, options).unwrap_err();
        assert_eq!(error.message, expected, "{text}");
    }
    check_off(off, "mad_over_time(a[1m])", "function \"mad_over_time\" is not enabled");
    check_off(off, "a[1m] anchored", "anchored modifier is experimental and not enabled");
    check_off(off, "a[1m+1m]", "experimental duration expression is not enabled");
    check_off(off, "a + fill(1) b", "binop fill modifiers are experimental and not enabled");
    assert!(parse_with("rate(a[5m])", off).is_ok());
}

#[test]
fn nesting_is_bounded() {
    for text in [
        "(".repeat(100_000),
        "-".repeat(100_000),
        "1+".repeat(100_000),
        "1^".repeat(100_000),
        "abs(".repeat(100_000),
        format!("a[{}", "(".repeat(100_000)),
        format!("a{}", "[1m:]".repeat(100_000)),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.message.contains("depth limit"), "{} gave {error}", &text[..10]);
    }
    let depth = DEPTH_MAX as usize - 1;
    let deep = format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
    let expr = parse(&deep).unwrap();
    assert_eq!(printer::to_string(&expr), deep);
    let chain = vec!["a"; DEPTH_MAX as usize - 1].join(" + ");
    assert_eq!(printer::to_string(&parse(&chain).unwrap()), chain);
}

#[test]
fn long_queries_are_broken_over_lines() {
    let long = "a_rather_long_metric_name_number_one{job=\"x\"}";
    let query = format!("sum by (job) (rate({long}[5m])) / on (job) group_left () -topk(2, {long}) or (foo)");
    let expected =
        format!("    sum by (job) (rate({long}[5m]))\n  / on (job) group_left ()\n    -topk(2, {long})\nor\n  (foo)");
    let expr = parse(&query).unwrap();
    assert_eq!(printer::pretty(&expr), expected);
    assert_eq!(printer::to_string(&parse(&expected).unwrap()), printer::to_string(&expr));
}

/// Query texts of many shapes; about half of them are right.
fn queries() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("foo".to_owned()),
        Just("foo:bar{a=\"b\",c!~\"d|e\"}".to_owned()),
        Just("{\"a b\"}".to_owned()),
        Just("sum".to_owned()),
        Just("1.5e3".to_owned()),
        Just("1h30m".to_owned()),
        Just("time()".to_owned()),
        Just("foo offset -5m @ 1.5".to_owned()),
        Just("foo smoothed offset min_of(step(), 1m)".to_owned()),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        prop_oneof![
            (inner.clone(), "\\+|-|\\*|/|%|\\^|atan2|== bool|!= |>|and|or|unless|</", inner.clone())
                .prop_map(|(l, op, r)| format!("{l} {op} {r}")),
            (inner.clone(), inner.clone()).prop_map(|(l, r)| format!("{l} * on(a) group_left(b) fill_right(2) {r}")),
            inner.clone().prop_map(|e| format!("({e})")),
            inner.clone().prop_map(|e| format!("-{e}")),
            inner.clone().prop_map(|e| format!("rate({e}[5m] anchored)")),
            inner.clone().prop_map(|e| format!("max_over_time({e}[step() + 5m:-(1m - 2m)] @ end())")),
            inner.clone().prop_map(|e| format!("sum without (a, \"b c\") ({e})")),
            inner.clone().prop_map(|e| format!("topk(2, {e})")),
            inner.prop_map(|e| format!("label_replace({e}, \"a\", '$1', `b\"`, \"\\\\d\")")),
        ]
    })
}

proptest! {
    #[test]
    fn printing_is_a_fixed_point(query in queries()) {
        if let Ok(expr) = parse(&query) {
            let printed = printer::to_string(&expr);
            let again = parse(&printed).map_err(|e| TestCaseError::fail(format!("{printed}: {e}")))?;
            prop_assert_eq!(&printed, &printer::to_string(&again));
            let broken = printer::pretty(&expr);
            let again = parse(&broken).map_err(|e| TestCaseError::fail(format!("{broken}: {e}")))?;
            prop_assert_eq!(&printed, &printer::to_string(&again));
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
        let _ = parse(&text);
        let _ = parse_selector(&text);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_sequence_of_tokens_makes_the_parser_panic(
        words in proptest::collection::vec(
            prop_oneof![
                "\\(|\\)|\\{|\\}|\\[|\\]|,|:|@|=|=~|!~|\\+|-|\\^|/|</|==|\"a\"|'b'|5m|1|foo|a:b|inf",
                "sum|topk|by|without|on|ignoring|group_left|bool|offset|anchored|smoothed|fill|start|end|step|range|min_of|info|rate|#|\n",
            ],
            0..24,
        )
    ) {
        let text = words.join(" ");
        if let Ok(expr) = parse(&text) {
            let printed = printer::to_string(&expr);
            prop_assert!(parse(&printed).is_ok(), "{text} printed as {printed}");
        }
    }
}
