//! `promontory tsdb verify`: every checksum and invariant of every file.

use std::io::Write;

use promontory_model::Cancel;
use promontory_storage::block;
use promontory_storage::offline;
use promontory_storage::vfs::RealVfs;

use super::{TsdbError, count};
use crate::cli::VerifyArgs;
use crate::commands::progress::Progress;

pub(super) fn run(args: &VerifyArgs, out: &mut dyn Write, cancel: &Cancel) -> Result<bool, TsdbError> {
    let (mut good, mut bad) = (0_u64, 0_u64);
    let mut progress = Progress::new("verify");
    let listed = block::list(&RealVfs, &offline::blocks_folder(&args.path))?;
    let n = listed.len().max(1) as f64;
    for (i, listed) in listed.into_iter().enumerate() {
        cancel.check()?;
        progress.report(i as f64 / n, || listed.ulid.to_string());
        match block::verify(&RealVfs, &listed.path) {
            Ok(report) => {
                good += 1;
                let meta = report.meta;
                let (series, samples) = (count(meta.n_series), count(meta.n_samples));
                writeln!(out, "{}: ok, {series} series, {samples} samples", meta.ulid)?;
            }
            Err(error) => {
                bad += 1;
                writeln!(out, "{}: {error}", listed.ulid)?;
            }
        }
    }
    writeln!(out, "{good} good, {bad} damaged")?;
    Ok(bad == 0)
}
