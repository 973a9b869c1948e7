//! The versions of a dashboard: one file each, the oldest removed when there are too many.

use std::path::{Path, PathBuf};

use promontory_storage::vfs::{read, replace};
use serde_json::{Value, json};

use crate::dashboard::interpolate::percent_encode;
use crate::dashboard::json::{integer, string};

use super::{SaveError, Store};

/// Versions that are kept of one dashboard.
const VERSIONS_MAX: usize = 200;
/// The folder with the versions of all dashboards.
const HISTORY: &str = ".history";

/// A dashboard as it was saved once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Version {
    pub(crate) version: i64,
    /// When, ms since the epoch.
    pub(crate) created_ms: i64,
    pub(crate) message: String,
    pub(crate) dashboard: Value,
}

/// A version without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VersionName {
    pub(crate) version: i64,
}

impl Store {
    /// Numbers of the versions of a dashboard, the oldest first.
    pub(super) fn versions(&self, root: &Path, uid: &str) -> Result<Vec<VersionName>, SaveError> {
        let entries = match self.vfs.read_dir(&folder(root, uid)) {
            Ok(entries) => entries,
            Err(e) if e.is_not_found() => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        };
        let number = |name: &str| name.strip_suffix(".json")?.parse().ok();
        let mut out: Vec<VersionName> =
            entries.iter().filter_map(|e| Some(VersionName { version: number(&e.name)? })).collect();
        out.sort_by_key(|v| v.version);
        Ok(out)
    }

    /// Writes a version down.
    pub(super) fn keep(&self, root: &Path, uid: &str, version: &Version) -> Result<(), SaveError> {
        let dir = folder(root, uid);
        self.vfs.create_dir_all(&dir)?;
        let text = json!({
            "version": version.version, "created": version.created_ms, "message": version.message,
            "dashboard": version.dashboard,
        });
        replace(&*self.vfs, &file(root, uid, version.version), text.to_string().as_bytes())?;
        let all = self.versions(root, uid)?;
        for old in all.iter().take(all.len().saturating_sub(VERSIONS_MAX)) {
            self.vfs.remove_file(&file(root, uid, old.version))?;
        }
        Ok(())
    }

    /// All versions of a dashboard with their texts, the newest first.
    ///
    /// # Errors
    /// [`SaveError`] when the folder cannot be read; a single version that cannot is left out.
    pub(crate) fn history(&self, uid: &str) -> Result<Vec<Version>, SaveError> {
        let root = self.root()?;
        let names = self.versions(root, uid)?;
        Ok(names.iter().rev().filter_map(|v| self.version(root, uid, v.version)).collect())
    }

    pub(super) fn version(&self, root: &Path, uid: &str, version: i64) -> Option<Version> {
        let bytes = read(&*self.vfs, &file(root, uid, version)).ok()?;
        let mut kept: Value = serde_json::from_slice(&bytes).ok()?;
        Some(Version {
            version,
            created_ms: integer(&kept, "created").unwrap_or(0),
            message: string(&kept, "message"),
            dashboard: kept.get_mut("dashboard")?.take(),
        })
    }
}

fn folder(root: &Path, uid: &str) -> PathBuf {
    // A uid from a file may hold anything; its folder must not lead elsewhere.
    let name = percent_encode(uid);
    let name = name.strip_prefix('.').map_or_else(|| name.clone(), |rest| format!("%2E{rest}"));
    root.join(HISTORY).join(name)
}

fn file(root: &Path, uid: &str, version: i64) -> PathBuf {
    folder(root, uid).join(format!("{version:06}.json"))
}
