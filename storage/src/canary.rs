//! Bugs that the tests must notice. In the tests of this package the variable `PROMONTORY_CANARY` plants one of them;
//! `.ci/canaries` shows that a test fails for each. Elsewhere they are compiled away.

macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident $name:literal,)*) => {
        /// A bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Bug {
            $($(#[$doc])* $bug,)*
        }

        /// All bugs and their names.
        #[cfg(test)]
        const ALL: &[(Bug, &str)] = &[$((Bug::$bug, $name),)*];
    };
}

bugs! {
    /// A commit returns before the log is handed to the system.
    AckBeforeWrite "ack-before-write",
    /// A sync of the log does nothing.
    WalNotSynced "wal-not-synced",
    /// The name of a new segment of the log is not synced.
    WalNameNotSynced "wal-name-not-synced",
    /// The first sync after a replay leaves out what was replayed.
    ReplayedNotSynced "replayed-not-synced",
    /// The torn tail of the log is left.
    TornTailKept "torn-tail-kept",
    /// Records of the log are believed without their checksum.
    RecordCrcIgnored "record-crc-ignored",
    /// A file is renamed before it is synced.
    RenamedBeforeSync "renamed-before-sync",
    /// What the log holds is removed while the manifest may still be the old one.
    RenameNotSynced "rename-not-synced",
    /// A manifest names chunks that are not synced.
    ChunksNotSynced "chunks-not-synced",
    /// A manifest names series that are not synced.
    SeriesNotSynced "series-not-synced",
    /// The log goes while rows are open that only it has.
    LogRemovedEarly "log-removed-early",
    /// The head forgets what was to become a block although the block is not there.
    FloorWithoutBlock "floor-without-block",
    /// A block gets its name before its data is synced.
    BlockNotSynced "block-not-synced",
    /// Chunks are believed without their checksum.
    ChunkCrcIgnored "chunk-crc-ignored",
    /// Sections of blocks are believed without their checksum.
    SectionCrcIgnored "section-crc-ignored",
    /// Batches of series are believed without their checksum.
    SeriesCrcIgnored "series-crc-ignored",
    /// The manifest is believed without its checksum.
    ManifestCrcIgnored "manifest-crc-ignored",
    /// A chunk that lies twice in a segment counts twice.
    ChunkCountedTwice "chunk-counted-twice",
}

/// Whether this bug is planted.
#[cfg(not(test))]
#[inline]
pub(crate) const fn is_planted(_: Bug) -> bool {
    false
}

/// Whether this bug is planted.
#[cfg(test)]
pub(crate) fn is_planted(bug: Bug) -> bool {
    static PLANTED: std::sync::LazyLock<Option<Bug>> = std::sync::LazyLock::new(|| {
        let name = std::env::var("PROMONTORY_CANARY").ok()?;
        let found = ALL.iter().find(|(_, n)| *n == name);
        Some(found.unwrap_or_else(|| panic!("no bug is named {name}")).0)
    });
    *PLANTED == Some(bug)
}

#[test]
fn every_bug_is_in_the_script() {
    let script = include_str!("../../.ci/canaries");
    for (bug, name) in ALL {
        assert!(script.lines().any(|line| line.split(' ').next() == Some(name)), "{bug:?}: {name} is missing");
    }
}
