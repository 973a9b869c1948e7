//! `promontory tsdb list`: the blocks of a folder, one a line.

use std::io::Write;
use std::path::Path;

use promontory_model::TimeRange;
use promontory_storage::block;
use promontory_storage::offline;
use promontory_storage::ulid::Ulid;
use promontory_storage::vfs::{self, RealVfs, Vfs as _};

use super::{TsdbError, bytes, count, utc};
use crate::cli::ListArgs;

/// Longest `meta.json` that is read.
const META_BYTES_MAX: u64 = 16 << 20;

/// What a line says of a block.
struct Line {
    ulid: Ulid,
    range: TimeRange,
    n_samples: u64,
    n_series: u64,
    bytes: u64,
    level: u64,
    format: &'static str,
}

pub(super) fn run(args: &ListArgs, out: &mut dyn Write) -> Result<bool, TsdbError> {
    let mut lines = Vec::new();
    let mut damaged = Vec::new();
    let folder = offline::blocks_folder(&args.path);
    for listed in block::list(&RealVfs, &folder)? {
        if is_prometheus(&listed.path) {
            continue;
        }
        match listed.meta {
            Ok(meta) => lines.push(Line {
                ulid: meta.ulid,
                range: meta.range,
                n_samples: meta.n_samples,
                n_series: meta.n_series,
                bytes: meta.bytes(),
                level: meta.level.into(),
                format: "promontory",
            }),
            Err(e) => damaged.push((listed.ulid, e.to_string())),
        }
    }
    for entry in RealVfs.read_dir(&args.path)? {
        let Some(ulid) = entry.name.parse::<Ulid>().ok().filter(|_| entry.is_dir) else { continue };
        let path = args.path.join(&entry.name);
        if is_prometheus(&path) {
            match prometheus_block(&path, ulid) {
                Ok(line) => lines.push(line),
                Err(why) => damaged.push((ulid, why)),
            }
        }
    }
    if lines.is_empty() && damaged.is_empty() {
        writeln!(out, "{}: no blocks yet", args.path.display())?;
        return Ok(true);
    }
    lines.sort_by_key(|l| (l.range.mint, l.ulid));
    print(&lines, args.human_readable, out)?;
    for (ulid, why) in &damaged {
        writeln!(out, "{ulid}  {why}")?;
    }
    Ok(damaged.is_empty())
}

fn print(lines: &[Line], human: bool, out: &mut dyn Write) -> Result<(), TsdbError> {
    let mut table = vec![
        ["block", "min time", "max time", "samples", "series", "bytes", "bytes/sample", "level", "format"]
            .map(str::to_owned),
    ];
    let number = |n: u64| if human { count(n) } else { n.to_string() };
    let time = |ms: i64| if human { utc(ms) } else { ms.to_string() };
    for line in lines {
        table.push([
            line.ulid.to_string(),
            time(line.range.mint.ms()),
            time(line.range.maxt.ms()),
            number(line.n_samples),
            number(line.n_series),
            if human { bytes(line.bytes) } else { line.bytes.to_string() },
            format!("{:.3}", line.bytes as f64 / line.n_samples.max(1) as f64),
            line.level.to_string(),
            line.format.to_owned(),
        ]);
    }
    let mut widths = [0; 9];
    for row in &table {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    for row in &table {
        for (i, (cell, width)) in row.iter().zip(widths).enumerate() {
            match i {
                0 => write!(out, "{cell:<width$}")?,
                8 => writeln!(out, "  {cell}")?,
                _ => write!(out, "  {cell:>width$}")?,
            }
        }
    }
    Ok(())
}

fn is_prometheus(block: &Path) -> bool {
    RealVfs.open_read(&block.join("meta.json")).is_ok()
}

/// Reads the `meta.json` of a block of Prometheus.
fn prometheus_block(path: &Path, ulid: Ulid) -> Result<Line, String> {
    let file = path.join("meta.json");
    let len = RealVfs.open_read(&file).and_then(|f| f.len()).map_err(|e| e.to_string())?;
    if len > META_BYTES_MAX {
        return Err(format!("read {}: {len} bytes, at most {META_BYTES_MAX} are read", file.display()));
    }
    let text = vfs::read(&RealVfs, &file).map_err(|e| e.to_string())?;
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(|e| format!("read {}: {e}", file.display()))?;
    let time = |name: &str| json[name].as_i64().ok_or_else(|| format!("read {}: no {name}", file.display()));
    Ok(Line {
        ulid,
        // The end that Prometheus names lies behind the block.
        range: TimeRange::new(time("minTime")?, time("maxTime")?.saturating_sub(1)),
        n_samples: json["stats"]["numSamples"].as_u64().unwrap_or(0),
        n_series: json["stats"]["numSeries"].as_u64().unwrap_or(0),
        bytes: folder_bytes(path).map_err(|e| e.to_string())?,
        level: json["compaction"]["level"].as_u64().unwrap_or(0),
        format: "prometheus",
    })
}

fn folder_bytes(path: &Path) -> Result<u64, vfs::VfsError> {
    let mut sum = 0;
    for entry in RealVfs.read_dir(path)? {
        sum += if entry.is_dir { folder_bytes(&path.join(&entry.name))? } else { entry.len };
    }
    Ok(sum)
}
