//! Tests of the cache, held against the parser alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use promontory_config::relabel::{Action, RelabelConfig};
use promontory_model::Regex;
use proptest::prelude::*;

use super::*;
use crate::scrape::testing::scrape_config;

/// Series in a map; a reference is given out once.
#[derive(Debug, Default)]
struct MapTable {
    series: HashMap<Labels, u32>,
    labels: BTreeMap<u32, Labels>,
    next: u32,
    resolved: u32,
    full: bool,
}

impl SeriesTable for MapTable {
    type Ref = u32;
    type Error = std::convert::Infallible;

    fn resolve(&mut self, labels: &Labels) -> Result<Option<u32>, Self::Error> {
        self.resolved += 1;
        if self.full {
            return Ok(None);
        }
        self.next += 1;
        let n_series = u32::try_from(self.series.len()).unwrap();
        self.series.entry(labels.clone()).or_insert(n_series);
        self.labels.insert(self.next, labels.clone());
        Ok(Some(self.next))
    }

    fn release(&mut self, series: u32) {
        self.labels.remove(&series).expect("released once");
    }

    fn identity(&self, series: u32) -> u32 {
        self.series[&self.labels[&series]]
    }
}

struct Target {
    cache: LineCache<u32>,
    table: MapTable,
    rules: LineRules,
    batch: Batch<u32>,
    families: Families,
}

/// Samples as text in order of time and name, then the series that ended.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    samples: Vec<String>,
    ended: Vec<String>,
}

impl Target {
    fn new(relabel: Vec<RelabelConfig>) -> Self {
        let mut config = scrape_config("j");
        config.metric_relabel_configs = relabel;
        let labels = SampleLabels::new(Labels::empty(), &config);
        Self {
            cache: LineCache::new(),
            table: MapTable::default(),
            rules: LineRules { labels, honor_timestamps: true, track_timestamps_staleness: false },
            batch: Batch::default(),
            families: Families::default(),
        }
    }

    fn scrape(&mut self, body: &str) -> Result<Outcome, String> {
        let Self { cache, table, rules, batch, families } = self;
        if let Err(e) = cache.read(body.as_bytes(), Format::Text, rules, batch, families) {
            cache.abort(&mut batch.stale, table, families);
            return Err(format!("{e}; ended {:?}", self.names(&self.batch.stale)));
        }
        let Ok(()) = cache.resolve(batch, table);
        let row = batch.row.iter().map(|(s, v)| (*s, None, *v));
        let timed = batch.timed.iter().map(|(s, t, v)| (*s, Some(*t), *v));
        let mut samples: Vec<String> =
            row.chain(timed).map(|(s, t, v)| format!("{} {v} {t:?}", table.labels[&s])).collect();
        samples.sort();
        cache.commit(batch, table, families);
        Ok(Outcome { samples, ended: self.names(&self.batch.stale) })
    }

    fn names(&self, series: &[u32]) -> Vec<String> {
        let mut names: Vec<String> = series.iter().map(|s| self.table.labels[s].to_string()).collect();
        names.sort();
        names
    }
}

/// The same by the parser alone, with sets where the cache has its tricks.
#[derive(Default)]
struct Obvious {
    before: BTreeSet<String>,
}

impl Obvious {
    fn scrape(&mut self, body: &str, rules: &LineRules) -> Result<Outcome, String> {
        let mut parser = Parser::new(body.as_bytes(), Format::Text);
        let (mut samples, mut all, mut tracked) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let mut keys = BTreeSet::new();
        loop {
            match parser.next_item() {
                Ok(Item::End) => break,
                Ok(Item::Metadata { .. }) => {}
                Ok(Item::Sample { key, tail }) => {
                    let Some(labels) = rules.labels.apply(parser.labels()).unwrap() else { continue };
                    let first = keys.insert((body[key].to_owned(), Context::from(parser.kind()) as u8));
                    if !first && tail.timestamp_ms.is_none() {
                        continue;
                    }
                    samples.push(format!("{labels} {} {:?}", tail.value, tail.timestamp_ms));
                    all.insert(labels.to_string());
                    if tail.timestamp_ms.is_none() {
                        tracked.insert(labels.to_string());
                    }
                }
                Err(e) => {
                    let ended: Vec<String> = std::mem::take(&mut self.before).into_iter().collect();
                    return Err(format!("{e}; ended {ended:?}"));
                }
            }
        }
        samples.sort();
        let ended = self.before.difference(&all).cloned().collect();
        self.before = tracked;
        Ok(Outcome { samples, ended })
    }
}

fn drop_shard() -> Vec<RelabelConfig> {
    let config =
        |action, regex: &str| RelabelConfig { action, regex: Regex::new(regex).unwrap(), ..RelabelConfig::new() };
    let dropped = RelabelConfig { source_labels: vec!["drop".to_owned()], ..config(Action::Drop, "1") };
    vec![config(Action::LabelDrop, "shard"), dropped]
}

#[test]
fn same_body_is_neither_parsed_nor_resolved_again() {
    let body = "# HELP a text\n# TYPE a histogram\na_bucket{le=\"1\"} 1\n\n# c\nb{drop=\"1\"} 2\n# TYPE c gauge\nc 3\nc{x=\"y\"} 4 5\n";
    let mut target = Target::new(drop_shard());
    let first = target.scrape(body).unwrap();
    assert_eq!(
        first.samples,
        [
            "{__name__=\"a_bucket\", le=\"1.0\"} 1 None",
            "{__name__=\"c\", x=\"y\"} 4 Some(5)",
            "{__name__=\"c\"} 3 None"
        ]
    );
    assert_eq!(target.batch.counts, Counts { scraped: 4, kept: 3, duplicates: 0, added: 3, refused: 0, missed: 7 });
    assert_eq!(target.scrape(body).unwrap(), first);
    assert_eq!(target.batch.counts, Counts { scraped: 4, kept: 3, duplicates: 0, added: 0, refused: 0, missed: 0 });
    assert_eq!(target.table.resolved, 3);
    assert_eq!(target.families.get("a").unwrap().help, "text");
}

#[test]
fn one_moved_line_costs_one_search() {
    let lines: Vec<String> = (0..100).map(|i| format!("m{{i=\"{i}\"}} 1\n")).collect();
    let mut target = Target::new(Vec::new());
    target.scrape(&lines.concat()).unwrap();
    let mut moved = lines.clone();
    let line = moved.remove(10);
    moved.insert(60, line);
    target.scrape(&moved.concat()).unwrap();
    assert_eq!(target.batch.counts.missed, 3);
    assert_eq!(target.table.resolved, 100);
    target.scrape(&moved.concat()).unwrap();
    assert_eq!(target.batch.counts.missed, 0);
}

#[test]
fn longer_name_is_not_taken_for_a_known_one() {
    let mut target = Target::new(Vec::new());
    target.scrape("foo 1\n").unwrap();
    assert_eq!(target.scrape("foo12 3\n").unwrap().samples, ["{__name__=\"foo12\"} 3 None"]);
    assert_eq!(target.scrape("foo {a=\"b\"} 3\n").unwrap().samples, ["{__name__=\"foo\", a=\"b\"} 3 None"]);
}

#[test]
fn type_that_changes_labels_makes_another_line() {
    let mut target = Target::new(Vec::new());
    target.scrape("h{le=\"1\"} 1\n").unwrap();
    let typed = target.scrape("# TYPE h histogram\nh{le=\"1\"} 1\n").unwrap();
    assert_eq!(typed.samples, ["{__name__=\"h\", le=\"1.0\"} 1 None"]);
    assert_eq!(typed.ended, ["{__name__=\"h\", le=\"1\"}"]);
}

#[test]
fn failed_scrape_ends_all_series_once_and_adds_none() {
    let mut target = Target::new(Vec::new());
    target.scrape("a 1\nb 2\n").unwrap();
    let error = target.scrape("c 1\na 1\n%\n").unwrap_err();
    assert!(error.starts_with("expected a valid start token"), "{error}");
    assert!(error.ends_with("line 3, column 1; ended [\"{__name__=\\\"a\\\"}\", \"{__name__=\\\"b\\\"}\"]"), "{error}");
    assert!(target.scrape("%\n").unwrap_err().ends_with("ended []"));
    let back = target.scrape("a 1\nb 2\n").unwrap();
    assert_eq!((back.samples.len(), back.ended.len(), target.batch.counts.added), (2, 0, 0));
}

#[test]
fn lines_that_stay_away_are_forgotten_and_released() {
    let mut target = Target::new(Vec::new());
    target.scrape("# HELP old text\nold 1\nnew 1\n").unwrap();
    assert_eq!(target.scrape("new 1\n").unwrap().ended, ["{__name__=\"old\"}"]);
    for _ in 0..=AWAY_SCRAPES_MAX {
        target.scrape("new 1\n").unwrap();
    }
    assert_eq!(target.table.labels.len(), 1);
    assert_eq!((target.cache.n_lines(), target.families.size().0), (1, 0));
}

#[test]
fn ever_new_lines_do_not_grow_memory() {
    let mut target = Target::new(Vec::new());
    for scrape in 0..30 {
        let body: String =
            (0..1_000).map(|i| format!("m{{request=\"{scrape}-{i}\",padding=\"{:>90}\"}} 1\n", 0)).collect();
        target.scrape(&body).unwrap();
        assert!(target.cache.n_lines() <= 3_000 + SPARE_LINES && target.cache.heap_bytes() < 2 << 20);
        let body: String = (0..1_000).map(|i| format!("f{{request=\"{scrape}-{i}\"}} 1\n")).collect();
        target.scrape(&(body + "%")).unwrap_err();
        assert!(target.cache.n_lines() <= 4_000 + SPARE_LINES, "{}", target.cache.n_lines());
    }
}

#[test]
fn remembered_lines_take_little_memory() {
    let line = |i: usize| {
        let (family, bound) = (i / 20, i % 20);
        format!(
            "inference_family_{family}_seconds_bucket{{model=\"org/model-7b\",engine=\"0\",le=\"{bound}.5\"}} {i}\n"
        )
    };
    let body: String = (0..10_000).map(line).collect();
    let mut target = Target::new(Vec::new());
    target.scrape(&body).unwrap();
    let per_line = target.cache.heap_bytes() / 10_000;
    println!("{per_line} bytes for a line of {}", body.len() / 10_000);
    assert!(per_line < 80, "{per_line} bytes for a line of {}", body.len() / 10_000);
}

#[test]
fn keys_follow_lines_that_were_put_between_others() {
    let body =
        |step: usize| -> String { (0..400).step_by(step).map(|i| format!("metric_name{{i=\"{i}\"}} 1\n")).collect() };
    let mut target = Target::new(Vec::new());
    target.scrape(&body(2)).unwrap();
    target.scrape(&body(1)).unwrap();
    target.scrape(&body(1)).unwrap();
    assert_eq!((target.batch.counts.missed, target.cache.n_astray), (0, 0));
    target.scrape(&body(1)).unwrap();
    assert_eq!((target.batch.counts.missed, target.cache.n_astray), (0, 0));
}

#[test]
fn lines_made_equal_by_relabelling_share_a_series() {
    let mut target = Target::new(drop_shard());
    let both = target.scrape("m{shard=\"1\"} 1\nm{shard=\"2\"} 2\n").unwrap();
    assert_eq!(both.samples.len(), 2);
    assert_eq!(target.scrape("m{shard=\"2\"} 2\n").unwrap().ended, [""; 0]);
    for _ in 0..=AWAY_SCRAPES_MAX {
        target.scrape("m{shard=\"2\"} 2\n").unwrap();
    }
    assert_eq!((target.cache.n_lines(), target.table.labels.len()), (1, 1));
}

const POOL: [&str; 15] = [
    "metric_a.5\n",
    "metric_a 1\n",
    "metric_a{x=\"1\"} 2\n",
    "metric_a{x=\"2\"} NaN\n",
    "metric_h_bucket{le=\"1\"} 3\n",
    "metric_h_bucket{le=\"+Inf\"} 4\n",
    "metric_t 5 1000\n",
    "metric_t{x=\"1\"} 6 2000\n",
    "metric_s{shard=\"1\"} 7\n",
    "metric_s{shard=\"2\"} 8\n",
    "metric_d{drop=\"1\"} 9\n",
    "# TYPE metric_h histogram\n",
    "# TYPE metric_a counter\n",
    "# HELP metric_a text\n",
    "\n  # c\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn equals_the_parser_alone(
        scrapes in proptest::collection::vec(
            (proptest::collection::vec((0..POOL.len(), any::<bool>()), 0..20), 0..20u8),
            1..16,
        ),
        repeat in 0..3usize,
    ) {
        let mut target = Target::new(drop_shard());
        let mut obvious = Obvious::default();
        for (lines, fault) in scrapes {
            let mut body: String = lines.iter().map(|(i, _)| POOL[*i]).collect();
            if fault == 0 {
                body.push_str("a x\n");
            }
            for _ in 0..=repeat {
                let expected = obvious.scrape(&body, &target.rules);
                prop_assert_eq!(target.scrape(&body), expected, "{}", body);
            }
            let used: BTreeSet<u32> = target.cache.lines.iter().filter_map(|l| match l.what {
                What::Series(s) => Some(s),
                _ => None,
            }).collect();
            prop_assert_eq!(used, target.table.labels.keys().copied().collect::<BTreeSet<_>>());
        }
    }
}

#[test]
fn refused_series_are_taken_when_there_is_room() {
    let (one, two) = ("a 1\n", "a 1\nb{x=\"y\"} 2\n");
    let mut target = Target::new(Vec::new());
    let check = |target: &mut Target, body: &str, n_samples: usize, n_refused: u64| {
        assert_eq!(target.scrape(body).unwrap().samples.len(), n_samples, "{body}");
        assert_eq!(target.batch.counts.refused, n_refused, "{body}");
    };
    check(&mut target, one, 1, 0);
    target.table.full = true;
    for _ in 0..2 {
        check(&mut target, two, 1, 1);
        assert_eq!((target.batch.counts.kept, target.batch.counts.added), (2, 0));
    }
    // Asked once: what was refused is remembered.
    assert_eq!(target.table.resolved, 2);
    target.cache.retry_refused(true);
    check(&mut target, two, 1, 1);
    target.table.full = false;
    check(&mut target, two, 2, 0);
    target.cache.retry_refused(false);
    check(&mut target, two, 2, 0);
    assert_eq!(target.table.resolved, 4);
    assert_eq!(target.scrape("b{x=\"y\"} 2\n").unwrap().ended, ["{__name__=\"a\"}"]);
}
