//! A browser: Chromium without a screen, led by `tests/presence/browse.js`.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::packages::Script;
use crate::support::tools::CHROMIUM;

/// Chromium.
pub(crate) struct Browser {
    script: Script,
    _folder: TempDir,
}

impl Browser {
    pub(crate) async fn start(flags: &[&str]) -> Self {
        CHROMIUM.must_be_there();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        let arguments: Vec<_> = [&*path].into_iter().chain(flags.iter().copied()).collect();
        let mut script = Script::start("browse.js", &arguments, &[]).await;
        let begun = script.next().await;
        assert!(begun["done"].is_string(), "{begun}");
        Self {
            script,
            _folder: folder,
        }
    }

    /// Has it do something, which must succeed.
    pub(crate) async fn does(&mut self, command: Value) -> Value {
        self.script.say(&command.to_string());
        let mut answer = self.script.next().await;
        assert!(answer["failed"].is_null(), "{}", answer["failed"]);
        answer["done"].take()
    }

    /// Waits until an expression of the page holds; its value.
    pub(crate) async fn until(&mut self, expression: &str) -> Value {
        self.does(json!({ "until": expression })).await
    }

    /// The same for a page whose policy lets nobody evaluate anything in it.
    pub(crate) async fn sees(&mut self, expression: &str) -> Value {
        self.does(json!({ "see": expression })).await
    }
}
