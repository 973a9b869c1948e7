//! `promontory check …` beyond configuration and dashboards.

use std::io::Write;
use std::path::PathBuf;

use promontory_config::rules;

use super::{CommandError, plural};

mod metrics;

pub use metrics::{Checked, check_metrics};

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
