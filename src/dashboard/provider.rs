//! The dashboards there are: those of folders, read again when files change, and the ones that come with us.
//!
//! A file that cannot be read stays listed with its error; the others are not affected. Nothing is written here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::builtin::BUILTIN;
use super::load::load;
use super::model::{Dashboard, slug};
use super::store::FolderInfo;

/// Largest dashboard file, bytes.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Files that are read from all folders.
const FILES_MAX: usize = 5_000;
/// Folders inside folders.
const DEPTH_MAX: usize = 8;
/// Time between two looks at the folders, ms.
const POLL_MS: i64 = 3_000;

/// A dashboard and where it comes from.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) dashboard: Arc<Dashboard>,
    /// Title of the folder; empty for the root.
    pub(crate) folder: String,
    /// Uid of the folder; empty for the root.
    pub(crate) folder_uid: String,
    pub(crate) is_builtin: bool,
    /// Where it was read; none for one that comes with us.
    pub(crate) path: Option<PathBuf>,
    /// As the file says; 0 when it does not.
    pub(crate) version: i64,
    /// When the file was changed, ms since the epoch.
    pub(crate) modified_ms: i64,
    /// The file as it is, for `/api/dashboards/uid`.
    pub(crate) source: Arc<str>,
}

/// A file that is no dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) file: String,
    pub(crate) error: String,
}

/// All dashboards at one moment.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// By title.
    pub(crate) entries: Vec<Entry>,
    pub(crate) broken: Vec<Broken>,
    /// By title; the roots are none.
    pub(crate) folders: Vec<FolderInfo>,
    by_uid: HashMap<String, usize>,
}

impl Catalog {
    pub(crate) fn get(&self, uid: &str) -> Option<&Entry> {
        self.by_uid.get(uid).map(|i| &self.entries[*i])
    }
}

/// Watches folders.
#[derive(Debug)]
pub(crate) struct Provider {
    folders: Vec<PathBuf>,
    catalog: ArcSwap<Catalog>,
    /// What was seen last: when, and the files with their times. Held while folders are read, so that one request
    /// reads and the others wait for its result.
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    polled_ms: Option<i64>,
    tree: Tree,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStamp {
    path: PathBuf,
    folder: Option<FolderInfo>,
    modified: Option<SystemTime>,
    bytes: u64,
}

/// Everything below the roots.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Tree {
    files: Vec<FileStamp>,
    folders: Vec<FolderInfo>,
}

impl Provider {
    /// Reads the folders for the first time.
    pub(crate) fn new(folders: Vec<PathBuf>) -> Self {
        let tree = scan(&folders);
        let catalog = ArcSwap::from_pointee(read(&tree));
        Self { folders, catalog, seen: Mutex::new(Seen { polled_ms: None, tree }) }
    }

    /// The dashboards as of now. Blocks on the file system every few seconds.
    pub(crate) fn catalog(&self, now_ms: i64) -> Arc<Catalog> {
        let is_fresh = |t: i64| (0..POLL_MS).contains(&(now_ms - t));
        self.look(now_ms, &is_fresh)
    }

    /// The dashboards as the folders hold them at this moment.
    pub(crate) fn fresh_catalog(&self, now_ms: i64) -> Arc<Catalog> {
        self.look(now_ms, &|_| false)
    }

    fn look(&self, now_ms: i64, is_fresh: &dyn Fn(i64) -> bool) -> Arc<Catalog> {
        if !self.folders.is_empty() {
            let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if !seen.polled_ms.is_some_and(is_fresh) {
                let tree = scan(&self.folders);
                if tree != seen.tree {
                    self.catalog.store(Arc::new(read(&tree)));
                    seen.tree = tree;
                }
                seen.polled_ms = Some(now_ms);
            }
        }
        self.catalog.load_full()
    }
}

/// All JSON files below the folders, sorted.
fn scan(folders: &[PathBuf]) -> Tree {
    let mut out = Tree::default();
    for folder in folders {
        scan_into(folder, folder, 0, &mut out);
    }
    out.files.sort_by(|a, b| a.path.cmp(&b.path));
    out.files.truncate(FILES_MAX);
    out.folders.sort_by(|a, b| a.title.cmp(&b.title).then(a.path.cmp(&b.path)));
    out
}

fn scan_into(root: &Path, here: &Path, depth: usize, out: &mut Tree) {
    let Ok(entries) = std::fs::read_dir(here) else {
        if depth == 0 {
            out.files.push(FileStamp { path: here.to_owned(), folder: None, modified: None, bytes: 0 });
        }
        return;
    };
    let relative = here.strip_prefix(root).map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = (!relative.is_empty()).then(|| FolderInfo::read(here, &relative));
    out.folders.extend(folder.clone());
    for entry in entries.flatten() {
        let path = entry.path();
        // Kubernetes mounts files as links, so what a link points to counts.
        let Ok(meta) = std::fs::metadata(&path) else { continue };
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if meta.is_dir() && depth < DEPTH_MAX && !hidden {
            scan_into(root, &path, depth + 1, out);
        } else if meta.is_file()
            && !hidden
            && path.extension().is_some_and(|e| e == "json")
            && out.files.len() < FILES_MAX
        {
            let (folder, modified) = (folder.clone(), meta.modified().ok());
            out.files.push(FileStamp { path, folder, modified, bytes: meta.len() });
        }
    }
}

fn read(tree: &Tree) -> Catalog {
    let mut catalog = Catalog { folders: tree.folders.clone(), ..Catalog::default() };
    for file in &tree.files {
        let name = file.path.to_string_lossy().into_owned();
        let mut broken = |error: String| catalog.broken.push(Broken { file: name.clone(), error });
        if file.path.is_dir() || file.modified.is_none() {
            broken("the folder cannot be read".to_owned());
            continue;
        }
        if file.bytes > FILE_BYTES_MAX {
            broken(format!("{} bytes, the limit is {FILE_BYTES_MAX}", file.bytes));
            continue;
        }
        let text = match std::fs::read_to_string(&file.path) {
            Ok(text) => text,
            Err(e) => {
                broken(format!("read: {e}"));
                continue;
            }
        };
        let stem = file.path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        match load(&text, &slug(&stem)) {
            Ok(dashboard) => add(&mut catalog, dashboard, Some(file), &text, &name),
            Err(e) => broken(e.to_string()),
        }
    }
    for (name, text) in BUILTIN {
        match load(text, name) {
            // A file with the same uid stands in for ours.
            Ok(d) if catalog.by_uid.contains_key(&d.uid) => {}
            Ok(d) => add(&mut catalog, d, None, text, name),
            Err(e) => catalog.broken.push(Broken { file: (*name).to_owned(), error: e.to_string() }),
        }
    }
    catalog.entries.sort_by_key(|e| (e.folder.clone(), e.dashboard.title.to_lowercase()));
    catalog.by_uid = catalog.entries.iter().enumerate().map(|(i, e)| (e.dashboard.uid.clone(), i)).collect();
    catalog
}

/// Adds a dashboard of `file`, or one that comes with us.
fn add(catalog: &mut Catalog, dashboard: Dashboard, file: Option<&FileStamp>, source: &str, name: &str) {
    if let Some(first) = catalog.by_uid.get(&dashboard.uid) {
        let title = &catalog.entries[*first].dashboard.title;
        let error = format!("uid {:?} is taken by the dashboard {title:?}", dashboard.uid);
        catalog.broken.push(Broken { file: name.to_owned(), error });
        return;
    }
    catalog.by_uid.insert(dashboard.uid.clone(), catalog.entries.len());
    let folder = file.and_then(|f| f.folder.as_ref());
    let modified = file.and_then(|f| f.modified?.duration_since(SystemTime::UNIX_EPOCH).ok());
    catalog.entries.push(Entry {
        version: dashboard.version,
        dashboard: Arc::new(dashboard),
        folder: folder.map(|f| f.title.clone()).unwrap_or_default(),
        folder_uid: folder.map(|f| f.uid.clone()).unwrap_or_default(),
        is_builtin: file.is_none(),
        path: file.map(|f| f.path.clone()),
        modified_ms: modified.and_then(|d| i64::try_from(d.as_millis()).ok()).unwrap_or(0),
        source: Arc::from(source),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(provider: &Provider, now_ms: i64, expected: &[&str]) {
        let catalog = provider.catalog(now_ms);
        let mut got: Vec<String> = catalog
            .entries
            .iter()
            .filter(|e| !e.is_builtin)
            .map(|e| format!("{}/{}", e.folder, e.dashboard.title))
            .collect();
        got.extend(
            catalog
                .broken
                .iter()
                .map(|b| format!("{}: {}", Path::new(&b.file).file_name().unwrap().to_string_lossy(), b.error)),
        );
        assert_eq!(got, expected);
    }

    #[test]
    fn files_come_go_and_break_without_harming_others() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::create_dir(dir.path().join("team")).unwrap();
        write("a.json", r#"{"title": "A", "uid": "a"}"#);
        write("team/b.json", r#"{"title": "B"}"#);
        write("bad.json", "{");
        write("same.json", r#"{"title": "C", "uid": "a"}"#);
        write("notes.txt", "x");
        let provider = Provider::new(vec![dir.path().to_owned()]);
        let bad = "bad.json: 1:1: EOF while parsing an object";
        check(&provider, 0, &["/A", "team/B", bad, "same.json: uid \"a\" is taken by the dashboard \"A\""]);
        write("bad.json", r#"{"title": "Mended"}"#);
        std::fs::remove_file(dir.path().join("same.json")).unwrap();
        check(&provider, POLL_MS - 1, &["/A", "team/B", bad, "same.json: uid \"a\" is taken by the dashboard \"A\""]);
        check(&provider, POLL_MS + 1, &["/A", "/Mended", "team/B"]);
        assert_eq!(provider.catalog(POLL_MS + 1).get("bad").unwrap().dashboard.title, "Mended");
    }

    #[test]
    fn missing_folder_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let provider = Provider::new(vec![dir.path().join("gone")]);
        check(&provider, 0, &["gone: the folder cannot be read"]);
    }
}
