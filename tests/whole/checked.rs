//! `promontory check …` beside promtool's commands of the same name: the same files, the same exit codes, and where they
//! differ the reason.

use std::path::Path;
use std::process::{Command, Output};

use crate::server::peer;

/// What we say of a file.
#[derive(Debug, Clone, Copy)]
enum Ours {
    /// It is good.
    Good,
    /// This is wrong with it.
    Says(&'static str),
    /// promtool lets it pass, and we say this.
    Stricter(&'static str),
    /// promtool does not let it pass, because it is of an older version.
    Newer,
}

use Ours::{Good, Newer, Says, Stricter};

fn run(program: &str, dir: &Path, args: &[&str]) -> Output {
    Command::new(program).args(args).current_dir(dir).output().unwrap_or_else(|e| panic!("{program}: {e}"))
}

/// Checks each file with both programs in a folder with `beside`.
fn check(command: &str, beside: &[(&str, &str)], cases: &[(&str, Ours)]) {
    if !peer("promtool") {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in beside {
        std::fs::write(dir.path().join(name), text).expect("a writable folder");
    }
    let mut wrong = Vec::new();
    for (text, expected) in cases {
        std::fs::write(dir.path().join("x.yml"), text).expect("a writable folder");
        let theirs = run("promtool", dir.path(), &["check", command, "x.yml"]).status.code();
        let ours = run(env!("CARGO_BIN_EXE_promontory"), dir.path(), &["check", command, "x.yml"]);
        let said = String::from_utf8_lossy(&ours.stderr).into_owned();
        let codes = (theirs, ours.status.code());
        let (wanted, part) = match expected {
            Good => ((Some(0), Some(0)), ""),
            Says(part) => ((Some(1), Some(1)), *part),
            Stricter(part) => ((Some(0), Some(1)), *part),
            Newer => ((Some(1), Some(0)), ""),
        };
        if codes != wanted || !said.contains(part) || (wanted.1 == Some(1) && said.trim().is_empty()) {
            wrong.push(format!("{text}ends with {codes:?} instead of {wanted:?}, and we say {said:?}, not {part:?}"));
        }
    }
    assert!(wrong.is_empty(), "promtool's exit code and ours:\n{}", wrong.join("\n"));
}

/// A job with these fields.
macro_rules! job {
    ($fields:literal) => {
        concat!("scrape_configs:\n- job_name: a\n  ", $fields, "\n")
    };
}

#[test]
fn configurations_are_judged_as_promtool_judges_them() {
    let beside = [
        ("good.json", r#"[{"targets": ["a:1"]}]"#),
        ("bad.json", r#"[{"targets": 1}]"#),
        ("x.part.json", r#"[{"targets": ["a"], "more": 1}]"#),
        ("jobs.part.yml", "scrape_configs:\n- job_name: z\n"),
        ("rules.part.yml", "groups:\n- name: g\n  rules: [{record: a, expr: up}]\n"),
    ];
    let cases = [
        ("", Good),
        ("global: {scrape_interval: 10s}\n", Good),
        ("global: {scrape_interval: 5x}\n", Says("x.yml:1:27: global.scrape_interval")),
        ("global: {scrape_interval: 0s}\n", Good),
        ("globals: {}\n", Says("did you mean \"global\"")),
        ("global: [\n", Says("x.yml:2:1: ")),
        ("- a\n", Says("x.yml")),
        ("global: {}\nglobal: {}\n", Says("x.yml:2:1: ")),
        (job!("static_configs: [{targets: ['h:1']}]"), Good),
        (job!("static_configs: [{targets: ['http://h:1/x']}]"), Says("not a valid hostname")),
        ("scrape_configs:\n- job_name: a\n- job_name: a\n", Says("multiple scrape configs with job name \"a\"")),
        ("scrape_configs:\n- static_configs: [{targets: ['h:1']}]\n", Says("job_name")),
        (job!("scrape_intervall: 1s"), Says("did you mean \"scrape_interval\"")),
        (job!("scrape_interval: 5s\n  scrape_timeout: 10s"), Says("scrape timeout greater than scrape interval")),
        (job!("scheme: ftp"), Stricter("\"ftp\" is not one of http, https")),
        (job!("honor_labels: yes"), Good),
        (job!("honor_labels: \"yes\""), Says("expected true or false, found \"yes\"")),
        (job!("sample_limit: -1"), Says("sample_limit")),
        (job!("body_size_limit: 5XB"), Says("body_size_limit")),
        (job!("relabel_configs: [{source_labels: [a], regex: '(', target_label: b}]"), Says("regex")),
        (job!("relabel_configs: [{source_labels: [a], action: hashmod, target_label: b}]"), Says("modulus")),
        (job!("relabel_configs: [{source_labels: [a], regex: x}]"), Says("requires 'target_label' value")),
        (job!("tls_config: {cert_file: nowhere.pem}"), Says("key")),
        (
            job!("tls_config: {cert_file: nowhere.pem, key_file: good.json}"),
            Says("read cert_file nowhere.pem: No such file"),
        ),
        (job!("tls_config: {ca_file: nowhere.pem}"), Good),
        (job!("authorization: {credentials_file: nowhere}"), Says("read credentials_file nowhere: No such file")),
        (job!("basic_auth: {username: a, password_file: nowhere}"), Good),
        (job!("authorization: {credentials: x}\n  basic_auth: {username: a}"), Says("at most one of")),
        (job!("file_sd_configs: [{files: [nowhere.json]}]"), Good),
        (job!("file_sd_configs: [{files: [good.json]}]"), Good),
        (job!("file_sd_configs: [{files: [bad.json]}]"), Says("bad.json:1:")),
        (job!("file_sd_configs: [{files: ['*.part.json']}]"), Says("unknown field `more`")),
        (job!("file_sd_configs: [{files: [x.txt]}]"), Says("must end in .json, .yml or .yaml")),
        (job!("kubernetes_sd_configs: [{role: pods}]"), Says("did you mean \"pod\"")),
        (job!("dns_sd_configs: [{names: [a], type: A}]"), Says("a port is required")),
        ("remote_write: [{url: 'http://h/w'}]\n", Good),
        ("remote_write: [{}]\n", Says("url")),
        ("remote_write: [{url: 'http://h/w', name: a}, {url: 'http://i/w', name: a}]\n", Says("\"a\"")),
        ("remote_read: [{url: 'http://h/r'}]\n", Good),
        ("scrape_config_files: [jobs.part.yml]\n", Newer),
        ("global: {external_labels: {a-b: c}}\n", Newer),
        ("rule_files: [rules.part.yml]\n", Stricter("this server evaluates no rules")),
        (
            "alerting: {alertmanagers: [{static_configs: [{targets: ['a:1']}]}]}\n",
            Stricter("this server sends no alerts"),
        ),
        ("global: {}\n---\nglobal: {}\n", Stricter("more than one document")),
    ];
    check("config", &beside, &cases);
}

/// A section with certificate and key, and these fields.
macro_rules! tls {
    ($fields:literal) => {
        concat!("tls_server_config: {cert_file: cert.pem, key_file: key.pem", $fields, "}\n")
    };
}

#[test]
fn web_configurations_are_judged_as_promtool_judges_them() {
    let beside = [
        ("cert.pem", include_str!("../../src/client/testdata/server-cert.pem")),
        ("key.pem", include_str!("../../src/client/testdata/server-key.pem")),
        ("other.pem", include_str!("../../src/client/testdata/rsa-key.pem")),
        ("garbage.pem", "x"),
    ];
    let cases = [
        ("", Good),
        ("x: 1\n", Says("unknown field \"x\"")),
        ("a: [\n", Says("x.yml:2:1: ")),
        (tls!(""), Good),
        ("tls_server_config: {cert_file: nowhere.pem, key_file: key.pem}\n", Says("nowhere.pem: No such file")),
        ("tls_server_config: {cert_file: cert.pem}\n", Says("one of key and key_file is required")),
        ("tls_server_config: {cert_file: cert.pem, key_file: other.pem}\n", Says("KeyMismatch")),
        ("tls_server_config: {cert_file: garbage.pem, key_file: key.pem}\n", Says("no PEM certificate or key in it")),
        (tls!(", client_auth_type: RequireAndVerifyClientCert, client_ca_file: cert.pem"), Good),
        (tls!(", client_auth_type: RequireAndVerifyClientCert"), Stricter("needs one of client_ca and client_ca_file")),
        (tls!(", client_auth_type: X"), Says("\"X\" is not one of")),
        (tls!(", client_ca_file: cert.pem"), Says("without a client_auth_type")),
        (tls!(", min_version: TLS13"), Good),
        (tls!(", min_version: TLS14"), Says("\"TLS14\" is not one of")),
        (tls!(", min_version: TLS10"), Stricter("TLS below 1.2 is not supported")),
        (tls!(", cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]"), Good),
        (tls!(", cipher_suites: [X]"), Says("\"X\" is not one of")),
        (tls!(", curve_preferences: [CurveP256]"), Good),
        (tls!(", curve_preferences: [X]"), Says("\"X\" is not one of")),
        ("basic_auth_users: {a: $2y$10$qxxXNu9Y7HaECip7V1CRb.qGrZRt3WKOHPwDzywjn2J8asiglI4K2}\n", Good),
        ("basic_auth_users: {a: secret}\n", Says("not a bcrypt hash")),
        ("http_server_config: {http2: true}\n", Good),
        ("http_server_config: {headers: {Strict-Transport-Security: max-age=1}}\n", Good),
        ("http_server_config: {headers: {X-Foo: max-age=1}}\n", Says("unknown field \"X-Foo\"")),
    ];
    check("web-config", &beside, &cases);
}

#[test]
fn service_discovery_ends_as_promtools_does() {
    if !peer("promtool") {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let text = "scrape_configs:\n- job_name: none\n- job_name: broken\n  http_sd_configs: [{url: 'http://127.0.0.1:1/x'}]\n\
                - job_name: file\n  file_sd_configs: [{files: [t.json]}]\n";
    std::fs::write(dir.path().join("x.yml"), text).expect("a writable folder");
    std::fs::write(dir.path().join("t.json"), r#"[{"targets": ["f:1"]}]"#).expect("a writable folder");
    let both = |file: &str, job: &str| {
        let args = ["check", "service-discovery", "--timeout=1s", file, job];
        let ours = run(env!("CARGO_BIN_EXE_promontory"), dir.path(), &args);
        let said = String::from_utf8_lossy(&ours.stderr).into_owned();
        (run("promtool", dir.path(), &args).status.code(), ours.status.code(), said)
    };
    assert_eq!(both("x.yml", "none").1, Some(0));
    assert_eq!(both("x.yml", "none").0, Some(0));
    let (theirs, ours, said) = both("x.yml", "missing");
    assert_eq!((theirs, ours), (Some(1), Some(1)));
    assert!(said.contains("no job \"missing\"; there are none, broken, file"), "{said}");
    let (theirs, ours, said) = both("nowhere.yml", "none");
    assert_eq!((theirs, ours), (Some(1), Some(1)));
    assert!(said.contains("nowhere.yml: read: No such file"), "{said}");
    // promtool tells and ends well, which no script can see.
    let (theirs, ours, said) = both("x.yml", "broken");
    assert_eq!((theirs, ours), (Some(0), Some(1)));
    assert!(said.contains("connection refused"), "{said}");
    // promtool waits for its time to be over, and some of its versions fail then.
    assert_eq!(both("x.yml", "file").1, Some(0));
}
