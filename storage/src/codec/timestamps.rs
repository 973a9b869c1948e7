//! Columns of strictly ascending times: a scrape loop keeps its stride, so a line and small distances from it.

use super::coded::Behind;
use super::ints::{self, Form};
use super::pack::{self, BLOCK, Numbers};
use super::{CodecError, finish};
use crate::wire::{Reader, put_zigzag, unzigzag, zigzag};

/// Exactly on the line: first and stride.
const LINE: u8 = 0;
/// First, stride, least distance from the line, then distances to that: jitter around a fixed schedule.
const AROUND_LINE: u8 = 1;
/// First, stride, then zigzag distances of the steps from the stride: a schedule that drifts.
const STEPS: u8 = 2;

/// Appends `timestamps`, which ascend strictly. Nothing is written for no timestamps.
///
/// A column that keeps its stride takes about ten bytes whatever its length.
pub fn encode_timestamps(timestamps: &[i64], out: &mut Vec<u8>) {
    debug_assert!(timestamps.windows(2).all(|w| w[0] < w[1]), "timestamps must ascend strictly");
    let Some(&first) = timestamps.first() else {
        return;
    };
    let mut steps: Vec<i64> = timestamps.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
    let middle = steps.len() / 2;
    let stride = if steps.is_empty() { 0 } else { *steps.clone().select_nth_unstable(middle).1 };
    let on_line = steps.iter().all(|s| *s == stride);
    if on_line {
        out.push(LINE);
        put_zigzag(out, first);
        put_zigzag(out, stride);
        return;
    }
    let cost = |z: &[u64]| z.chunks(BLOCK).map(pack::cost_bits).sum::<u64>();
    // The median stride survives missed scrapes, the mean one survives jitter.
    let last = timestamps[timestamps.len() - 1];
    let mean = last.wrapping_sub(first).wrapping_div(steps.len() as i64);
    let (line, least, around) = [stride, mean]
        .map(|line| around_line(timestamps, line))
        .into_iter()
        .min_by_key(|(_, _, z)| cost(z))
        .expect("two candidates");
    steps.iter_mut().for_each(|s| *s = s.wrapping_sub(stride));
    let steps: Vec<u64> = steps.iter().map(|s| zigzag(*s)).collect();
    let is_around = cost(&around) <= cost(&steps);
    out.push(if is_around { AROUND_LINE } else { STEPS });
    put_zigzag(out, first);
    if is_around {
        put_zigzag(out, line);
        put_zigzag(out, least);
        pack::put(&around, Behind::Nothing, out);
    } else {
        put_zigzag(out, stride);
        pack::put(&steps, Behind::Nothing, out);
    }
}

/// The stride, the least distance from the line with this stride through the first time, and all distances to that.
fn around_line(timestamps: &[i64], stride: i64) -> (i64, i64, Vec<u64>) {
    let mut line = timestamps[0];
    let mut distances = Vec::with_capacity(timestamps.len());
    for t in timestamps {
        distances.push(t.wrapping_sub(line));
        line = line.wrapping_add(stride);
    }
    let least = distances.iter().copied().min().unwrap_or(0);
    (stride, least, distances.into_iter().map(|d| d.wrapping_sub(least) as u64).collect())
}

/// Appends `n` timestamps to `out`; `bytes` must hold exactly these.
///
/// # Errors
/// [`CodecError`] when the bytes are not what [`encode_timestamps`] writes, or the times do not ascend. `out` may then
/// hold some of the times.
pub fn decode_timestamps(bytes: &[u8], n: usize, out: &mut Vec<i64>) -> Result<(), CodecError> {
    let mut c = Reader::new(bytes);
    if n == 0 {
        return finish(&c);
    }
    let start = out.len();
    match c.u8()? {
        LINE => ints::each_ints(Form::Linear, false, &mut c, n, |t| out.extend_from_slice(t))?,
        AROUND_LINE => {
            let (first, stride, least) = (c.zigzag()?, c.zigzag()?, c.zigzag()?);
            let mut line = first.wrapping_add(least);
            let mut z = [0; BLOCK];
            let mut numbers = Numbers::new(&mut c, n);
            while numbers.next_len() > 0 {
                let len = numbers.wide(&mut z)?;
                out.extend(z[..len].iter().map(|z| {
                    let t = line.wrapping_add(*z as i64);
                    line = line.wrapping_add(stride);
                    t
                }));
            }
        }
        STEPS => {
            let (first, stride) = (c.zigzag()?, c.zigzag()?);
            let mut at = first;
            out.push(at);
            let mut z = [0; BLOCK];
            let mut numbers = Numbers::new(&mut c, n - 1);
            while numbers.next_len() > 0 {
                let len = numbers.wide(&mut z)?;
                out.extend(z[..len].iter().map(|z| {
                    at = at.wrapping_add(stride).wrapping_add(unzigzag(*z));
                    at
                }));
            }
        }
        _ => return Err(CodecError { at: 0, what: "form of a timestamp column" }),
    }
    finish(&c)?;
    if out[start..].windows(2).all(|w| w[0] < w[1]) {
        Ok(())
    } else {
        Err(CodecError { at: 0, what: "order of timestamps" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(timestamps: &[i64], bytes_max: usize) {
        let mut out = Vec::new();
        encode_timestamps(timestamps, &mut out);
        assert!(out.len() <= bytes_max, "{} bytes", out.len());
        let mut got = Vec::new();
        decode_timestamps(&out, timestamps.len(), &mut got).unwrap();
        assert_eq!(got, timestamps);
    }

    const NOW: i64 = 1_700_000_000_000;

    #[test]
    fn steady_schedules_take_almost_nothing() {
        check(&[], 0);
        check(&[NOW], 8);
        check(&(0..480).map(|i| NOW + i * 15_000).collect::<Vec<_>>(), 12);
        let one_late: Vec<i64> = (0..480).map(|i| NOW + i * 15_000 + if i == 77 { 40 } else { 0 }).collect();
        check(&one_late, 24);
        let one_missed: Vec<i64> = (0..480).map(|i| NOW + (i + i64::from(i > 200)) * 15_000).collect();
        check(&one_missed, 24);
        let jitter: Vec<i64> = (0..480).map(|i| NOW + i * 15_000 + (i * 7919) % 4).collect();
        check(&jitter, 140);
        check(&[i64::MIN, -1, 0, i64::MAX], 64);
    }

    #[test]
    fn times_that_do_not_ascend_are_refused() {
        let mut out = vec![LINE];
        put_zigzag(&mut out, 5);
        put_zigzag(&mut out, 0);
        let mut got = Vec::new();
        assert!(decode_timestamps(&out, 2, &mut got).is_err());
        assert!(decode_timestamps(&out, 1, &mut got).is_ok());
    }

    proptest! {
        #[test]
        fn any_ascending_times_round_trip(times in proptest::collection::btree_set(any::<i64>(), 0..300)) {
            check(&times.into_iter().collect::<Vec<_>>(), usize::MAX);
        }

        #[test]
        fn schedules_with_jitter_and_gaps_round_trip(steps in proptest::collection::vec((1i64..20_000, 0u8..20), 0..400)) {
            let mut t = NOW;
            let times: Vec<i64> = steps.iter().map(|(s, rare)| { t += if *rare == 0 { *s } else { 15_000 }; t }).collect();
            check(&times, usize::MAX);
        }

        #[test]
        fn hostile_bytes_never_panic_nor_exceed(bytes in proptest::collection::vec(any::<u8>(), 0..64), n in 0usize..300) {
            let mut got = Vec::new();
            let _ = decode_timestamps(&bytes, n, &mut got);
            prop_assert!(got.len() <= n);
        }
    }
}
