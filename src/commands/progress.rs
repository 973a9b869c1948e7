//! How far long work has come, on standard error: a bar on a terminal, else a line now and then; nothing for what
//! takes less than a second. And the end of such work on Ctrl-C.

use std::io::{IsTerminal as _, Write as _};

use promontory_model::{Cancel, Cancelled};
use promontory_storage::clock::{Clock as _, SystemClock};

/// Work this short is not shown.
const QUIET_NS: u64 = 1_000_000_000;
/// Time between two drawings of the bar.
const DRAW_NS: u64 = 100_000_000;
/// Time between two lines where there is no terminal.
const LINE_NS: u64 = 10_000_000_000;
const BAR_COLUMNS: usize = 30;

/// Shows one piece of work until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    clock: SystemClock,
    next_ns: u64,
    is_terminal: bool,
    is_drawn: bool,
}

impl Progress {
    pub(crate) fn new(what: &'static str) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let next_ns = if is_terminal { QUIET_NS } else { LINE_NS };
        Self { what, clock: SystemClock::new(), next_ns, is_terminal, is_drawn: false }
    }

    /// Seconds since the work began.
    pub(crate) fn seconds(&self) -> f64 {
        self.clock.monotonic_ns() as f64 / 1e9
    }

    /// Says that the part `done` of the work, between 0 and 1, is behind; `detail` says it in other words. Cheap when
    /// nothing is due.
    pub(crate) fn report(&mut self, done: f64, detail: impl FnOnce() -> String) {
        let now = self.clock.monotonic_ns();
        if now < self.next_ns {
            return;
        }
        self.next_ns = now + if self.is_terminal { DRAW_NS } else { LINE_NS };
        let text = line(self.what, done, now as f64 / 1e9, &detail());
        let mut stderr = std::io::stderr().lock();
        // Nobody to show it to is no reason to stop.
        let _ = if self.is_terminal {
            self.is_drawn = true;
            write!(stderr, "\r\x1b[K{} {text}", bar(done))
        } else {
            writeln!(stderr, "{text}")
        };
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_drawn {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn bar(done: f64) -> String {
    let filled = (done.clamp(0.0, 1.0) * BAR_COLUMNS as f64) as usize;
    format!("[{}{}]", "#".repeat(filled), "-".repeat(BAR_COLUMNS - filled))
}

fn line(what: &str, done: f64, seconds: f64, detail: &str) -> String {
    let done = done.clamp(0.0, 1.0);
    let left = if done > 0.01 { format!(", {} left", duration(seconds / done - seconds)) } else { String::new() };
    let detail = if detail.is_empty() { String::new() } else { format!(", {detail}") };
    format!("{what} {:.0} %{detail}{left}", done * 100.0)
}

fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} m {s} s"),
        (h, m, _) => format!("{h} h {m} m"),
    }
}

/// Sets `cancel` on Ctrl-C and SIGTERM, so that the work ends in order; a second one ends the process at once.
pub(crate) fn stop_on_signals(cancel: &Cancel) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let cancel = cancel.clone();
    let wait = async move {
        let mut is_asked = false;
        loop {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            if is_asked {
                std::process::exit(130);
            }
            is_asked = true;
            cancel.cancel(Cancelled::ByUser);
        }
    };
    // Ends with the process.
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(wait))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_much_is_done_and_left() {
        assert_eq!(line("import", 0.25, 30.0, "5 samples"), "import 25 %, 5 samples, 1 m 30 s left");
        assert_eq!(line("import", 0.0, 30.0, ""), "import 0 %");
        assert_eq!(bar(0.5), format!("[{}{}]", "#".repeat(15), "-".repeat(15)));
        assert_eq!(duration(7260.0), "2 h 1 m");
    }
}
