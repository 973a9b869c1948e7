//! The time series database: what is appended here is kept, compressed and found again.
//!
//! Synchronous: it knows no async runtime, YAML, PromQL or HTTP. All file access goes through [`vfs`], all time
//! through [`clock`]. Formats are described in `docs/format`.

pub mod clock;
pub mod codec;
mod mapped;
#[allow(dead_code, reason = "the head and blocks are being put on top")]
mod source;
pub mod vfs;
#[allow(dead_code, reason = "the formats are being put on top")]
mod wire;
