//! Test vectors that lie outside the repository.

/// The vectors of this name, or `None` (said aloud) when they are not there.
pub(crate) fn read(name: &str) -> Option<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/dashboards/oracle/");
    let alternative = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/dashboards/oracle/");
    let text = std::fs::read_to_string(format!("{path}{name}"))
        .or_else(|_| std::fs::read_to_string(format!("{alternative}{name}")));
    if text.is_err() {
        eprintln!("SKIPPED: {path}{name} is absent");
    }
    text.ok()
}
