//! `promontory tsdb repair`: puts aside what is damaged, keeps what can be read.

use std::io::Write;
use std::sync::Arc;

use promontory_model::Cancel;
use promontory_storage::clock::{Clock, SystemClock};
use promontory_storage::offline;

use super::{TsdbError, count, utc};
use crate::cli::RepairArgs;
use crate::commands::progress::Progress;

pub(super) fn run(args: &RepairArgs, out: &mut dyn Write, cancel: &Cancel) -> Result<bool, TsdbError> {
    let mut progress = Progress::new("repair");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut report = |done: f64| progress.report(done, String::new);
    let done = offline::repair(&clock, &args.path, args.dry_run, &mut report, cancel)?;
    drop(progress);
    for damage in &done.damages {
        writeln!(out, "damaged: {damage}")?;
    }
    for (range, why) in &done.lost {
        writeln!(out, "lost: samples from {} to {}: {why}", utc(range.mint.ms()), utc(range.maxt.ms()))?;
    }
    let moved = if args.dry_run { "to be moved" } else { "moved" };
    for (from, to) in &done.moved {
        writeln!(out, "{moved}: {} to {}", from.display(), to.display())?;
    }
    if let Some(block) = &done.rescued {
        writeln!(out, "rescued: {} samples of the head, in block {}", count(block.n_samples), block.ulid)?;
    }
    if done.torn_bytes > 0 {
        let cut = if args.dry_run { "to be cut" } else { "cut" };
        writeln!(out, "{cut}: {} bytes behind the last whole record, as a crash leaves them", count(done.torn_bytes))?;
    }
    if done.damages.is_empty() && done.moved.is_empty() {
        writeln!(out, "nothing is damaged")?;
    }
    Ok(true)
}
