//! Columns as exporters send them, made from a fixed seed.

/// Values per column: 2 h at 15 s.
pub const ROWS: usize = 480;
/// Columns per kind: enough to leave the nearest cache.
pub const COLUMNS: usize = 240;
/// Buckets of one classic histogram.
pub const BUCKETS: usize = 12;

/// Numbers from a fixed seed (SplitMix64).
pub struct Rng(pub u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Evenly in 0..1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What one kind is called, and how its columns are made. Columns of histograms come in runs of [`BUCKETS`].
pub type Kind = (&'static str, fn(&mut Rng) -> Vec<Vec<f64>>);

pub const KINDS: &[Kind] = &[
    ("constant", |r| each(r, |r| vec![r.below(1 << 20) as f64; ROWS])),
    ("constant float", |r| each(r, |r| vec![r.unit(); ROWS])),
    ("counter", |r| {
        each(r, |r| {
            let rate = 1 + r.below(1000);
            sums(r, |r| rate + r.below(rate / 8 + 2)).map(|v| v as f64).collect()
        })
    }),
    ("counter, slow", |r| {
        each(r, |r| sums(r, |r| u64::from(r.below(25) == 0) * (1 + r.below(3))).map(|v| v as f64).collect())
    }),
    ("counter, bytes", |r| {
        each(r, |r| sums(r, |r| 40 * r.below(1 << 16) + 1400 * r.below(100)).map(|v| v as f64).collect())
    }),
    ("counter, cpu seconds", |r| each(r, |r| sums(r, |r| r.below(1500)).map(|v| v as f64 / 100.0).collect())),
    ("sum of seconds", |r| each(r, sum_of_seconds)),
    ("buckets", |r| histograms(r, 40)),
    ("buckets, busy", |r| histograms(r, 4000)),
    ("gauge, small", |r| each(r, |r| (0..ROWS).map(|_| r.below(12) as f64).collect())),
    ("gauge, pages", |r| each(r, |r| walk(r, 100).map(|v| (v * 4096) as f64).collect())),
    ("gauge, steps", |r| each(r, steps)),
    ("gauge, percent", |r| each(r, |r| (0..ROWS).map(|_| r.below(10_000) as f64 / 100.0).collect())),
    ("gauge, ratio", |r| each(r, |r| (0..ROWS).map(|_| r.below(337) as f64 / 336.0).collect())),
    ("gauge, celsius", |r| each(r, |r| walk(r, 3).map(|v| (v % 400 + 300) as f64 / 10.0).collect())),
    ("time of day", |r| {
        each(r, |r| {
            let start = 1_700_000_000_000 + r.below(1 << 30);
            (0..ROWS as u64).map(|i| (start + i * 15_000 + r.below(7)) as f64 / 1000.0).collect()
        })
    }),
    ("with stale markers", |r| {
        each(r, |r| {
            let stale = f64::from_bits(0x7ff0_0000_0000_0002);
            (0..ROWS).map(|i| if i % 97 == 96 { stale } else { r.below(50) as f64 }).collect()
        })
    }),
    ("rule: rate", |r| each(r, rates)),
    ("rule: ratio", |r| each(r, |r| rates(r).into_iter().map(|v| v / (v + 3.7)).collect())),
    ("float, 0 to 1", |r| each(r, |r| (0..ROWS).map(|_| r.unit()).collect())),
    ("float, -1000 to 1000", |r| each(r, |r| (0..ROWS).map(|_| 2e3 * r.unit() - 1e3).collect())),
    ("any bits", |r| each(r, |r| (0..ROWS).map(|_| f64::from_bits(r.next())).collect())),
];

fn each(r: &mut Rng, mut make: impl FnMut(&mut Rng) -> Vec<f64>) -> Vec<Vec<f64>> {
    (0..COLUMNS).map(|_| make(r)).collect()
}

fn sums(r: &mut Rng, mut step: impl FnMut(&mut Rng) -> u64) -> impl Iterator<Item = u64> {
    let mut at = r.below(1 << 30);
    (0..ROWS).map(move |_| {
        at += step(r);
        at
    })
}

fn walk(r: &mut Rng, width: i64) -> impl Iterator<Item = i64> {
    let mut at = 1i64 << 20;
    (0..ROWS).map(move |_| {
        at += r.below(2 * width as u64 + 1) as i64 - width;
        at
    })
}

/// What a client library adds up: measured durations, in nanoseconds, as floats of seconds.
fn sum_of_seconds(r: &mut Rng) -> Vec<f64> {
    let mut sum = 0.0;
    (0..ROWS)
        .map(|_| {
            (0..r.below(8)).for_each(|_| sum += (1_000_000 + r.below(40_000_000)) as f64 / 1e9);
            sum
        })
        .collect()
}

/// Unchanged for minutes, then something else.
fn steps(r: &mut Rng) -> Vec<f64> {
    let mut at = r.below(1 << 16);
    (0..ROWS)
        .map(|_| {
            if r.below(30) == 0 {
                at = r.below(1 << 16);
            }
            at as f64
        })
        .collect()
}

/// What a rule stores: increase over five minutes by seconds.
fn rates(r: &mut Rng) -> Vec<f64> {
    let counter: Vec<f64> = sums(r, |r| r.below(40)).map(|v| v as f64).collect();
    (0..ROWS).map(|i| (counter[i] - counter[i.saturating_sub(20)]) / 285.0).collect()
}

/// Classic histograms: cumulative buckets, ascending bounds, most observations in the middle.
fn histograms(r: &mut Rng, rate: u64) -> Vec<Vec<f64>> {
    let mut out = Vec::with_capacity(COLUMNS);
    while out.len() < COLUMNS {
        let mut counts = [0u64; BUCKETS];
        let middle = 2 + r.below(BUCKETS as u64 - 4) as i64;
        let mut columns = vec![Vec::new(); BUCKETS];
        for _ in 0..ROWS {
            for _ in 0..r.below(rate) {
                // The sum of three dice is near the middle.
                let at = middle + (r.below(3) + r.below(3) + r.below(3)) as i64 - 3;
                counts[at.clamp(0, BUCKETS as i64 - 1) as usize] += 1;
            }
            let mut sum = 0;
            for (column, count) in columns.iter_mut().zip(counts) {
                sum += count;
                column.push(sum as f64);
            }
        }
        out.append(&mut columns);
    }
    out
}
