//! What a file looked like when it was last judged, so that a change is noticed without reading it.
//!
//! Links are followed: a Kubernetes ConfigMap changes by swapping the link to its folder, and the file behind it is
//! another then. Looking once a second misses nothing that such a stamp can show, on any file system.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The identity and age of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of the file that a path leads to now, if there is one.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        let changed = (file.ctime(), file.ctime_nsec());
        Some(Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            changed,
        })
    }
}
