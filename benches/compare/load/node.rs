//! A GPU inference node: what node_exporter, DCGM's exporter and two vLLM servers say of it, 1,027 series.
//!
//! Values move as the real ones do: whole numbers, hundredths and thousandths where exporters print them so, sums of
//! latencies with all their digits, counters that follow a load that swings, settings that never change.

use crate::random::Random;
use crate::workload::{INTERVAL_MS, Target, encode_labels};

/// Series of one node.
pub(crate) const N_SERIES: usize = 1_027;

const CPUS: usize = 32;
const MODES: [&str; 8] = ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"];
const GPUS: usize = 8;
const ENGINES: usize = 2;
const MODELS: [&str; 6] =
    ["llama-3.1-70b", "qwen2.5-72b", "mixtral-8x22b", "llama-3.1-8b", "deepseek-v2-lite", "phi-4"];
const SECONDS: f64 = INTERVAL_MS as f64 / 1e3;
/// As `scale` of a motion: multiples of 4,096.
const PAGES: f64 = 1.0 / 4_096.0;

/// How a series without companions moves.
#[derive(Debug, Clone, Copy)]
enum Motion {
    /// Rises by about so much a second, with the load; printed as a multiple of 1 / `scale`.
    Counter { per_s: f64, scale: f64 },
    /// Rises with the load by numbers that have all their digits.
    Sum { per_s: f64 },
    /// Rises by one now and then.
    Rare { chance: f64 },
    /// Wanders between bounds.
    Walk { low: f64, high: f64, step: f64, scale: f64 },
    /// Follows the load between bounds.
    Load { low: f64, high: f64, noise: f64, scale: f64 },
    /// Follows the load with all digits.
    Ratio,
    /// Stays, and changes to another value now and then.
    Setting { value: f64, other: f64, chance: f64 },
}

#[derive(Debug)]
struct Single {
    motion: Motion,
    value: f64,
    load: usize,
}

#[derive(Debug)]
enum Item {
    Single(Single),
    /// The modes of one processor, s.
    Cpu([f64; 8]),
    Histogram(Histogram),
}

/// A classic histogram: a bucket per bound, sum, count.
#[derive(Debug)]
struct Histogram {
    /// Share of observations up to each bound; the last is 1.
    shares: Vec<f64>,
    buckets: Vec<u64>,
    sum: f64,
    mean: f64,
    /// Observations per round at full load.
    per_round: f64,
    load: usize,
}

/// State of one node.
#[derive(Debug)]
pub(crate) struct Node {
    items: Vec<Item>,
    /// Between 0 and 1: of the machine, of each engine.
    loads: [f64; 1 + ENGINES],
    phase: f64,
    random: Random,
}

/// Collects series and labels of one node.
struct Builder<'a> {
    labels: &'a mut Vec<Vec<u8>>,
    items: Vec<Item>,
    common: Vec<(String, String)>,
    load: usize,
    random: Random,
}

impl Builder<'_> {
    fn label(&mut self, name: &str, more: &[(&str, &str)]) {
        let own = |(n, v): &(&str, &str)| ((*n).to_owned(), (*v).to_owned());
        let pairs = self.common.iter().cloned().chain(more.iter().map(own));
        let pairs = pairs.chain([("__name__".to_owned(), name.to_owned())]).collect();
        self.labels.push(encode_labels(pairs));
    }

    fn single(&mut self, name: &str, more: &[(&str, &str)], motion: Motion) {
        self.label(name, more);
        let value = match motion {
            Motion::Counter { per_s, scale } => round(per_s * self.random.between(1e5, 1e6), scale),
            Motion::Sum { per_s } => per_s * self.random.between(1e4, 1e5),
            Motion::Rare { .. } => self.random.between(0.0, 20.0).round(),
            Motion::Walk { low, high, scale, .. } => round(self.random.between(low, high), scale),
            Motion::Load { low, .. } => low,
            Motion::Ratio => 0.0,
            Motion::Setting { value, .. } => value,
        };
        self.items.push(Item::Single(Single { motion, value, load: self.load }));
    }

    fn scrape(&mut self, n: f64) {
        for (name, motion) in [
            ("up", Motion::Setting { value: 1.0, other: 1.0, chance: 0.0 }),
            ("scrape_duration_seconds", Motion::Walk { low: 0.01, high: 0.09, step: 0.004, scale: 1e9 }),
            ("scrape_samples_scraped", Motion::Setting { value: n, other: n, chance: 0.0 }),
            ("scrape_samples_post_metric_relabeling", Motion::Setting { value: n, other: n, chance: 0.0 }),
            ("scrape_series_added", Motion::Setting { value: 0.0, other: 0.0, chance: 0.0 }),
        ] {
            self.single(name, &[], motion);
        }
    }

    fn histogram(&mut self, name: &str, more: &[(&str, &str)], bounds: &[f64], shape: Shape) {
        let bucket = format!("{name}_bucket");
        for bound in bounds {
            let le = format!("{bound:?}");
            self.label(&bucket, &[more, &[("le", &le)]].concat());
        }
        self.label(&bucket, &[more, &[("le", "+Inf")]].concat());
        self.label(&format!("{name}_sum"), more);
        self.label(&format!("{name}_count"), more);
        // A logistic curve over the logarithm is close to the log-normal one that latencies have.
        let share = |bound: &f64| 1.0 / (1.0 + (-1.7 * (bound / shape.median).ln() / shape.spread).exp());
        let shares: Vec<f64> = bounds.iter().map(share).chain([1.0]).collect();
        let n = shape.per_round * self.random.between(5e3, 5e4);
        let buckets: Vec<u64> = shares.iter().map(|share| (n * share) as u64).collect();
        let mean = shape.median * (shape.spread * shape.spread / 2.0).exp();
        let (sum, per_round) = (n * mean, shape.per_round);
        self.items.push(Item::Histogram(Histogram { shares, buckets, sum, mean, per_round, load: self.load }));
    }
}

#[derive(Clone, Copy)]
struct Shape {
    median: f64,
    /// Deviation of the logarithm.
    spread: f64,
    per_round: f64,
}

fn round(value: f64, scale: f64) -> f64 {
    (value * scale).round() / scale
}

fn counter(per_s: f64) -> Motion {
    Motion::Counter { per_s, scale: 1.0 }
}

fn setting(value: f64) -> Motion {
    Motion::Setting { value, other: value, chance: 0.0 }
}

impl Node {
    /// Node number `n`; its labels and targets are added to those of the others.
    pub(crate) fn new(n: usize, seed: u64, labels: &mut Vec<Vec<u8>>, targets: &mut Vec<Target>) -> Self {
        let seed = seed ^ ((n as u64 + 1) << 20);
        let begin = labels.len();
        let host = format!("gpu-{n:03}");
        let random = Random::new(seed);
        let mut b = Builder { labels, items: Vec::new(), common: Vec::new(), load: 0, random };
        for (part, (job, port)) in [("node", 9100), ("dcgm", 9400), ("vllm", 8000)].into_iter().enumerate() {
            let first = b.labels.len();
            let pair = |name: &str, value: String| (name.to_owned(), value);
            b.common = vec![
                pair("cluster", "inference-eu-1".to_owned()),
                pair("instance", format!("{host}:{port}")),
                pair("job", job.to_owned()),
                pair("node", host.clone()),
            ];
            b.load = 0;
            match part {
                0 => machine(&mut b),
                1 => gpus(&mut b, n),
                _ => engines(&mut b, n),
            }
            let n_series = b.labels.len() - first;
            b.load = 0;
            b.scrape(n_series as f64);
            targets.push(Target {
                offset_ms: ((n * 3 + part) as i64 * 2_711) % INTERVAL_MS,
                first: first as u32,
                n_series: n_series as u32 + 5,
            });
        }
        assert_eq!(b.labels.len() - begin, N_SERIES, "the workload is described with this many series");
        let mut random = b.random;
        let phase = random.between(0.0, 1.0);
        Self { items: b.items, loads: [0.5; 1 + ENGINES], phase, random }
    }

    /// Appends the values of all series in the order of their labels.
    pub(crate) fn round(&mut self, round: i64, out: &mut Vec<f64>) {
        let r = &mut self.random;
        let day = (round as f64 * SECONDS / 86_400.0 + self.phase) * std::f64::consts::TAU;
        for (i, load) in self.loads.iter_mut().enumerate() {
            let aim = 0.55 + 0.3 * (day + i as f64).sin();
            *load = (*load + 0.08 * (aim - *load) + 0.03 * r.normal()).clamp(0.02, 0.98);
        }
        for item in &mut self.items {
            match item {
                Item::Single(single) => out.push(single.next(self.loads[single.load], r)),
                Item::Cpu(modes) => {
                    next_cpu(modes, self.loads[0], r);
                    out.extend_from_slice(modes);
                }
                Item::Histogram(histogram) => histogram.next(self.loads[histogram.load], r, out),
            }
        }
    }
}

impl Single {
    fn next(&mut self, load: f64, r: &mut Random) -> f64 {
        self.value = match self.motion {
            Motion::Counter { per_s, scale } => {
                let mean = per_s * SECONDS * load * 2.0;
                round(self.value + (mean * (1.0 + 0.15 * r.normal())).max(0.0), scale)
            }
            Motion::Sum { per_s } => self.value + per_s * SECONDS * load * r.between(1.5, 2.5),
            Motion::Rare { chance } => self.value + f64::from(u8::from(r.unit() < chance)),
            Motion::Walk { low, high, step, scale } => round((self.value + step * r.normal()).clamp(low, high), scale),
            Motion::Load { low, high, noise, scale } => {
                round((low + (high - low) * load + noise * r.normal()).clamp(low, high), scale)
            }
            Motion::Ratio => (load + 0.02 * r.normal()).clamp(0.0, 1.0),
            Motion::Setting { value, other, chance } => {
                if chance > 0.0 && r.unit() < chance {
                    if self.value == value { other } else { value }
                } else {
                    self.value
                }
            }
        };
        self.value
    }
}

/// Processor time is counted in hundredths of a second, and some modes hardly ever happen.
fn next_cpu(modes: &mut [f64; 8], load: f64, r: &mut Random) {
    let busy = (load * 0.5 * r.between(0.4, 1.6)).min(1.0);
    let shares = [1.0 - busy, 0.002 * load, 0.0, 0.0, 0.012 * busy, 0.0, 0.15 * busy, 0.836 * busy];
    for (mode, share) in modes.iter_mut().zip(shares) {
        if share > 0.0 {
            let spent = (SECONDS * share * (1.0 + 0.05 * r.normal())).max(0.0);
            *mode = round(*mode + spent, 1e2);
        }
    }
}

impl Histogram {
    fn next(&mut self, load: f64, r: &mut Random, out: &mut Vec<f64>) {
        let n = r.events(self.per_round * load);
        let (mut below, mut last) = (0, 0.0);
        for (bucket, &share) in self.buckets.iter_mut().zip(&self.shares) {
            // What falls between this bound and the one before.
            let part = if share >= 1.0 { n - below } else { r.events((share - last) * n as f64).min(n - below) };
            below += part;
            last = share;
            *bucket += below;
            out.push(*bucket as f64);
        }
        if n > 0 {
            self.sum += n as f64 * self.mean * (1.0 + 0.5 * r.normal() / (n as f64).sqrt()).max(0.05);
        }
        out.push(self.sum);
        out.push(self.buckets.last().map_or(0.0, |&n| n as f64));
    }
}

/// node_exporter: 354 series.
fn machine(b: &mut Builder<'_>) {
    for cpu in 0..CPUS {
        let cpu = cpu.to_string();
        for mode in MODES {
            b.label("node_cpu_seconds_total", &[("cpu", &cpu), ("mode", mode)]);
        }
        let start = b.random.between(1e5, 2e6);
        let modes = [0.8, 0.001, 0.0, 0.0, 0.002, 0.0, 0.02, 0.17].map(|share| round(start * share, 1e2));
        b.items.push(Item::Cpu(modes));
    }
    for load in ["node_load1", "node_load5", "node_load15"] {
        b.single(load, &[], Motion::Load { low: 0.0, high: 32.0, noise: 0.6, scale: 1e2 });
    }
    const GIB: f64 = (1_u64 << 30) as f64;
    let memory = |low: f64, high: f64| Motion::Walk { low: low * GIB, high: high * GIB, step: 3e7, scale: PAGES };
    for (name, motion) in [
        ("node_memory_MemTotal_bytes", setting(1024.0 * GIB)),
        ("node_memory_MemAvailable_bytes", memory(300.0, 800.0)),
        ("node_memory_MemFree_bytes", memory(100.0, 400.0)),
        ("node_memory_Cached_bytes", memory(100.0, 400.0)),
        ("node_memory_Buffers_bytes", memory(1.0, 4.0)),
        ("node_memory_Shmem_bytes", memory(10.0, 60.0)),
        ("node_memory_SwapFree_bytes", setting(0.0)),
        ("node_memory_SwapTotal_bytes", setting(0.0)),
        ("node_context_switches_total", counter(150_000.0)),
        ("node_intr_total", counter(90_000.0)),
        ("node_forks_total", counter(12.0)),
        ("node_procs_running", Motion::Load { low: 1.0, high: 30.0, noise: 2.0, scale: 1.0 }),
        ("node_boot_time_seconds", setting(1_760_000_123.0)),
        ("node_filefd_allocated", Motion::Walk { low: 9e3, high: 2e4, step: 60.0, scale: 1.0 }),
        ("node_sockstat_TCP_alloc", Motion::Walk { low: 400.0, high: 2e3, step: 9.0, scale: 1.0 }),
        ("node_netstat_Tcp_CurrEstab", Motion::Walk { low: 200.0, high: 1e3, step: 7.0, scale: 1.0 }),
    ] {
        b.single(name, &[], motion);
    }
    for device in ["nvme0n1", "nvme1n1", "nvme2n1", "nvme3n1"] {
        let d = [("device", device)];
        for (name, motion) in [
            ("node_disk_reads_completed_total", counter(40.0)),
            ("node_disk_writes_completed_total", counter(120.0)),
            ("node_disk_read_bytes_total", Motion::Counter { per_s: 3e6, scale: PAGES }),
            ("node_disk_written_bytes_total", Motion::Counter { per_s: 9e6, scale: PAGES }),
            ("node_disk_io_time_seconds_total", Motion::Counter { per_s: 0.08, scale: 1e3 }),
            ("node_disk_read_time_seconds_total", Motion::Counter { per_s: 0.03, scale: 1e3 }),
            ("node_disk_write_time_seconds_total", Motion::Counter { per_s: 0.06, scale: 1e3 }),
            ("node_disk_io_now", Motion::Load { low: 0.0, high: 4.0, noise: 1.0, scale: 1.0 }),
        ] {
            b.single(name, &d, motion);
        }
    }
    for device in ["eth0", "eth1", "ib0", "ib1"] {
        let d = [("device", device)];
        for (name, motion) in [
            ("node_network_receive_bytes_total", counter(4e7)),
            ("node_network_transmit_bytes_total", counter(6e7)),
            ("node_network_receive_packets_total", counter(3e4)),
            ("node_network_transmit_packets_total", counter(4e4)),
            ("node_network_receive_errs_total", setting(0.0)),
            ("node_network_transmit_errs_total", setting(0.0)),
            ("node_network_receive_drop_total", Motion::Rare { chance: 0.02 }),
            ("node_network_up", setting(1.0)),
        ] {
            b.single(name, &d, motion);
        }
    }
    for (device, mount) in [("/dev/md0", "/"), ("/dev/md1", "/models"), ("/dev/md2", "/var/lib/containerd")] {
        let f = [("device", device), ("fstype", "ext4"), ("mountpoint", mount)];
        for (name, motion) in [
            ("node_filesystem_size_bytes", setting(3_840_755_982_336.0)),
            ("node_filesystem_avail_bytes", Motion::Walk { low: 1e12, high: 3e12, step: 4e6, scale: PAGES }),
            ("node_filesystem_files_free", Motion::Walk { low: 2e8, high: 2.3e8, step: 15.0, scale: 1.0 }),
            ("node_filesystem_readonly", setting(0.0)),
            ("node_filesystem_device_error", setting(0.0)),
        ] {
            b.single(name, &f, motion);
        }
    }
}

/// DCGM's exporter: 8 GPUs with 20 series each.
fn gpus(b: &mut Builder<'_>, node: usize) {
    for gpu in 0..GPUS {
        b.load = 1 + gpu * ENGINES / GPUS;
        let (id, device) = (gpu.to_string(), format!("nvidia{gpu}"));
        let uuid = format!("GPU-{:08x}-{gpu:04x}-4b1d-9a5e-{:012x}", node * 7_919 + 17, node * 104_729 + gpu);
        let g = [("gpu", &*id), ("device", &*device), ("UUID", &*uuid), ("modelName", "NVIDIA H100 80GB HBM3")];
        let load = |low, high, noise, scale| Motion::Load { low, high, noise, scale };
        for (name, motion) in [
            ("DCGM_FI_DEV_GPU_UTIL", load(0.0, 100.0, 8.0, 1.0)),
            ("DCGM_FI_DEV_MEM_COPY_UTIL", load(0.0, 60.0, 4.0, 1.0)),
            ("DCGM_FI_DEV_FB_USED", Motion::Setting { value: 73_412.0, other: 73_414.0, chance: 0.01 }),
            ("DCGM_FI_DEV_FB_FREE", Motion::Setting { value: 7_678.0, other: 7_676.0, chance: 0.01 }),
            ("DCGM_FI_DEV_POWER_USAGE", load(110.0, 700.0, 25.0, 1e3)),
            ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", counter(400_000.0)),
            ("DCGM_FI_DEV_GPU_TEMP", load(34.0, 82.0, 0.7, 1.0)),
            ("DCGM_FI_DEV_MEMORY_TEMP", load(40.0, 92.0, 0.7, 1.0)),
            ("DCGM_FI_DEV_SM_CLOCK", Motion::Setting { value: 1_980.0, other: 1_965.0, chance: 0.08 }),
            ("DCGM_FI_DEV_MEM_CLOCK", setting(2_619.0)),
            ("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", Motion::Rare { chance: 0.0005 }),
            ("DCGM_FI_DEV_XID_ERRORS", setting(0.0)),
            ("DCGM_FI_DEV_ENC_UTIL", setting(0.0)),
            ("DCGM_FI_DEV_DEC_UTIL", setting(0.0)),
            ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", load(0.0, 1.0, 0.03, 1e6)),
            ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", load(0.0, 0.6, 0.02, 1e6)),
            ("DCGM_FI_PROF_DRAM_ACTIVE", load(0.0, 0.7, 0.02, 1e6)),
            ("DCGM_FI_PROF_PCIE_TX_BYTES", load(1e6, 4e8, 1e7, 1.0)),
            ("DCGM_FI_PROF_PCIE_RX_BYTES", load(1e6, 6e8, 1e7, 1.0)),
            ("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", load(0.0, 3e5, 9e3, 1.0)),
        ] {
            b.single(name, &g, motion);
        }
    }
}

const LATENCY: [f64; 20] =
    [0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0];
const FIRST_TOKEN: [f64; 21] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0,
];
const PER_TOKEN: [f64; 18] =
    [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0];
const TOKENS: [f64; 17] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0,
    100_000.0, 200_000.0,
];

/// Two vLLM servers of 10 histograms and 28 other series each.
fn engines(b: &mut Builder<'_>, node: usize) {
    for engine in 0..ENGINES {
        b.load = 1 + engine;
        let (id, model) = (engine.to_string(), MODELS[(node + engine) % MODELS.len()]);
        let m = [("engine", &*id), ("model_name", model)];
        let shape = |median, spread, per_round| Shape { median, spread, per_round };
        for (name, bounds, shape) in [
            ("vllm:e2e_request_latency_seconds", &LATENCY[..], shape(6.0, 0.9, 60.0)),
            ("vllm:request_queue_time_seconds", &LATENCY[..], shape(0.15, 1.2, 60.0)),
            ("vllm:request_inference_time_seconds", &LATENCY[..], shape(5.5, 0.9, 60.0)),
            ("vllm:request_prefill_time_seconds", &LATENCY[..], shape(0.4, 0.8, 60.0)),
            ("vllm:request_decode_time_seconds", &LATENCY[..], shape(5.0, 0.9, 60.0)),
            ("vllm:time_to_first_token_seconds", &FIRST_TOKEN[..], shape(0.35, 1.0, 60.0)),
            ("vllm:time_per_output_token_seconds", &PER_TOKEN[..], shape(0.03, 0.4, 12_000.0)),
            ("vllm:inter_token_latency_seconds", &PER_TOKEN[..], shape(0.028, 0.5, 12_000.0)),
            ("vllm:request_prompt_tokens", &TOKENS[..], shape(900.0, 1.1, 60.0)),
            ("vllm:request_generation_tokens", &TOKENS[..], shape(200.0, 0.9, 60.0)),
        ] {
            b.histogram(name, &m, bounds, shape);
        }
        for (name, motion) in [
            ("vllm:num_requests_running", Motion::Load { low: 0.0, high: 64.0, noise: 3.0, scale: 1.0 }),
            ("vllm:num_requests_waiting", Motion::Load { low: 0.0, high: 6.0, noise: 1.5, scale: 1.0 }),
            ("vllm:num_requests_swapped", setting(0.0)),
            ("vllm:gpu_cache_usage_perc", Motion::Ratio),
            ("vllm:cpu_cache_usage_perc", setting(0.0)),
            ("vllm:gpu_prefix_cache_hits_total", counter(700.0)),
            ("vllm:gpu_prefix_cache_queries_total", counter(1_500.0)),
            ("vllm:prompt_tokens_total", counter(4_000.0)),
            ("vllm:generation_tokens_total", counter(800.0)),
            ("vllm:num_preemptions_total", Motion::Rare { chance: 0.01 }),
            ("vllm:iteration_tokens_total_sum", Motion::Sum { per_s: 4_800.0 }),
            ("vllm:cache_config_info", setting(1.0)),
            ("process_cpu_seconds_total", Motion::Counter { per_s: 1.2, scale: 1e2 }),
            ("process_resident_memory_bytes", Motion::Walk { low: 4e9, high: 9e9, step: 5e4, scale: PAGES }),
            ("process_virtual_memory_bytes", setting(98_765_432_832.0)),
            ("process_open_fds", Motion::Walk { low: 60.0, high: 300.0, step: 2.0, scale: 1.0 }),
            ("process_max_fds", setting(1_048_576.0)),
            ("process_start_time_seconds", setting(1_760_100_321.25)),
        ] {
            b.single(name, &m, motion);
        }
        for reason in ["stop", "length", "abort"] {
            let motion = if reason == "stop" { counter(3.0) } else { Motion::Rare { chance: 0.1 } };
            b.single("vllm:request_success_total", &[&m[..], &[("finished_reason", reason)]].concat(), motion);
        }
        for (generation, per_s) in [("0", 0.9), ("1", 0.08), ("2", 0.004)] {
            let g = [&m[..], &[("generation", generation)]].concat();
            b.single("python_gc_collections_total", &g, counter(per_s));
            b.single("python_gc_objects_collected_total", &g, counter(per_s * 300.0));
        }
        b.single("http_requests_total", &[&m[..], &[("method", "POST"), ("status", "2xx")]].concat(), counter(4.0));
    }
}
