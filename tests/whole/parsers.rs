//! The parsers of expositions beside those of PyPI's `prometheus_client`: on pages of its own, on recorded pages of
//! exporters and on pages written by hand, which are in `tests/expositions`. What both refuse is refused at its line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use promontory::scrape::exposition::{Format, Item, Pair, ParseError, Parser, exemplar_at};
use promontory_model::MetricType;
use serde_json::{Value, json};

/// Version of the package whose parsers are asked.
const PACKAGE: &str = "prometheus_client==0.26.0";
/// Lines of a page that are broken, one at a time.
const BROKEN_LINES_MAX: usize = 12;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expositions")
}

/// The pages of `folder`, sorted.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut pages: Vec<_> = entries.map(|e| e.expect("the folder is readable").path()).collect();
    pages.retain(|path| path.extension().is_some_and(|e| e == "txt" || e == "om"));
    pages.sort();
    pages
}

fn format_of(page: &Path) -> Format {
    if page.extension().is_some_and(|e| e == "om") { Format::OpenMetrics } else { Format::Text }
}

/// A Python that has the package; it is installed on the first use. Says loudly when a test is skipped for want of it.
fn python() -> Option<PathBuf> {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join(PACKAGE.replace("==", "-"));
    let python = environment.join("bin/python");
    let run = |program: &Path, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let has_package = || run(&python, &["-c", "import prometheus_client"]);
    let install = || {
        let path = environment.to_string_lossy();
        run(Path::new("python3"), &["-m", "venv", &path])
            && run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE])
    };
    if has_package() || (install() && has_package()) {
        return Some(python);
    }
    assert!(std::env::var_os("PEERS_REQUIRED").is_none(), "{PACKAGE} cannot be had, and PEERS_REQUIRED is set");
    eprintln!("SKIPPED: {PACKAGE} cannot be had: python3 with venv is missing, or PyPI is out of reach");
    None
}

/// What Python's parsers read of `pages` and of pages of their own, which are written into `scratch`: by file a list
/// of samples, or `None` where it is refused.
fn theirs(python: &Path, scratch: &Path, pages: &[PathBuf]) -> BTreeMap<PathBuf, Option<Vec<Value>>> {
    let output = Command::new(python).arg(folder().join("parse.py")).arg(scratch).args(pages).output();
    let output = output.expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let read = |line: &str| {
        let page: Value = serde_json::from_str(line).expect("a line is JSON");
        (PathBuf::from(page["file"].as_str().expect("a file")), page["samples"].as_array().cloned())
    };
    lines.lines().map(read).collect()
}

fn bits(value: f64) -> String {
    let value = if value.is_nan() { f64::NAN } else { value };
    format!("{:016x}", value.to_bits())
}

fn labels(pairs: &[Pair<'_>]) -> Value {
    let mut pairs: Vec<_> = pairs.iter().map(|(name, value)| [name.as_ref(), value.as_ref()]).collect();
    pairs.sort_unstable();
    json!(pairs)
}

/// What we read, in the form that `parse.py` prints.
fn ours(body: &[u8], format: Format) -> Result<Vec<Value>, ParseError> {
    let mut parser = Parser::new(body, format);
    let mut samples = Vec::new();
    loop {
        match parser.next_item()? {
            Item::End => return Ok(samples),
            Item::Metadata { .. } => {}
            Item::Sample { tail, .. } => {
                let (name, rest) = parser.labels().split_first().expect("a sample has a name");
                let exemplar = tail.exemplar.map(|at| {
                    let e = exemplar_at(body, at).expect("an exemplar that was read");
                    json!([labels(&e.labels), bits(e.value), e.timestamp_ms])
                });
                let mut name = name.1.clone().into_owned();
                // So Python calls counters of the text format.
                if format == Format::Text && parser.kind() == MetricType::Counter && !name.ends_with("_total") {
                    name.push_str("_total");
                }
                samples.push(json!([name, labels(rest), bits(tail.value), tail.timestamp_ms, exemplar]));
            }
        }
    }
}

#[test]
fn pages_are_read_as_by_the_client_library_of_python() {
    let Some(python) = python() else { return };
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let given = pages(&folder());
    assert!(given.len() >= 24, "only {} pages in {}", given.len(), folder().display());
    let (mut n_pages, mut n_samples, mut differing) = (0, 0, Vec::new());
    for (page, theirs) in theirs(&python, scratch.path(), &given) {
        let body = fs::read(&page).expect("the page is readable");
        let ours = ours(&body, format_of(&page)).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
        let theirs = theirs.unwrap_or_else(|| panic!("{} is refused by {PACKAGE}", page.display()));
        let sorted = |samples: Vec<Value>| {
            let mut lines: Vec<_> = samples.iter().map(Value::to_string).collect();
            lines.sort_unstable();
            lines
        };
        let (ours, theirs) = (sorted(ours), sorted(theirs));
        n_pages += 1;
        n_samples += ours.len();
        let name = page.file_name().unwrap_or_default().to_string_lossy().into_owned();
        differing.extend(theirs.iter().filter(|t| !ours.contains(t)).map(|t| format!("{name}: python {t}")));
        differing.extend(ours.iter().filter(|o| !theirs.contains(o)).map(|o| format!("{name}: ours {o}")));
        assert!(ours.len() == theirs.len() || !differing.is_empty(), "{name}: a sample is repeated");
    }
    eprintln!("{n_pages} pages with {n_samples} samples are read alike");
    assert!(differing.is_empty(), "{}", differing[..differing.len().min(20)].join("\n"));
}

/// A page with one line broken, and the number of that line, from 1.
struct Broken {
    body: String,
    line: usize,
    /// Whether Python's parsers refuse it as well.
    is_refused_by_all: bool,
}

/// Each of some sample lines of `page` broken in each of a few ways.
fn broken(page: &Path) -> Vec<Broken> {
    let text = fs::read_to_string(page).expect("a page is text");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let is_sample = |line: &str| !line.trim_start().is_empty() && !line.trim_start().starts_with('#');
    let samples: Vec<usize> = (0..lines.len()).filter(|i| is_sample(lines[*i])).collect();
    let step = samples.len().div_ceil(BROKEN_LINES_MAX).max(1);
    let mut out = Vec::new();
    for &i in samples.iter().step_by(step) {
        let (line, end) = lines[i].strip_suffix('\n').map_or((lines[i], ""), |line| (line, "\n"));
        let cut = line.rfind([' ', '\t']).expect("a value follows a blank");
        // Python takes any name, and passes over what follows the timestamp.
        let mut ways = vec![(format!("%{line}"), false), (format!("{}1x", &line[..=cut]), true)];
        if !line.contains(" # ") {
            ways.push((format!("{line} 1 2 3"), false));
        }
        if line.contains("=\"") {
            ways.push((line.replacen("=\"", "=", 1), true));
            // Python takes the first of them.
            ways.push((line.replacen("=\"", "=\"x\",=\"", 1), false));
        }
        for (broken, is_refused_by_all) in ways {
            let body = [&lines[..i].concat(), &broken, end, &lines[i + 1..].concat()].concat();
            out.push(Broken { body, line: i + 1, is_refused_by_all });
        }
    }
    out
}

#[test]
fn broken_lines_are_refused_where_they_are() {
    let mut n = 0;
    for page in pages(&folder()) {
        for broken in broken(&page) {
            let error = ours(broken.body.as_bytes(), format_of(&page)).expect_err("a broken line is refused");
            let place = format!("at line {}, column ", broken.line);
            assert!(error.to_string().contains(&place), "{}: {error}, expected {place}", page.display());
            n += 1;
        }
    }
    eprintln!("{n} broken lines refused where they are");
}

#[test]
fn broken_pages_are_refused_by_the_client_library_of_python_too() {
    let Some(python) = python() else { return };
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let mut written = Vec::new();
    for page in pages(&folder()) {
        let ending = page.extension().unwrap_or_default().to_string_lossy().into_owned();
        for broken in broken(&page).into_iter().filter(|b| b.is_refused_by_all) {
            let file = scratch.path().join(format!("bad_{}.{ending}", written.len()));
            fs::write(&file, &broken.body).expect("a writable folder");
            written.push(file);
        }
    }
    let theirs = theirs(&python, scratch.path(), &written);
    for file in written {
        assert!(theirs[&file].is_none(), "python takes what we refuse: {}", fs::read_to_string(&file).unwrap());
    }
}
