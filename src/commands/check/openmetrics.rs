//! `promontory check metrics --strict`: whether an exposition is OpenMetrics 1.0 to the letter.
//!
//! A scrape takes what can be understood, as Prometheus does; this names each line that breaks a rule, be it one of
//! spelling, of the order in which lines stand, or of what a type allows.
//!
//! # Source
//! <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>

mod family;
mod line;

use std::collections::HashMap;
use std::io::{self, Write};

use family::Family;
use line::{Kind, Line, Sample};

/// Faults that are printed; of more only their number is.
const FAULTS_MAX: usize = 100;

/// A line, from 1, and what is wrong with it.
#[derive(Debug, PartialEq)]
struct Fault {
    line: usize,
    text: String,
}

/// Checks an exposition in OpenMetrics text and writes a line per fault, or what there is.
///
/// # Errors
/// When the report cannot be written.
pub fn check_openmetrics(body: &[u8], out: &mut dyn Write) -> io::Result<bool> {
    let mut page = Page::default();
    page.read(body);
    page.faults.sort_by_key(|fault| fault.line);
    for fault in page.faults.iter().take(FAULTS_MAX) {
        writeln!(out, "line {}: {}", fault.line, fault.text)?;
    }
    if let Some(more) = page.faults.len().checked_sub(FAULTS_MAX).filter(|more| *more > 0) {
        writeln!(out, "and {more} more")?;
    }
    if page.faults.is_empty() {
        writeln!(out, "ok: families {}, samples {}", page.n_families, page.n_samples)?;
    }
    Ok(page.faults.is_empty())
}

/// A family that was before.
#[derive(Debug, Clone, Copy)]
struct Owner<'a> {
    family: &'a str,
    kind: Kind,
    /// Its first line.
    line: usize,
}

/// What has been read of an exposition.
#[derive(Debug, Default)]
struct Page<'a> {
    /// Names that families have taken for their samples and themselves, and by which.
    names: HashMap<String, Owner<'a>>,
    family: Option<Family<'a>>,
    n_families: usize,
    n_samples: usize,
    faults: Vec<Fault>,
}

impl<'a> Page<'a> {
    fn read(&mut self, body: &'a [u8]) {
        let body = body.strip_suffix(b"\n").unwrap_or(body);
        let mut eof = None;
        let mut n_lines = 0;
        for (i, bytes) in body.split(|b| *b == b'\n').enumerate() {
            n_lines = i + 1;
            if let Some(eof) = eof {
                self.fault(n_lines, format!("`# EOF` is in line {eof}; nothing may follow"));
                break;
            }
            let Ok(text) = std::str::from_utf8(bytes) else {
                self.fault(n_lines, "not UTF-8".to_owned());
                continue;
            };
            match line::read(text) {
                Ok(Line::Eof) => eof = Some(n_lines),
                Ok(line) => self.take(n_lines, line),
                Err(text) => self.fault(n_lines, text),
            }
        }
        self.finish();
        if eof.is_none() {
            self.fault(n_lines, "the last line is not `# EOF`; the exposition may be cut off".to_owned());
        }
    }

    fn fault(&mut self, line: usize, text: String) {
        self.faults.push(Fault { line, text });
    }

    fn take(&mut self, number: usize, line: Line<'a>) {
        let result = match line {
            Line::Sample(sample) => self.sample(number, &sample),
            Line::Type { family, kind } => self.family(number, family).set_kind(kind),
            Line::Help { family } => self.family(number, family).set_help(),
            Line::Unit { family, unit } => self.family(number, family).set_unit(unit),
            Line::Eof => Ok(()),
        };
        if let Err(text) = result {
            self.fault(number, text);
        }
    }

    /// The family `name`, which begins at this line if it is not the one of the lines before.
    fn family(&mut self, number: usize, name: &'a str) -> &mut Family<'a> {
        if self.family.as_ref().is_none_or(|family| family.name != name) {
            self.finish();
        }
        self.family.get_or_insert_with(|| Family::new(name, number))
    }

    fn sample(&mut self, number: usize, sample: &Sample<'a>) -> Result<(), String> {
        self.n_samples += 1;
        let name = sample.name;
        if self.family.as_ref().is_none_or(|family| family.suffix_of(name).is_none()) {
            self.finish();
        }
        let (family, faults) = (self.family.get_or_insert_with(|| Family::new(name, number)), &mut self.faults);
        family.sample(number, sample, &mut |line, text| faults.push(Fault { line, text }))
    }

    /// Ends the family of the lines before.
    fn finish(&mut self) {
        let Some(mut family) = self.family.take() else { return };
        self.n_families += 1;
        let faults = &mut self.faults;
        family.finish(&mut |line, text| faults.push(Fault { line, text }));
        let taken = family.names().find_map(|name| Some((*self.names.get(&name)?, name)));
        if let Some((owner, name)) = taken {
            let text = clash(&family, &name, owner);
            self.fault(family.line, text);
        }
        let owner = Owner { family: family.name, kind: family.kind(), line: family.line };
        for name in family.names() {
            self.names.entry(name).or_insert(owner);
        }
    }
}

/// Why `family` cannot have the name `name`, which `owner` has.
fn clash(family: &Family<'_>, name: &str, owner: Owner<'_>) -> String {
    let Owner { family: other, kind, line } = owner;
    if other != family.name {
        return format!("the name `{name}` belongs to the family `{other}` of line {line}, and to `{}`", family.name);
    }
    if family.is_only_samples() && !kind.suffixes().contains(&"") {
        let names: Vec<_> = kind.suffixes().iter().map(|suffix| format!("`{other}{suffix}`")).collect();
        let (kind, names) = (kind.name(), names.join(", "));
        return format!("`{name}` is no sample of the {kind} `{other}` of line {line}, which has {names}");
    }
    format!("the family `{other}` began in line {line}; its lines must stand together")
}

#[cfg(test)]
mod tests;
