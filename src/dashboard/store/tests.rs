//! Saving, versions, folders and notes over a real folder.

use std::path::PathBuf;

use super::*;
use crate::dashboard::provider::Provider;

struct Folder {
    dir: tempfile::TempDir,
    provider: Provider,
    store: Store,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folders = [dir.path().to_owned()];
        Self { provider: Provider::new(folders.to_vec()), store: Store::new(&folders, false), dir }
    }

    fn save(&self, dashboard: &str, change: impl FnOnce(&mut Save)) -> Result<Saved, SaveError> {
        let dashboard = serde_json::from_str(dashboard).unwrap();
        let mut save = Save { dashboard, ..Save::default() };
        change(&mut save);
        self.store.save(save, &|| self.provider.fresh_catalog(0), 1_000)
    }

    fn files(&self) -> Vec<String> {
        fn walk(dir: &Path, root: &Path, out: &mut Vec<String>) {
            for entry in std::fs::read_dir(dir).unwrap().flatten() {
                match entry.path() {
                    path if path.is_dir() => walk(&path, root, out),
                    path => out.push(path.strip_prefix(root).unwrap().display().to_string()),
                }
            }
        }
        let mut out = Vec::new();
        walk(self.dir.path(), self.dir.path(), &mut out);
        out.sort();
        out
    }

    fn versions(&self, uid: &str) -> Vec<(i64, String)> {
        let all = self.store.history(uid).unwrap();
        all.into_iter().map(|v| (v.version, format!("{} {}", string(&v.dashboard, "title"), v.message))).collect()
    }
}

#[track_caller]
fn refused(result: Result<Saved, SaveError>, expected: &str) {
    let message = result.unwrap_err().to_string();
    assert!(message.contains(expected), "{message:?} lacks {expected:?}");
}

#[test]
fn every_change_is_a_version_and_the_file_the_last() {
    let f = Folder::new();
    let first = f.save(r#"{"uid": "u", "title": "One", "id": 7}"#, |s| s.message = "made".into()).unwrap();
    assert_eq!((first.version, first.slug.as_str()), (1, "one"));
    let second = f.save(r#"{"uid": "u", "title": "Two", "version": 1}"#, |_| ()).unwrap();
    assert_eq!(second.version, 2);
    // The file keeps its name when the title changes, so that what refers to it stays right.
    assert_eq!(f.files(), [".history/u/000001.json", ".history/u/000002.json", "one.json"]);
    assert_eq!(f.versions("u"), [(2, "Two ".into()), (1, "One made".into())]);
    let catalog = f.provider.fresh_catalog(0);
    let entry = catalog.get("u").unwrap();
    assert_eq!((entry.dashboard.title.as_str(), entry.version), ("Two", 2));
    assert!(entry.source.contains("\"id\": null"));

    refused(
        f.save(r#"{"uid": "u", "title": "Late", "version": 1}"#, |_| ()),
        "is at version 2, the change is one of version 1",
    );
    assert_eq!(f.save(r#"{"uid": "u", "title": "Late", "version": 1}"#, |s| s.overwrite = true).unwrap().version, 3);

    f.store.delete("u", &|| f.provider.fresh_catalog(0)).unwrap();
    assert!(f.provider.fresh_catalog(0).get("u").is_none());
    assert_eq!(f.versions("u").len(), 3);
    let again = f.save(r#"{"uid": "u", "title": "Back"}"#, |_| ()).unwrap();
    assert_eq!(again.version, 4);
}

#[test]
fn what_was_put_there_by_hand_is_a_version_too() {
    let f = Folder::new();
    std::fs::write(f.dir.path().join("hand.json"), r#"{"dashboard": {"uid": "h", "title": "By hand"}}"#).unwrap();
    f.save(r#"{"uid": "h", "title": "Saved"}"#, |_| ()).unwrap();
    assert_eq!(f.versions("h"), [(1, "Saved ".into()), (0, "By hand ".into())]);
    // An editor or a deployment replaces the file behind our back.
    std::fs::write(f.dir.path().join("hand.json"), r#"{"uid": "h", "title": "Deployed", "version": 1}"#).unwrap();
    f.save(r#"{"uid": "h", "title": "Again", "version": 1}"#, |_| ()).unwrap();
    let titles: Vec<String> = f.versions("h").into_iter().map(|(v, t)| format!("{v} {t}")).collect();
    assert_eq!(titles, ["3 Again ", "2 Deployed ", "1 Saved ", "0 By hand "]);
}

#[test]
fn names_of_files_are_free_and_stay_inside() {
    let f = Folder::new();
    let uid = |i: usize| f.save(r#"{"title": "../../Same <title>"}"#, |s| s.message = i.to_string()).unwrap().uid;
    let uids = [uid(1), uid(2)];
    assert_ne!(uids[0], uids[1]);
    let files: Vec<String> = f.files().into_iter().filter(|n| !n.starts_with(".history")).collect();
    assert_eq!(files, ["same-title-2.json", "same-title.json"]);
    refused(f.save(r#"{"uid": "../x", "title": "T"}"#, |_| ()), "is not one");
    refused(f.save(r#"{"uid": "..", "title": "T"}"#, |_| ()), "is not one");
    refused(f.save(r#"{"uid": "a"}"#, |_| ()), "none of `title`, `panels`, `rows`");
    refused(f.save("[]", |_| ()), "does not hold an object");
    refused(f.save(r#"{"title": "T"}"#, |s| s.folder = Some("none".into())), "Folder not found");
    let large = format!(r#"{{"title": "T", "x": "{}"}}"#, "x".repeat(SAVED_BYTES_MAX));
    refused(f.save(&large, |_| ()), "more than the 8388608");
    // A uid from a file may be anything; what belongs to it stays in its place.
    std::fs::write(f.dir.path().join("odd.json"), r#"{"uid": "../../odd", "title": "Odd"}"#).unwrap();
    f.store.delete("../../odd", &|| f.provider.fresh_catalog(0)).unwrap();
    assert!(f.files().contains(&".history/%2E.%2F..%2Fodd/000000.json".to_owned()), "{:?}", f.files());
}

#[test]
fn nothing_is_saved_where_nothing_may_be() {
    let f = Folder::new();
    let save = |store: &Store| {
        let dashboard = serde_json::from_str(r#"{"title": "T"}"#).unwrap();
        store.save(Save { dashboard, ..Save::default() }, &|| f.provider.fresh_catalog(0), 0)
    };
    refused(save(&Store::new(&[f.dir.path().to_owned()], true)), "--dashboards.read-only");
    refused(save(&Store::new(&[], false)), "--dashboards.path=FOLDER");
    let file = f.dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    refused(save(&Store::new(&[PathBuf::from(&file)], false)), "file");
    let builtin = f.store.delete("promontory-node", &|| f.provider.fresh_catalog(0)).unwrap_err();
    assert!(builtin.to_string().contains("comes with the program"), "{builtin}");
}

#[test]
fn folders_come_change_and_go() {
    let f = Folder::new();
    let catalog = || f.provider.fresh_catalog(0);
    let made = f.store.save_folder("team-uid", "Team A", true, &catalog).unwrap();
    assert_eq!((made.uid.as_str(), made.title.as_str()), ("team-uid", "Team A"));
    assert!(f.store.save_folder("team-uid", "Other", true, &catalog).is_err());
    assert!(f.store.save_folder("", "Team A", true, &catalog).is_err());
    let saved = f.save(r#"{"uid": "u", "title": "T"}"#, |s| s.folder = Some("team-uid".into())).unwrap();
    assert_eq!(saved.folder_uid, "team-uid");
    assert!(f.files().contains(&"team-a/t.json".to_owned()), "{:?}", f.files());
    f.store.save_folder("team-uid", "Team B", false, &catalog).unwrap();
    let entry = catalog().get("u").unwrap().clone();
    assert_eq!((entry.folder.as_str(), entry.folder_uid.as_str()), ("Team B", "team-uid"));
    // Without a word of a folder a dashboard stays where it is; to the root it moves.
    assert_eq!(f.save(r#"{"uid": "u", "title": "T", "version": 1}"#, |_| ()).unwrap().folder_uid, "team-uid");
    let moved = f.save(r#"{"uid": "u", "title": "T", "version": 2}"#, |s| s.folder = Some(String::new())).unwrap();
    assert_eq!(moved.folder_uid, "");
    assert!(f.files().contains(&"t.json".to_owned()) && !f.files().contains(&"team-a/t.json".to_owned()));
    f.save(r#"{"uid": "u", "title": "T", "version": 3}"#, |s| s.folder = Some("team-uid".into())).unwrap();
    std::fs::write(f.dir.path().join("team-a/notes.txt"), "mine").unwrap();
    let kept = f.store.delete_folder("team-uid", &catalog).unwrap_err().to_string();
    assert!(kept.contains("notes.txt"), "{kept}");
    std::fs::remove_file(f.dir.path().join("team-a/notes.txt")).unwrap();
    f.store.delete_folder("team-uid", &catalog).unwrap();
    assert!(!f.dir.path().join("team-a").exists() && catalog().get("u").is_none());
}

#[test]
fn notes_are_kept_found_changed_and_removed() {
    let f = Folder::new();
    let note = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let added = f
        .store
        .add_note(
            &note(r#"{"dashboardUID": "u", "time": 100, "timeEnd": 200, "text": "Deploy", "tags": ["a", "b"]}"#),
            5,
        )
        .unwrap();
    assert_eq!(added.id, 1);
    assert_eq!(f.store.add_note(&note(r#"{"text": "Now", "tags": ["a"]}"#), 5_000).unwrap().from_ms, 5_000);
    assert!(f.store.add_note(&note(r#"{"text": " "}"#), 5).is_err());
    let found = |filter: NoteFilter| f.store.notes(&filter).iter().map(|n| n.text.clone()).collect::<Vec<_>>();
    assert_eq!(found(NoteFilter::default()), ["Deploy", "Now"]);
    assert_eq!(found(NoteFilter { dashboard: Some("u".into()), ..NoteFilter::default() }), ["Deploy"]);
    assert_eq!(found(NoteFilter { window: Some((150, 300)), ..NoteFilter::default() }), ["Deploy"]);
    assert_eq!(found(NoteFilter { tags: vec!["b".into()], ..NoteFilter::default() }), ["Deploy"]);
    f.store.change_note(1, &note(r#"{"text": "Rollback"}"#)).unwrap();
    assert_eq!(found(NoteFilter::default()), ["Rollback", "Now"]);
    assert_eq!(f.store.notes(&NoteFilter::default())[0].to_ms, 200);
    f.store.delete_note(2).unwrap();
    assert!(f.store.delete_note(2).is_err());
    // A number is never given twice.
    assert_eq!(f.store.add_note(&note(r#"{"text": "Next"}"#), 1).unwrap().id, 3);
}
