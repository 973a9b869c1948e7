//! Changes of dashboards: files in the first folder of dashboards, replaced in one step, with every version kept.
//!
//! Beside the dashboards lie, hidden from the list: `.history/UID/VERSION.json`, the versions of a dashboard, which
//! outlive it; `.folder.json` in a folder that has a uid or title of its own; `.annotations.json`, the notes of
//! readers. What a person or a tool puts into the folder by hand is as good as what was saved here.

mod annotations;
mod folders;
mod history;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use promontory_storage::vfs::{RealVfs, Vfs, VfsError, replace};
use serde_json::{Value, json};

use super::json::{integer, string};
use super::load::{LoadError, load, unwrapped};
use super::model::slug;
use super::provider::{Catalog, Entry};

pub(crate) use annotations::{Note, NoteFilter};
pub(crate) use folders::FolderInfo;
pub(crate) use history::Version;

/// Largest dashboard that is saved, bytes; as large as what is read.
pub(crate) const SAVED_BYTES_MAX: usize = 8 << 20;
/// Characters of a uid, as in Grafana.
const UID_CHARS_MAX: usize = 40;
/// Characters of the name of a file, without its ending.
const NAME_CHARS_MAX: usize = 80;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    #[error("dashboards cannot be changed: the server runs with --dashboards.read-only")]
    ReadOnly,
    #[error("there is no folder to save to: start the server with --dashboards.path=FOLDER")]
    NoFolder,
    #[error("{bytes} bytes are more than the {SAVED_BYTES_MAX} that a dashboard may have")]
    TooLarge { bytes: usize },
    #[error(transparent)]
    Invalid(#[from] LoadError),
    #[error("{0}")]
    Refused(String),
    #[error("{0} not found")]
    Missing(&'static str),
    #[error("the dashboard has been changed meanwhile: it is at version {found}, the change is one of version {given}")]
    Changed { given: i64, found: i64 },
    #[error("{0} comes with the program and cannot be removed")]
    BuiltIn(String),
    #[error(transparent)]
    Io(#[from] VfsError),
}

/// A dashboard that is to be saved.
#[derive(Debug, Clone, Default)]
pub(crate) struct Save {
    /// The dashboard itself, without a wrapper.
    pub(crate) dashboard: Value,
    /// Uid of the folder; `None` leaves it where it is.
    pub(crate) folder: Option<String>,
    /// Whether it may replace what another has saved meanwhile.
    pub(crate) overwrite: bool,
    pub(crate) message: String,
}

/// What was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) uid: String,
    pub(crate) slug: String,
    pub(crate) version: i64,
    pub(crate) folder_uid: String,
}

/// Changes the files below the first folder of dashboards.
#[derive(Debug)]
pub(crate) struct Store {
    vfs: Arc<dyn Vfs>,
    root: Option<PathBuf>,
    read_only: bool,
    /// One change at a time: from the look at what is there to the new file.
    changing: Mutex<()>,
}

impl Store {
    pub(crate) fn new(folders: &[PathBuf], read_only: bool) -> Self {
        Self { vfs: Arc::new(RealVfs), root: folders.first().cloned(), read_only, changing: Mutex::new(()) }
    }

    /// The folder that changes go to.
    ///
    /// # Errors
    /// Why there are no changes.
    pub(crate) fn root(&self) -> Result<&Path, SaveError> {
        match (&self.root, self.read_only) {
            (_, true) => Err(SaveError::ReadOnly),
            (None, false) => Err(SaveError::NoFolder),
            (Some(root), false) => Ok(root),
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Saves a dashboard as a new version. `catalog` gives the dashboards as they are now.
    ///
    /// # Errors
    /// [`SaveError`]; then nothing has changed, but for a version in the history that nobody refers to.
    pub(crate) fn save(&self, save: Save, catalog: &dyn Fn() -> Arc<Catalog>, now_ms: i64) -> Result<Saved, SaveError> {
        let root = self.root()?;
        let _one = self.lock();
        let catalog = catalog();
        let mut dashboard = save.dashboard;
        let Some(members) = dashboard.as_object_mut() else {
            return Err(LoadError::Shape("the text does not hold an object").into());
        };
        // Numbers of rows in another server's database mean nothing here.
        members.insert("id".to_owned(), Value::Null);
        let given_version = integer(&dashboard, "version").unwrap_or(0);
        let uid = match string(&dashboard, "uid") {
            empty if empty.trim().is_empty() => fresh_uid(&string(&dashboard, "title"), now_ms, &catalog),
            given => given,
        };
        check_uid(&uid)?;
        let existing = catalog.get(&uid);
        if let Some(found) = existing.filter(|e| !save.overwrite && !e.is_builtin && e.version != given_version) {
            return Err(SaveError::Changed { given: given_version, found: found.version });
        }
        let dir = match (&save.folder, existing.and_then(|e| e.path.as_deref()).and_then(Path::parent)) {
            (Some(folder), _) => self.folder_path(root, folder, &catalog)?,
            (None, Some(here)) => here.to_owned(),
            (None, None) => root.to_owned(),
        };
        load(&dashboard.to_string(), &uid)?;
        let mut last = self.versions(root, &uid)?.last().map_or(0, |v| v.version);
        // What a person or tool has put there since the last change is a version, too.
        let found = existing.filter(|e| e.path.is_some());
        if let Some(old) = found {
            let dashboard = unwrapped(serde_json::from_str(&old.source).unwrap_or(Value::Null));
            if self.version(root, &uid, last).is_none_or(|v| v.dashboard != dashboard) {
                let number = if last == 0 { old.version } else { last + 1 };
                let version =
                    Version { version: number, created_ms: old.modified_ms, message: String::new(), dashboard };
                self.keep(root, &uid, &version)?;
                last = number;
            }
        }
        let version = existing.map_or(0, |e| e.version).max(last) + 1;
        json_set(&mut dashboard, "uid", json!(uid));
        json_set(&mut dashboard, "version", json!(version));
        let text = serde_json::to_string_pretty(&dashboard).unwrap_or_default();
        if text.len() > SAVED_BYTES_MAX {
            return Err(SaveError::TooLarge { bytes: text.len() });
        }
        let loaded = load(&text, &uid)?;
        self.keep(root, &uid, &Version { version, created_ms: now_ms, message: save.message, dashboard })?;
        let here = existing.and_then(|e| e.path.clone()).filter(|p| p.parent() == Some(&dir));
        let path = match here {
            Some(path) => path,
            None => self.free_name(&dir, &loaded.title),
        };
        self.vfs.create_dir_all(&dir)?;
        replace(&*self.vfs, &path, text.as_bytes())?;
        if let Some(old) = existing.and_then(|e| e.path.as_deref()).filter(|old| *old != path) {
            self.remove(old)?;
        }
        let folder_uid = self.folder_uid(root, &dir, &catalog);
        Ok(Saved { slug: loaded.slug(), uid, version, folder_uid })
    }

    /// Removes a dashboard. Its versions stay.
    ///
    /// # Errors
    /// [`SaveError`]; then it is still there.
    pub(crate) fn delete(&self, uid: &str, catalog: &dyn Fn() -> Arc<Catalog>) -> Result<Entry, SaveError> {
        let root = self.root()?;
        let _one = self.lock();
        let catalog = catalog();
        let entry = catalog.get(uid).ok_or(SaveError::Missing("Dashboard"))?;
        let Some(path) = &entry.path else { return Err(SaveError::BuiltIn(entry.dashboard.title.clone())) };
        // What was put there by hand has no version yet.
        if self.versions(root, uid)?.is_empty() {
            let found = serde_json::from_str(&entry.source).unwrap_or(Value::Null);
            let last = Version {
                version: entry.version,
                created_ms: entry.modified_ms,
                message: String::new(),
                dashboard: unwrapped(found),
            };
            self.keep(root, uid, &last)?;
        }
        self.remove(path)?;
        Ok(entry.clone())
    }

    fn remove(&self, path: &Path) -> Result<(), SaveError> {
        self.vfs.remove_file(path)?;
        self.vfs.sync_dir(path.parent().unwrap_or(Path::new(".")))?;
        Ok(())
    }

    /// A name for the file of a new dashboard that no other file has.
    fn free_name(&self, dir: &Path, title: &str) -> PathBuf {
        let stem: String = slug(title).chars().take(NAME_CHARS_MAX).collect();
        let taken: Vec<String> =
            self.vfs.read_dir(dir).map(|all| all.into_iter().map(|e| e.name).collect()).unwrap_or_default();
        let name = |i: usize| if i == 1 { format!("{stem}.json") } else { format!("{stem}-{i}.json") };
        let free = (1..=taken.len() + 1).map(name).find(|n| !taken.contains(n));
        dir.join(free.unwrap_or_else(|| name(taken.len() + 2)))
    }
}

fn json_set(value: &mut Value, name: &str, new: Value) {
    if let Some(members) = value.as_object_mut() {
        members.insert(name.to_owned(), new);
    }
}

fn check_uid(uid: &str) -> Result<(), SaveError> {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if uid.chars().count() > UID_CHARS_MAX || !uid.chars().all(is_plain) || uid.starts_with('.') {
        return Err(SaveError::Refused(format!(
            "uid {uid:?} is not one: letters, digits, - and _, at most {UID_CHARS_MAX} of them"
        )));
    }
    Ok(())
}

/// A uid that nothing has: of the title, the time and what is there, so that no dice are needed.
fn fresh_uid(title: &str, now_ms: i64, catalog: &Catalog) -> String {
    (0u64..)
        .map(|i| {
            let seed = format!("{title}\n{now_ms}\n{i}");
            let hash =
                seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
            format!("d{hash:015x}")
        })
        .find(|uid| catalog.get(uid).is_none())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
