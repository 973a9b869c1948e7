//! Whole files: each `testdata/*.good.yml` with its effective configuration and warnings beside it, each `*.bad.yml`
//! with its errors. `UPDATE_EXPECTED=1` writes the expectations anew, to be read before they are committed.

use std::path::PathBuf;

use super::*;

fn env(name: &str) -> Option<String> {
    (name == "REGION").then(|| "eu-north-1".to_owned())
}

fn read(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let name = Path::new("/etc/promontory").join(file.file_name().unwrap());
    match parse_with_env(&text, &name, &env) {
        Ok(config) => {
            let warnings: String = config.warnings.iter().map(|w| format!("# warning: {w}\n")).collect();
            warnings + &config.to_yaml()
        }
        Err(errors) => format!("{errors}\n"),
    }
}

#[track_caller]
fn check_folder(ending: &str, is_expected: fn(&str) -> bool) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.to_string_lossy().ends_with(ending));
    files.sort();
    assert!(!files.is_empty(), "no *{ending}");
    for file in files {
        let got = read(&file);
        assert!(is_expected(&got), "{}: {got}", file.display());
        let beside = file.with_extension("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&beside, &got).unwrap();
        }
        let expected = std::fs::read_to_string(&beside).unwrap_or_default();
        assert_eq!(got, expected, "{}", file.display());
    }
}

#[test]
fn good_files_give_the_expected_configuration() {
    check_folder(".good.yml", |got| !got.starts_with("/etc/"));
}

#[test]
fn bad_files_give_the_expected_errors() {
    check_folder(".bad.yml", |got| got.lines().all(|line| line.starts_with("/etc/promontory/")));
}

#[test]
fn effective_configuration_reads_back() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    for name in ["shipped.good.yml", "everything.good.yml"] {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let config = parse_with_env(&text, Path::new("/etc/x.yml"), &env).unwrap();
        let printed = config.to_yaml();
        let again =
            parse_with_env(&printed, Path::new("/etc/x.yml"), &env).unwrap_or_else(|e| panic!("{e}\n{printed}"));
        assert_eq!(again.to_yaml(), printed);
    }
}

#[test]
fn secrets_are_shown_nowhere() {
    let text = "scrape_configs:\n- job_name: a\n  basic_auth: {username: u, password: hunter2}\n  http_headers: {X: \
                {secrets: [hunter2]}}\n- job_name: b\n  authorization: {credentials: hunter2}\n  tls_config: {cert: c, \
                key: hunter2}\nremote_write: [{url: 'http://u:hunter2@h/w'}]";
    let config = parse(text, Path::new("x.yml")).unwrap();
    assert!(!config.to_yaml().contains("hunter2") && !format!("{config:?}").contains("hunter2"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_without_end_is_not_read_to_its_end() {
    let got = read_text(Path::new("/dev/zero"), 100);
    assert_eq!(got, Err(Problem::TooLarge { bytes: 101, max: 100 }));
}

#[test]
fn missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("none.yml");
    let errors = load(&file).unwrap_err().to_string();
    assert!(errors.starts_with(&format!("{}: read: ", file.display())), "{errors}");
    std::fs::write(&file, "scrape_configs: [{job_name: a, basic_auth: {password_file: p}}]").unwrap();
    let auth = &load(&file).unwrap().scrape_configs[0].http.auth;
    let password = Some(http_client::Source::File(dir.path().join("p")));
    assert_eq!(*auth, http_client::Auth::Basic { username: None, password });
}

#[test]
fn jobs_come_from_other_files_too() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    std::fs::create_dir(dir.path().join("jobs")).unwrap();
    let main = dir.path().join("main.yml");
    let text = "global: {scrape_interval: 7s, scrape_timeout: 7s}\nscrape_configs: [{job_name: a}]\nscrape_config_files: \
                [jobs/*.yml, none/*.yml, one.yml]";
    write("main.yml", text);
    write("jobs/2.yml", "scrape_configs: [{job_name: c, basic_auth: {password_file: p}}]");
    write("jobs/1.yml", "scrape_configs: [{job_name: b}]");
    write("jobs/.hidden.yml", "nonsense: 1");
    write("one.yml", "");
    let config = load(&main).unwrap();
    let names: Vec<_> = config.scrape_configs.iter().map(|c| (c.job_name.as_str(), c.scrape_interval.ms())).collect();
    assert_eq!(names, [("a", 7000), ("b", 7000), ("c", 7000)]);
    let password = Some(http_client::Source::File(dir.path().join("jobs/p")));
    assert_eq!(config.scrape_configs[2].http.auth, http_client::Auth::Basic { username: None, password });
    write("one.yml", "scrape_configs: [{job_name: a}]\nglobal: {}");
    let errors = load(&main).unwrap_err().to_string().replace(&dir.path().display().to_string(), "D");
    assert_eq!(
        errors,
        "D/one.yml:1:18: scrape_configs[0]: found multiple scrape configs with job name \"a\"\nD/one.yml:2:1: unknown \
         field \"global\""
    );
    std::fs::remove_file(dir.path().join("one.yml")).unwrap();
    assert!(load(&main).unwrap_err().to_string().contains("one.yml: read: "));
}

#[test]
fn fingerprint_follows_all_files() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let main = dir.path().join("main.yml");
    let look = || fingerprint(&main, &[dir.path().join("*.jobs.yml"), dir.path().join("one.yml")]);
    let mut seen = vec![look()];
    write("main.yml", "a");
    seen.push(look());
    write("x.jobs.yml", "b");
    seen.push(look());
    write("other.yml", "c");
    assert_eq!(seen.last(), Some(&look()));
    write("x.jobs.yml", "c");
    seen.push(look());
    std::fs::rename(dir.path().join("x.jobs.yml"), dir.path().join("y.jobs.yml")).unwrap();
    seen.push(look());
    write("one.yml", "");
    assert_eq!(seen.last(), Some(&look()));
    write("one.yml", "d");
    seen.push(look());
    let different: std::collections::HashSet<_> = seen.iter().collect();
    assert_eq!(different.len(), seen.len());
}

#[track_caller]
fn check_targets(file: &str, text: &str, expected: &str) {
    let got = match discovery::parse_targets(text, Path::new(file)) {
        Ok(groups) => {
            let groups: Vec<_> = groups.iter().map(|g| format!("{} {}", g.targets.join(","), g.labels)).collect();
            groups.join(" | ")
        }
        Err(errors) => errors.to_string(),
    };
    assert_eq!(got, expected, "{text}");
}

#[test]
fn target_files_are_yaml_or_json() {
    let yaml = "- targets: [a:1, 'b:2']\n  labels: {job: x, n: 7}\n- targets: [c:3]\n";
    check_targets("t.yml", yaml, r#"a:1,b:2 {job="x", n="7"} | c:3 {}"#);
    let json = r#"[{"targets": ["a:1"], "labels": {"q": "\u00e9\ud83d\ude00"}}, {"targets": []}]"#;
    check_targets("t.json", json, r#"a:1 {q="é😀"} |  {}"#);
    check_targets("t.yaml", "", "");
    check_targets("t.yml", "- target: [a]\n", "t.yml:1:3: [0]: unknown field \"target\", did you mean \"targets\"?");
    check_targets("t.yml", "- targets: a\n  labels: [x]", {
        "t.yml:1:12: [0].targets: expected a list, found \"a\"\nt.yml:2:11: [0].labels: expected a map, found a list"
    });
    check_targets("t.json", "[{\"targets\": [1]}]", "t.json:1:15: invalid type: integer `1`, expected a string");
    check_targets("t.json", "[{\"x\": 1}]", "t.json:1:5: unknown field `x`, expected `targets` or `labels`");
    check_targets("t.json", "[", "t.json:1:1: EOF while parsing a list");
}

#[test]
fn every_section_is_described_once() {
    let mut names: Vec<_> = sections::SECTIONS.iter().map(|s| s.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), sections::SECTIONS.len());
    assert!(sections::SECTIONS.iter().all(|s| !s.about.is_empty()));
}

mod fields;
