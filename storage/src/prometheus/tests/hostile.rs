//! Every file of a block with bytes changed, cut and zeroed: an error or samples, never a panic, and never other
//! samples as long as the damage lies where a sum covers it.

use std::path::Path;

use promontory_model::{Cancel, Columns, Labels, MatchOp, Matcher, ReadError, Select, TimeRange};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::prometheus::file::ignoring_sums;

/// Number of damaged blocks; a long run sets `PROMETHEUS_MUTATIONS`.
fn mutations() -> usize {
    std::env::var("PROMETHEUS_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(3_000)
}

/// Everything that a query could ask of the block.
fn use_all(vfs: &dyn Vfs, path: &Path) -> Result<Series, ReadError> {
    let block = PrometheusBlock::open(vfs, path)?;
    let cancel = Cancel::new();
    let matchers = [Matcher::new("a", MatchOp::Regex, ".+").unwrap()];
    for matchers in [&matchers[..], &[]] {
        let ask = Select { range: TimeRange::ALL, matchers, cancel: &cancel };
        let mut out = Vec::new();
        let _ = block.label_names(&ask, &mut out);
        let _ = block.label_values("a", &ask, 10, &mut out);
    }
    let ask = Select { range: TimeRange::ALL, matchers: &[], cancel: &cancel };
    let source = NamedSource { source: Arc::clone(&block) as _, name: None };
    let found = select::select(&[source], &ask)?;
    let mut columns = Columns::default();
    for batch in &found.batches {
        batch.rows_max(TimeRange::ALL);
        batch.read(0..batch.n_series(), TimeRange::ALL, &mut columns)?;
    }
    Ok(read(&found.batches, TimeRange::ALL))
}

/// Damages blocks and answers how many were refused, read as if whole, and read in another way; `other` judges those:
/// file, samples before, samples now.
fn damage(mut other: impl FnMut(&str, &Series, &Series)) -> [usize; 3] {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = any_series();
    let files = ["meta.json", "index", "chunks/000001", "tombstones"];
    let mut counts = [0; 3];
    let mut n = 0;
    while n < mutations() {
        let series = strategy.new_tree(&mut runner).unwrap().current();
        if series.is_empty() {
            continue;
        }
        let vfs = SimVfs::new();
        let path = write(&vfs, Path::new("out"), Ulid::new(1, 2), &series);
        let whole = files.map(|name| crate::vfs::read(&vfs, &path.join(name)).unwrap());
        for _ in 0..50 {
            let file = [2, 2, 0, 0, 1, 1, 1, 1, 1, 3][n % 10];
            let mut bytes = whole[file].clone();
            let at = (0..bytes.len(), proptest::arbitrary::any::<u8>(), 0u8..4, 1usize..40);
            let (at, byte, kind, len) = at.new_tree(&mut runner).unwrap().current();
            match kind {
                0 => bytes[at] ^= byte.max(1),
                1 => bytes.truncate(at),
                2 => bytes[at..].iter_mut().take(len).for_each(|b| *b = 0),
                _ => bytes.extend(std::iter::repeat_n(byte, len)),
            }
            crate::vfs::replace(&vfs, &path.join(files[file]), &bytes).unwrap();
            match use_all(&vfs, &path) {
                Err(_) => counts[0] += 1,
                Ok(found) if found == series => counts[1] += 1,
                Ok(found) => {
                    counts[2] += 1;
                    other(files[file], &series, &found);
                }
            }
            crate::vfs::replace(&vfs, &path.join(files[file]), &whole[file]).unwrap();
            n += 1;
        }
    }
    counts
}

#[test]
fn damaged_blocks_never_panic_and_never_lie() {
    let counts = damage(|file, series, found| {
        // The meta file has no sum: another time there hides samples. Gaps between sections have none either.
        let is_part = found.iter().all(|(labels, samples)| {
            let known: Option<&(Labels, _)> = series.iter().find(|s| s.0 == *labels);
            known.is_some_and(|(_, all)| samples.iter().all(|s| all.contains(s)))
        });
        assert!(is_part, "{file}");
    });
    println!("refused, read as whole, read in part: {counts:?}");
    assert!(counts[0] > counts[1] && counts[1] > counts[2], "{counts:?}");
}

/// Whoever wants to do harm makes the sums right.
#[test]
fn bytes_with_the_right_sums_never_panic() {
    let counts = ignoring_sums(|| damage(|_, _, _| {}));
    println!("refused, read as whole, read otherwise: {counts:?}");
    assert!(counts.iter().all(|n| *n > 0), "{counts:?}");
}
