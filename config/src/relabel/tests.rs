//! One row per rule and input: the label set before, the rule, the set after or `dropped`.

use super::*;

fn labels(text: &str) -> Labels {
    Labels::from_pairs(text.split_whitespace().map(|pair| pair.split_once('=').expect("name=value")))
}

fn rule(text: &str) -> RelabelConfig {
    let mut rule = RelabelConfig::new();
    for field in text.split_whitespace() {
        let (name, value) = field.split_once('=').expect("field=value");
        match name {
            "source" => rule.source_labels = value.split(',').map(str::to_owned).collect(),
            "sep" => value.clone_into(&mut rule.separator),
            "regex" => rule.regex = Regex::new(value).unwrap(),
            "mod" => rule.modulus = value.parse().unwrap(),
            "target" => value.clone_into(&mut rule.target_label),
            "replacement" => value.clone_into(&mut rule.replacement),
            "action" => rule.action = Action::from_name(value).unwrap(),
            other => panic!("no field {other:?}"),
        }
    }
    rule
}

#[track_caller]
fn check(before: &str, rules: &[&str], after: &str) {
    let rules: Vec<_> = rules.iter().map(|r| rule(r)).collect();
    for r in &rules {
        assert_eq!(r.validate(NameValidation::Utf8), Ok(()), "{r:?}");
    }
    match process(&labels(before), &rules) {
        Some(got) => assert_eq!(got, labels(after)),
        None => assert_eq!("dropped", after),
    }
}

#[test]
fn replace_writes_the_expanded_template() {
    check("a=foo b=bar", &["source=a regex=f(.*) target=d replacement=ch${1}-ch${1}"], "a=foo b=bar d=choo-choo");
    check("a=foo b=bar", &["source=a,b regex=f(.*);(.*)r target=a replacement=b${1}${2}m"], "a=boobam b=bar");
    check("a=foo", &["source=a sep=- target=c"], "a=foo c=foo");
    check("a=foo b=x", &["source=a,b sep=- target=c"], "a=foo b=x c=foo-x");
    check("a=foo", &["target=env replacement=prod"], "a=foo env=prod");
    check("a=foo", &["source=a regex=(?P<w>f)oo target=c replacement=${w}x"], "a=foo c=fx");
}

#[test]
fn replace_without_match_changes_nothing() {
    check("a=foo b=bar", &["source=a regex=o target=b replacement=x"], "a=foo b=bar");
    check("a=foo", &["source=a regex=foobar target=b"], "a=foo");
}

#[test]
fn group_name_is_the_longest_word() {
    check("a=127", &["source=a regex=(\\d+) target=b replacement=$1abc-${1}"], "a=127 b=-127");
    check("a=127", &["source=a regex=(\\d+) target=b replacement=$$1"], "a=127 b=$1");
}

#[test]
fn empty_result_removes_the_target() {
    check("a=foo b=bar", &["source=a regex=(f).* target=b replacement=$2"], "a=foo");
    check("a=foo b=bar", &["target=b replacement="], "a=foo");
}

#[test]
fn target_label_is_expanded_too() {
    check("a=some-x-y", &["source=a regex=some-(.+)-(.+) target=${1} replacement=${2}"], "a=some-x-y x=y");
    check("a=foo", &["source=a regex=(f)oo target=${3} replacement=v"], "a=foo");
}

#[test]
fn dot_matches_newlines_and_the_expression_is_anchored() {
    let newline = Labels::from_pairs([("a", "x\ny")]);
    assert!(process(&newline, &[rule("source=a regex=x.y action=keep")]).is_some());
    check("a=foobar", &["source=a regex=foo action=keep"], "dropped");
    check("a=foo b=", &["source=b regex= action=keep"], "a=foo");
}

#[test]
fn keep_and_drop_look_at_the_joined_value() {
    check("a=foo b=bar", &["source=a,b regex=foo;bar action=keep"], "a=foo b=bar");
    check("a=foo b=bar", &["source=a,b regex=foo;bar action=drop"], "dropped");
    check("a=foo", &["source=a regex=.*o.* action=drop"], "dropped");
    check("a=foo", &["source=missing regex=x action=keep"], "dropped");
    check("a=foo", &["source=a regex=f.* action=DROP", "target=x replacement=y"], "dropped");
}

#[test]
fn equal_actions_compare_with_the_target() {
    check("a=80 b=80", &["source=a target=b action=keepequal"], "a=80 b=80");
    check("a=80 b=81", &["source=a target=b action=keepequal"], "dropped");
    check("a=80 b=80", &["source=a target=b action=dropequal"], "dropped");
    check("a=80", &["source=c target=b action=keepequal"], "a=80");
}

#[test]
fn hashmod_is_that_of_prometheus() {
    check("a=foo b=bar c=baz", &["source=c action=hashmod target=d mod=1000"], "a=foo b=bar c=baz d=976");
    check("a=foo b=bar", &["source=a action=hashmod target=d mod=1"], "a=foo b=bar d=0");
}

#[test]
fn labelmap_copies_what_was_there_at_the_start() {
    check(
        "a=foo b1=bar b2=baz",
        &["regex=(b.*) replacement=bar_$1 action=labelmap"],
        "a=foo b1=bar b2=baz bar_b1=bar bar_b2=baz",
    );
    check("__meta_x_y=1 __meta_z=2", &["regex=__meta_(.+) action=labelmap"], "__meta_x_y=1 __meta_z=2 x_y=1 z=2");
    check("ab=1 b=2", &["regex=a(.*) action=labelmap"], "ab=1 b=1");
}

#[test]
fn labels_are_dropped_and_kept_by_name() {
    check("a=foo b1=bar b2=baz", &["regex=(b.*) action=labelkeep"], "b1=bar b2=baz");
    check("a=foo b1=bar b2=baz", &["regex=(b.*) action=labeldrop"], "a=foo");
}

#[test]
fn case_actions_write_the_target() {
    check("a=Foo", &["source=a target=b action=uppercase", "source=a target=a action=lowercase"], "a=foo b=FOO");
}

#[track_caller]
fn check_invalid(text: &str, names: NameValidation, expected: &str) {
    assert_eq!(rule(text).validate(names).unwrap_err().to_string(), expected);
}

#[test]
fn fields_that_do_not_fit_the_action_are_refused() {
    let utf8 = NameValidation::Utf8;
    check_invalid("action=hashmod target=a", utf8, "relabel configuration for hashmod requires non-zero modulus");
    check_invalid("source=a", utf8, "relabel configuration for replace action requires 'target_label' value");
    check_invalid("action=lowercase", utf8, "relabel configuration for lowercase action requires 'target_label' value");
    let message = "'replacement' can not be set for uppercase action";
    check_invalid("action=uppercase target=a replacement=b", utf8, message);
    let message = "keepequal action requires only 'source_labels' and 'target_label', and no other fields";
    check_invalid("action=keepequal target=a regex=b", utf8, message);
    let message = "labeldrop action requires only 'regex', and no other fields";
    check_invalid("action=labeldrop regex=a source=b", utf8, message);
}

#[test]
fn legacy_names_are_checked_around_variables() {
    let legacy = NameValidation::Legacy;
    check_invalid("target=a-b", legacy, "\"a-b\" is invalid 'target_label' for replace action");
    check_invalid("target=0${1}", legacy, "\"0${1}\" is invalid 'target_label' for replace action");
    check_invalid("action=labelmap replacement=a-$1", legacy, "\"a-$1\" is invalid 'replacement' for labelmap action");
    assert_eq!(rule("target=a_${1}_$2").validate(legacy), Ok(()));
    assert_eq!(rule("target=a-b").validate(NameValidation::Utf8), Ok(()));
}

#[test]
fn each_step_shows_what_its_rule_left() {
    let rules = ["source=a target=b", "source=b regex=x action=drop", "target=c replacement=y"].map(rule);
    assert_eq!(steps(&labels("a=1"), &rules), ["a=1 b=1", "a=1 b=1", "a=1 b=1 c=y"].map(|l| Some(labels(l))));
    assert_eq!(steps(&labels("a=x"), &rules), [Some(labels("a=x b=x")), None, None]);
}

#[test]
fn shown_rules_read_back() {
    let shown = |rule: &RelabelConfig, expected: &str| {
        assert_eq!(rule.to_string(), expected);
        assert_eq!(parse(&format!("- {rule}"), NameValidation::Utf8).unwrap(), std::slice::from_ref(rule));
        assert_eq!(parse(&format!("relabel_configs: [{rule}]"), NameValidation::Utf8).unwrap().len(), 1);
    };
    shown(
        &rule("source=a,b-c regex=(x|y)'s target=t"),
        "{source_labels: [a, b-c], regex: '(x|y)''s', target_label: t, action: replace}",
    );
    shown(
        &rule("source=null sep=- target=Null action=hashmod mod=7"),
        "{source_labels: ['null'], separator: '-', target_label: 'Null', modulus: 7, action: hashmod}",
    );
    let empty = RelabelConfig { separator: "\t\"".to_owned(), replacement: String::new(), ..rule("target=t") };
    shown(&empty, r#"{separator: "\t\"", target_label: t, replacement: '', action: replace}"#);
}

#[test]
fn wrong_rules_are_refused_with_their_place() {
    let error =
        parse("- action: keep\n- action: kep\n- target_label: a", NameValidation::Utf8).unwrap_err().to_string();
    assert!(error.starts_with("rules:2:11: [1].action: ") && error.contains("keep"), "{error}");
    assert!(parse("x: 1", NameValidation::Utf8).unwrap_err().to_string().contains("unknown field \"x\""));
    assert_eq!(parse("", NameValidation::Utf8).unwrap(), []);
}
