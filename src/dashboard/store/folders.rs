//! Folders of dashboards: directories, with a small file where uid or title are not those of the directory's name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use promontory_storage::vfs::replace;
use serde_json::{Value, json};

use crate::dashboard::json::text;
use crate::dashboard::model::slug;
use crate::dashboard::provider::Catalog;

use super::{NAME_CHARS_MAX, SaveError, Store, check_uid};

/// The file that names a folder.
pub(crate) const FOLDER_FILE: &str = ".folder.json";
/// Bytes of that file.
const FOLDER_BYTES_MAX: u64 = 64 << 10;

/// A folder of dashboards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FolderInfo {
    pub(crate) uid: String,
    pub(crate) title: String,
    pub(crate) path: PathBuf,
}

impl FolderInfo {
    /// The folder at `path`, named `relative` below the root.
    pub(crate) fn read(path: &Path, relative: &str) -> Self {
        let file = path.join(FOLDER_FILE);
        let is_small = std::fs::metadata(&file).is_ok_and(|m| m.len() <= FOLDER_BYTES_MAX);
        let named = is_small.then(|| std::fs::read(&file).ok()).flatten();
        let named: Value = named.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or(Value::Null);
        Self {
            uid: text(&named, "uid").filter(|u| !u.is_empty()).map_or_else(|| slug(relative), str::to_owned),
            title: text(&named, "title").filter(|t| !t.is_empty()).unwrap_or(relative).to_owned(),
            path: path.to_owned(),
        }
    }
}

impl Store {
    /// Where the folder with this uid lies; the empty uid is the root.
    pub(super) fn folder_path(&self, root: &Path, uid: &str, catalog: &Catalog) -> Result<PathBuf, SaveError> {
        if uid.is_empty() || uid == "general" {
            return Ok(root.to_owned());
        }
        let found = catalog.folders.iter().find(|f| f.uid == uid && f.path.starts_with(root));
        Ok(found.ok_or(SaveError::Missing("Folder"))?.path.clone())
    }

    pub(super) fn folder_uid(&self, root: &Path, dir: &Path, catalog: &Catalog) -> String {
        let found = catalog.folders.iter().find(|f| f.path == dir && dir != root);
        found.map(|f| f.uid.clone()).unwrap_or_default()
    }

    /// Makes a folder, or gives another title to the one with this uid.
    ///
    /// # Errors
    /// [`SaveError`]; `is_new` refuses a uid or title that is taken.
    pub(crate) fn save_folder(
        &self,
        uid: &str,
        title: &str,
        is_new: bool,
        catalog: &dyn Fn() -> Arc<Catalog>,
    ) -> Result<FolderInfo, SaveError> {
        let root = self.root()?;
        let _one = self.lock();
        let catalog = catalog();
        let title = title.trim();
        if title.is_empty() {
            return Err(SaveError::Refused("a folder needs a title".to_owned()));
        }
        let uid = if uid.is_empty() { slug(title) } else { uid.to_owned() };
        check_uid(&uid)?;
        let existing = catalog.folders.iter().find(|f| f.uid == uid);
        let path = match (existing, is_new) {
            (Some(_), true) => return Err(SaveError::Refused(format!("there is a folder with the uid {uid:?}"))),
            (None, false) => return Err(SaveError::Missing("Folder")),
            (Some(found), false) => found.path.clone(),
            (None, true) => {
                if catalog.folders.iter().any(|f| f.title == title) {
                    return Err(SaveError::Refused(format!("there is a folder with the title {title:?}")));
                }
                let name: String = slug(title).chars().take(NAME_CHARS_MAX).collect();
                root.join(name)
            }
        };
        self.vfs.create_dir_all(&path)?;
        let named = json!({"uid": uid, "title": title}).to_string();
        replace(&*self.vfs, &path.join(FOLDER_FILE), named.as_bytes())?;
        Ok(FolderInfo { uid, title: title.to_owned(), path })
    }

    /// Removes a folder and, as Grafana does, the dashboards in it; their versions stay.
    ///
    /// # Errors
    /// [`SaveError`].
    pub(crate) fn delete_folder(&self, uid: &str, catalog: &dyn Fn() -> Arc<Catalog>) -> Result<FolderInfo, SaveError> {
        let inside: Vec<String> = {
            let now = catalog();
            let found = now.folders.iter().find(|f| f.uid == uid).ok_or(SaveError::Missing("Folder"))?;
            let below = |path: &PathBuf| path.starts_with(&found.path);
            let entries = now.entries.iter().filter(|e| e.path.as_ref().is_some_and(below));
            entries.map(|e| e.dashboard.uid.clone()).collect()
        };
        for dashboard in &inside {
            self.delete(dashboard, catalog)?;
        }
        let root = self.root()?;
        let _one = self.lock();
        let now = catalog();
        let found = now.folders.iter().find(|f| f.uid == uid).ok_or(SaveError::Missing("Folder"))?;
        if found.path == root || !found.path.starts_with(root) {
            return Err(SaveError::Refused(format!("the folder {:?} is not below {}", found.title, root.display())));
        }
        // Only what is ours goes; a file that somebody keeps there keeps the folder.
        let others = self.vfs.read_dir(&found.path)?.into_iter().find(|e| e.name != FOLDER_FILE);
        if let Some(other) = others {
            return Err(SaveError::Refused(format!("{} is in the folder", other.name)));
        }
        self.vfs.remove_dir_all(&found.path)?;
        self.vfs.sync_dir(found.path.parent().unwrap_or(root))?;
        Ok(found.clone())
    }
}
