//! What the program tells about itself.

mod access_log;

pub use access_log::{LogSettings, LogTarget};
