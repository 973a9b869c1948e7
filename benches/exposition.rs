//! How fast expositions are read: bytes per second of 1,000 series, 40 % of them histogram buckets, about 100 bytes a
//! line, as model servers and GPU exporters write them.
//!
//! `parser` reads every line in full; `hit` is the line cache with the lines where they were and all values changed,
//! which is what nearly every scrape is; `moved` has them in the opposite order, found by hash; `miss` is the first
//! scrape of a target. Divide by 1,000 for the time per sample. Run with `cargo bench --bench exposition`.

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use promontory::scrape::exposition::{Format, Item, Parser};
use promontory::scrape::line_cache::{Batch, LineCache, LineRules, SeriesTable};
use promontory::scrape::metadata::Families;
use promontory::scrape::sample_labels::SampleLabels;
use promontory_model::Labels;

const N_SERIES: usize = 1_000;

/// Hands out numbers.
#[derive(Default)]
struct Counter(u32);

impl SeriesTable for Counter {
    type Ref = u32;
    type Error = std::convert::Infallible;

    fn resolve(&mut self, labels: &Labels) -> Result<Option<u32>, Self::Error> {
        black_box(labels);
        self.0 += 1;
        Ok(Some(self.0))
    }

    fn release(&mut self, _series: u32) {}

    fn identity(&self, series: u32) -> u32 {
        series
    }
}

/// Sample lines with values that follow from `seed`: counts mostly, a quarter of them floats.
fn lines(seed: u64) -> Vec<String> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut lines = Vec::new();
    for i in 0..N_SERIES {
        let (family, instance) = (i / 20, i % 20);
        let value = match next() % 4 {
            0 => format!("{}", (next() % 10_000_000) as f64 / 1_000.0),
            1 => format!("{:e}", (next() % 1_000_000_000) as f64).replace('e', "e+0"),
            _ => format!("{}", next() % 1_000_000),
        };
        let name = format!("inference_engine_family_{family}_seconds");
        let labels = format!("model_name=\"org/model-{}b\",engine=\"{}\"", family % 7, instance / 10);
        if i % 5 < 2 {
            lines.push(format!("{name}_bucket{{{labels},le=\"{}\"}} {value}\n", instance as f64 / 8.0));
        } else {
            lines.push(format!(
                "{name}_total{{{labels},worker=\"{instance}\",device=\"nvidia{}\"}} {value}\n",
                instance % 8
            ));
        }
    }
    lines
}

fn body(lines: &[String]) -> Vec<u8> {
    let mut body = String::new();
    for (i, line) in lines.iter().enumerate() {
        if i % 20 == 0 {
            let family = i / 20;
            let _ = writeln!(body, "# HELP inference_engine_family_{family}_seconds What family {family} measures.");
            let _ = writeln!(body, "# TYPE inference_engine_family_{family}_seconds gauge");
        }
        body.push_str(line);
    }
    body.into_bytes()
}

fn rules() -> LineRules {
    let yaml = "scrape_configs: [{job_name: j, static_configs: [{targets: ['t:1']}]}]";
    let config = promontory_config::parse(yaml, "bench.yml".as_ref()).expect("the text above is a configuration");
    let target = Labels::from_pairs([("job", "j"), ("instance", "t:1"), ("cluster", "c"), ("pod", "model-server-0")]);
    LineRules {
        labels: SampleLabels::new(target, &config.scrape_configs[0]),
        honor_timestamps: true,
        track_timestamps_staleness: false,
    }
}

struct Target {
    cache: LineCache<u32>,
    table: Counter,
    batch: Batch<u32>,
    families: Families,
    rules: LineRules,
}

impl Target {
    fn new(rules: LineRules) -> Self {
        let (cache, table) = (LineCache::new(), Counter::default());
        Self { cache, table, batch: Batch::default(), families: Families::default(), rules }
    }

    fn scrape(&mut self, body: &[u8]) -> usize {
        let Self { cache, table, batch, families, rules } = self;
        cache.read(body, Format::Text, rules, batch, families).expect("the body is well formed");
        let Ok(()) = cache.resolve(batch, table);
        cache.commit(batch, table, families);
        assert_eq!(batch.row.len(), N_SERIES);
        batch.row.len()
    }
}

fn exposition(c: &mut Criterion) {
    let bodies = [body(&lines(1)), body(&lines(2))];
    let mut group = c.benchmark_group("exposition");
    group.throughput(Throughput::Bytes(bodies[0].len() as u64));
    group.bench_function("parser", |b| {
        b.iter(|| {
            let mut parser = Parser::new(&bodies[0], Format::Text);
            let mut sum = 0.0;
            while let Ok(item) = parser.next_item() {
                match item {
                    Item::Sample { tail, .. } => sum += tail.value + parser.labels().len() as f64,
                    Item::Metadata { .. } => {}
                    Item::End => break,
                }
            }
            sum
        });
    });
    let mut alternate = |name: &str, bodies: &[Vec<u8>; 2]| {
        let mut target = Target::new(rules());
        for body in bodies {
            target.scrape(body);
        }
        let mut i = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                i += 1;
                target.scrape(&bodies[i % 2])
            });
        });
    };
    alternate("hit", &bodies);
    let reversed: Vec<String> = lines(2).into_iter().rev().collect();
    alternate("moved", &[bodies[0].clone(), body(&reversed)]);
    let rules = rules();
    group.bench_function("miss", |b| b.iter(|| Target::new(rules.clone()).scrape(&bodies[0])));
    group.finish();
}

criterion_group!(benches, exposition);
criterion_main!(benches);
