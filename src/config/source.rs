//! Where the configuration comes from: the bytes of the file, and the secrets beside it.
//!
//! The only place that reads the environment. Everything read is bounded. Never prints a secret.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use super::diagnostic::{Diagnostic, Report};

/// Longest configuration, so that a wrong path (a log, a device) costs little.
const FILE_MAX: u64 = 1 << 20;
/// Longest secret: a PEM of the largest key in use is a few KiB.
const SECRET_MAX: u64 = 64 << 10;

/// The text of the file.
pub(super) fn read(path: &Path) -> Result<String, Report> {
    let name = path.display().to_string();
    let finding = |code, message: &str, hint| {
        Report::from(Diagnostic::of_file(
            &name,
            code,
            format!("the configuration {message}"),
            hint,
        ))
    };
    if path.is_dir() {
        return Err(finding(
            "unreadable",
            "is a directory",
            "name the file in it: -c DIRECTORY/tidegate.yaml",
        ));
    }
    let bytes = match read_bounded(path, FILE_MAX) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            return Err(finding(
                "too_large",
                "is larger than 1 MiB",
                "put long lists of accounts into groups",
            ));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let hint =
                "name the file with -c FILE or in TIDEGATE_CONFIG; config.example.yaml is a start";
            return Err(finding("not_found", "is not there", hint));
        }
        Err(error) => {
            let hint = "the process that runs tidegate must be allowed to read it";
            return Err(finding(
                "unreadable",
                &format!("cannot be read: {error}"),
                hint,
            ));
        }
    };
    String::from_utf8(bytes).map_err(|_| {
        finding(
            "encoding",
            "is not UTF-8",
            "save it as UTF-8 (UTF-16 and Latin-1 are not read)",
        )
    })
}

/// A secret of the environment.
#[expect(clippy::disallowed_methods, reason = "this is the place that asks")]
pub(super) fn secret_of_env(name: &str) -> Result<String, String> {
    match std::env::var(name) {
        Ok(secret) if secret.is_empty() => Err(format!("the variable `{name}` is empty")),
        Ok(secret) => Ok(secret),
        Err(std::env::VarError::NotPresent) => Err(format!("the variable `{name}` is not set")),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(format!("the variable `{name}` is not UTF-8"))
        }
    }
}

/// A secret of a file, without its last line break.
pub(super) fn secret_of_file(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let bytes = read_bounded(path, SECRET_MAX)
        .map_err(|error| format!("`{shown}` cannot be read: {error}"))?;
    let bytes = bytes.ok_or_else(|| format!("`{shown}` is larger than 64 KiB"))?;
    let mut secret = String::from_utf8(bytes).map_err(|_| format!("`{shown}` is not UTF-8"))?;
    if secret.ends_with('\n') {
        secret.pop();
    }
    if secret.ends_with('\r') {
        secret.pop();
    }
    if secret.is_empty() {
        Err(format!("`{shown}` is empty"))
    } else {
        Ok(secret)
    }
}

/// The bytes of a file that is no longer than `max`, which is whole KiB.
pub(super) fn bytes_of_file(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let bytes =
        read_bounded(path, max).map_err(|error| format!("`{shown}` cannot be read: {error}"))?;
    bytes.ok_or_else(|| format!("`{shown}` is larger than {} KiB", max / 1024))
}

/// Whether a file can be read, and why not.
pub(super) fn readable(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let opened = File::open(path).map_err(|error| format!("`{shown}` cannot be read: {error}"))?;
    match opened.metadata() {
        Ok(about) if about.is_dir() => Err(format!("`{shown}` is a directory")),
        _ => Ok(()),
    }
}

/// `None` if there is more than `max`.
fn read_bounded(path: &Path, max: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= max).then_some(bytes))
}
