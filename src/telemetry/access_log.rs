//! The access log.

use std::path::PathBuf;

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// This file, appended to.
    File(PathBuf),
}

/// What the access log is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Where it goes.
    pub target: LogTarget,
}
