//! Both file systems behave alike; the simulated one loses what a machine may lose.

use std::path::{Path, PathBuf};

use super::sim::{Op, Survival};
use super::*;

#[track_caller]
fn behaves(vfs: &dyn Vfs, root: &Path) {
    let dir = root.join("a/b");
    vfs.create_dir_all(&dir).unwrap();
    vfs.create_dir_all(&dir).unwrap();
    let path = dir.join("f");
    assert!(vfs.open_append(&path).unwrap_err().is_not_found());
    let file = vfs.create(&path).unwrap();
    file.write_all(b"hello ").unwrap();
    file.write_all(b"world").unwrap();
    file.sync().unwrap();
    assert_eq!(file.len().unwrap(), 11);
    let mut buf = [0; 5];
    file.read_exact_at(6, &mut buf).unwrap();
    assert_eq!(&buf, b"world");
    assert_eq!(file.read_exact_at(7, &mut buf).unwrap_err().source.kind(), io::ErrorKind::UnexpectedEof);
    let view = vfs.map_read(&path).unwrap();
    file.truncate(11).unwrap();
    vfs.open_append(&path).unwrap().write_all(b"!").unwrap();
    assert_eq!(&*view, b"hello world");
    assert_eq!(read(vfs, &path).unwrap(), b"hello world!");
    file.truncate(5).unwrap();
    file.write_all(b".").unwrap();
    assert_eq!(read(vfs, &path).unwrap(), b"hello.");
    replace(vfs, &path, b"new").unwrap();
    assert_eq!(read(vfs, &path).unwrap(), b"new");
    assert_eq!(&*vfs.map_read(&path).unwrap(), b"new");
    vfs.rename(&dir, &root.join("a/c")).unwrap();
    let entries = vfs.read_dir(&root.join("a/c")).unwrap();
    assert_eq!(entries, [DirEntry { name: "f".into(), is_dir: false, len: 3 }]);
    vfs.sync_dir(&root.join("a")).unwrap();
    let space = vfs.disk_space(root).unwrap();
    assert!(space.free > 0 && space.free <= space.total, "{space:?}");
    let lock = vfs.lock(&root.join("lock")).unwrap();
    let refused = vfs.lock(&root.join("lock")).unwrap_err();
    assert_eq!(refused.source.kind(), io::ErrorKind::WouldBlock);
    drop(lock);
    vfs.lock(&root.join("lock")).unwrap();
    assert_eq!(vfs.map_read(&root.join("a/c/x")).unwrap_err().source.kind(), io::ErrorKind::NotFound);
    drop(vfs.create(&root.join("empty")).unwrap());
    assert!(vfs.map_read(&root.join("empty")).unwrap().is_empty());
    vfs.remove_file(&root.join("a/c/f")).unwrap();
    vfs.remove_dir_all(&root.join("a")).unwrap();
    assert!(vfs.read_dir(&root.join("a")).unwrap_err().is_not_found());
}

#[test]
fn real_and_simulated_files_behave_alike() {
    let dir = tempfile::tempdir().unwrap();
    behaves(&RealVfs, dir.path());
    let sim = SimVfs::new();
    sim.create_dir_all(dir.path()).unwrap();
    behaves(&sim, dir.path());
}

fn written(sync_file: bool, sync_dir: bool) -> SimVfs {
    let vfs = SimVfs::new();
    let file = vfs.create(Path::new("f")).unwrap();
    file.write_all(&[7; 600]).unwrap();
    if sync_file {
        file.sync().unwrap();
    }
    if sync_dir {
        vfs.sync_dir(Path::new("")).unwrap();
    }
    file.write_all(&[8; 600]).unwrap();
    vfs
}

#[track_caller]
fn check(vfs: &SimVfs, survival: Survival, expected: Option<Vec<u8>>) {
    assert_eq!(read(&vfs.crash(survival, 1), Path::new("f")).ok(), expected);
}

#[test]
fn only_synced_bytes_and_names_survive_power_loss() {
    let both = [[7; 600], [8; 600]].concat();
    check(&written(false, false), Survival::All, Some(both));
    check(&written(false, false), Survival::Synced, None);
    check(&written(true, false), Survival::Synced, None);
    check(&written(false, true), Survival::Synced, Some(vec![]));
    check(&written(true, true), Survival::Synced, Some(vec![7; 600]));
}

#[test]
fn a_prefix_survives_and_its_last_sector_may_be_torn() {
    let vfs = written(true, true);
    for seed in 0..50 {
        let kept = read(&vfs.crash(Survival::Prefix, seed), Path::new("f")).unwrap();
        assert!(kept.len() >= 600 && kept[..600] == [7; 600] && kept[600..].iter().all(|&b| b == 8));
        let torn = read(&vfs.crash(Survival::TornSector, seed), Path::new("f")).unwrap();
        assert!(torn.len() >= 600 && torn[..600] == [7; 600]);
    }
}

#[test]
fn everything_fails_from_the_crash_on() {
    let vfs = SimVfs::new();
    vfs.crash_at(2);
    let file = vfs.create(Path::new("f")).unwrap();
    file.write_all(b"ab").unwrap();
    assert!(!vfs.has_crashed());
    assert!(file.write_all(b"cdef").is_err());
    assert!(vfs.has_crashed());
    assert!(file.sync().is_err() && vfs.map_read(Path::new("f")).is_err());
    assert_eq!(read(&vfs.crash(Survival::All, 0), Path::new("f")).unwrap(), b"abcd");
    assert_eq!(vfs.files(Path::new("")), [PathBuf::from("f")]);
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let vfs = SimVfs::new();
    vfs.set_space(Some(4));
    let file = vfs.create(Path::new("f")).unwrap();
    file.write_all(b"abc").unwrap();
    let e = file.write_all(b"def").unwrap_err();
    assert!(e.is_no_space());
    assert_eq!(e.to_string(), "write f at 3: no storage space");
    file.truncate(3).unwrap();
    assert_eq!(vfs.disk_space(Path::new("")).unwrap(), DiskSpace { total: 4, free: 1 });
    vfs.set_space(None);
    file.write_all(b"def").unwrap();
    vfs.fail_next(Op::Sync, io::ErrorKind::Other);
    assert!(file.sync().is_err());
    file.sync().unwrap();
    assert_eq!(read(&vfs, Path::new("f")).unwrap(), b"abcdef");
}
