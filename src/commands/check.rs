//! `promontory check …` but for dashboards.

use std::io::Write;
use std::path::PathBuf;

use promontory_config::rules;

use super::{CommandError, plural};
use crate::web_config::WebGuard;

mod discovery;
mod files;
mod metrics;
mod openmetrics;

pub use discovery::check_service_discovery;
pub use metrics::{Checked, check_metrics};
pub use openmetrics::check_openmetrics;

/// Checks configuration files, and those that they name; prints all errors of each.
///
/// # Errors
/// [`CommandError::Report`].
pub fn check_config(files: &[PathBuf], out: &mut dyn Write) -> Result<bool, CommandError> {
    let mut all_good = true;
    for file in files {
        let config = match promontory_config::load(file) {
            Ok(config) => config,
            Err(errors) => {
                all_good = false;
                eprintln!("{errors}");
                continue;
            }
        };
        let named = files::Report::of(&config);
        for warning in config.warnings.iter().chain(&named.warnings) {
            eprintln!("{}: warning: {warning}", file.display());
        }
        for error in &named.errors {
            all_good = false;
            eprintln!("{}: {error}", file.display());
        }
        if named.errors.is_empty() {
            let n_jobs = config.scrape_configs.len();
            writeln!(out, "{}: ok, {n_jobs} scrape {}", file.display(), plural(n_jobs, "job"))?;
        }
    }
    Ok(all_good)
}

/// Checks files of `--web.config.file`, certificates and keys included; prints a line for each that is right, or all
/// that is wrong with it.
///
/// # Errors
/// [`CommandError::Report`].
pub fn check_web_config(files: &[PathBuf], out: &mut dyn Write) -> Result<bool, CommandError> {
    let mut all_good = true;
    for file in files {
        match WebGuard::open(file) {
            Ok(guard) => {
                let tls = if guard.is_tls() { "with TLS" } else { "without TLS" };
                let users = if guard.has_users() { "with users" } else { "without users" };
                writeln!(out, "{}: ok, {tls}, {users}", file.display())?;
            }
            Err(error) => {
                all_good = false;
                eprintln!("{error}");
            }
        }
    }
    Ok(all_good)
}

/// Checks rule files; prints how many rules each has, or all that is wrong with it.
///
/// # Errors
/// [`CommandError::Report`].
pub fn check_rules(files: &[PathBuf], out: &mut dyn Write) -> Result<bool, CommandError> {
    let mut all_good = true;
    for file in files {
        match rules::load(file) {
            Ok(groups) => {
                let n: usize = groups.iter().map(|g| g.rules.len()).sum();
                writeln!(out, "{}: ok, {n} {}", file.display(), plural(n, "rule"))?;
                let twice = rules::duplicates(&groups);
                all_good &= twice.is_empty();
                for rule in twice {
                    writeln!(out, "{}: {rule} is there more than once", file.display())?;
                }
            }
            Err(errors) => {
                all_good = false;
                eprintln!("{errors}");
            }
        }
    }
    Ok(all_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_checked_with_what_they_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("prometheus.yml");
        let check = |fields: &str| {
            std::fs::write(&file, format!("scrape_configs:\n- job_name: a\n{fields}")).unwrap();
            let mut out = Vec::new();
            let is_good = check_config(std::slice::from_ref(&file), &mut out).unwrap();
            assert_eq!(!out.is_empty(), is_good, "{fields}");
            is_good
        };
        assert!(check(""));
        for field in ["authorization: {credentials_file: c}", "tls_config: {cert_file: c, key: k}"] {
            let fields = format!("  {field}\n");
            assert!(!check(&fields), "{field}");
            std::fs::write(dir.path().join("c"), "x").unwrap();
            assert!(check(&fields), "{field}");
            std::fs::remove_file(dir.path().join("c")).unwrap();
        }
        // These may come later.
        assert!(check("  basic_auth: {username: u, password_file: p}\n  tls_config: {ca_file: c}\n"));
        let targets = "  file_sd_configs: [{files: ['*.json']}]\n";
        assert!(check(targets));
        std::fs::write(dir.path().join("a.json"), "[]").unwrap();
        assert!(check(targets));
        std::fs::write(dir.path().join("b.json"), "[{\"targets\": 1}]").unwrap();
        assert!(!check(targets));
        assert!(!check_config(&[dir.path().join("missing.yml")], &mut Vec::new()).unwrap());
    }

    #[test]
    fn rules_are_counted_and_twins_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rules.yml");
        let rule = "  - record: a\n    expr: up\n";
        std::fs::write(&file, format!("groups:\n- name: g\n  rules:\n{rule}")).unwrap();
        let mut out = Vec::new();
        assert!(check_rules(std::slice::from_ref(&file), &mut out).unwrap());
        assert_eq!(String::from_utf8(out).unwrap(), format!("{}: ok, 1 rule\n", file.display()));
        std::fs::write(&file, format!("groups:\n- name: g\n  rules:\n{rule}{rule}")).unwrap();
        let mut out = Vec::new();
        assert!(!check_rules(std::slice::from_ref(&file), &mut out).unwrap());
        assert!(String::from_utf8(out).unwrap().ends_with("a{} is there more than once\n"));
        assert!(!check_rules(&[dir.path().join("missing.yml")], &mut Vec::new()).unwrap());
    }

    #[test]
    fn files_of_pages_are_checked_with_what_they_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("web.yml");
        let check = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let mut out = Vec::new();
            let is_good = check_web_config(std::slice::from_ref(&file), &mut out).unwrap();
            (is_good, String::from_utf8(out).unwrap())
        };
        let shown = file.display();
        assert_eq!(check(""), (true, format!("{shown}: ok, without TLS, without users\n")));
        let user = "basic_auth_users:\n  a: $2b$10$qxxXNu9Y7HaECip7V1CRb.qGrZRt3WKOHPwDzywjn2J8asiglI4K2\n";
        assert_eq!(check(user), (true, format!("{shown}: ok, without TLS, with users\n")));
        let missing = "tls_server_config:\n  cert_file: missing.pem\n  key_file: missing.pem\n";
        assert_eq!(check(missing), (false, String::new()));
        assert_eq!(check("unknown: 1\n"), (false, String::new()));
    }

    #[test]
    fn shells_and_man_pages_know_all_commands() {
        let mut out = Vec::new();
        crate::commands::completions(clap_complete::Shell::Bash, &mut out);
        assert!(String::from_utf8(out).unwrap().contains("--web.enable-otlp-receiver"));
        let dir = tempfile::tempdir().unwrap();
        crate::commands::man(Some(dir.path()), &mut Vec::new()).unwrap();
        assert!(dir.path().join("promontory-query-range.1").is_file());
        let mut out = Vec::new();
        crate::commands::man(None, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("promontory"));
    }
}
