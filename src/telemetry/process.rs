//! Figures of the process, from what Linux tells in `/proc/self`. Elsewhere, and where a file cannot be read, they are
//! left out.
//!
//! These are not files of the data folder, so they are read directly rather than through the VFS.

use std::fs;

use super::figures::Figures;

/// Clock ticks per second in `/proc`: 100 on every architecture that Linux runs on today.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the process takes now, as far as the system tells.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Taken {
    pub(crate) resident_bytes: Option<f64>,
    /// User and system time since the start.
    pub(crate) cpu_s: Option<f64>,
    pub(crate) files: Option<f64>,
    pub(crate) files_max: Option<f64>,
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

pub(crate) fn taken() -> Taken {
    Taken {
        resident_bytes: kib(&read("/proc/self/status"), "VmRSS:"),
        cpu_s: cpu_seconds(&read("/proc/self/stat")),
        files: open_files(),
        files_max: open_files_max(&read("/proc/self/limits")),
    }
}

pub(super) fn figures() -> Vec<Figures> {
    let (stat, status) = (read("/proc/self/stat"), read("/proc/self/status"));
    let taken = taken();
    let mut figures = Vec::new();
    let mut add = |name, help, value: Option<f64>| figures.extend(value.map(|value| Figures::gauge(name, help, value)));
    add("process_resident_memory_bytes", "Memory in RAM", taken.resident_bytes);
    add("process_virtual_memory_bytes", "Address space", kib(&status, "VmSize:"));
    add("process_open_fds", "Open file descriptors", taken.files);
    add("process_max_fds", "File descriptors that may be open", taken.files_max);
    let started = started_seconds(&stat, &read("/proc/stat"));
    add("process_start_time_seconds", "When the process started, since 1970", started);
    figures.extend(taken.cpu_s.map(|cpu| Figures::counter("process_cpu_seconds", "CPU time, user and system", cpu)));
    figures
}

/// Field `n` of `/proc/self/stat`, counted from 1. The name in field 2 may contain spaces and parentheses.
fn stat_field(stat: &str, n: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(n.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS_PER_SECOND)
}

fn started_seconds(stat: &str, system: &str) -> Option<f64> {
    let booted: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted + stat_field(stat, 22)? / TICKS_PER_SECOND)
}

/// A field of `/proc/self/status`, in bytes.
pub(super) fn kib(status: &str, field: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: f64 = value.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1_024.0)
}

fn open_files() -> Option<f64> {
    // The descriptor that lists the folder is one of them.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

fn open_files_max(limits: &str) -> Option<f64> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_process_name() {
        let fields = (3..=52).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let stat = format!("1 (a) b (c)) {fields}\n");
        assert_eq!(cpu_seconds(&stat), Some((14.0 + 15.0) / 100.0));
        assert_eq!(started_seconds(&stat, "cpu 1 2\nbtime 1000\n"), Some(1000.22));
        assert_eq!(cpu_seconds("1 (cut"), None);
    }

    #[test]
    fn memory_and_limits_are_read_from_their_lines() {
        assert_eq!(kib("Name:\tx\nVmRSS:\t    12 kB\n", "VmRSS:"), Some(12_288.0));
        assert_eq!(kib("", "VmRSS:"), None);
        assert_eq!(
            open_files_max("Max open files            1024                 4096                 files\n"),
            Some(1024.0)
        );
        assert_eq!(open_files_max("Max open files   unlimited unlimited files\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_all_figures() {
        let figures = figures();
        assert_eq!(figures.len(), 6);
        assert!(figures.iter().all(|figures| figures.values[0].value > 0.0 || figures.name == "process_cpu_seconds"));
    }
}
