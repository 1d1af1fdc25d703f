//! What the demo of calls must have and nobody may know: a certificate, an account's secrets, and the tokens that they sign.
//!
//! All of it is made at the start, at random, and good for this one run. The gate reads certificates and secrets from files, as it
//! does an operator's; they are in a folder that only this user may open, and go with the demo. Never printed.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::presence::token::Draft;
use crate::presence::{AccountSettings, KeySettings, Name, SecretText, Settings};

/// How long a page's token is good: a day's trying.
const TOKEN_LIFE: Duration = Duration::from_hours(12);

/// Names and secrets of the demo's account, and where its files are.
#[derive(Debug)]
pub(super) struct Papers {
    folder: PathBuf,
    /// `AC…`, `SK…` and `AP…`: the account, its key, its application.
    pub(super) account: String,
    pub(super) key: String,
    pub(super) application: String,
    settings: Settings,
}

impl Papers {
    /// Makes all of it.
    pub(super) fn make() -> anyhow::Result<Self> {
        let (account, key) = (sid("AC"), sid("SK"));
        let (auth_token, secret) = (secret()?, secret()?);
        let folder = std::env::temp_dir().join(format!("tidegate-demo-{:016x}", fastrand::u64(..)));
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .with_context(|| {
                format!("no folder for the demo's certificate: {}", folder.display())
            })?;
        let papers = Self {
            folder,
            settings: settings(&account, &key, &secret),
            account,
            key,
            application: sid("AP"),
        };
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names);
        let made = made.context("no certificate for the demo")?;
        papers.write("gate.crt", &made.cert.pem())?;
        papers.write("gate.key", &made.signing_key.serialize_pem())?;
        papers.write("auth_token", &auth_token)?;
        papers.write("secret", &secret)?;
        Ok(papers)
    }

    /// Where the files are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A token as `tidegate token` mints it: its bearer calls and is called, shows itself, and sees everybody.
    pub(super) fn token(&self, identity: &str, unix_time: Duration) -> anyhow::Result<String> {
        let draft = Draft {
            identity: Name::new(identity)?,
            account: None,
            may_receive: true,
            application: Some(self.application.clone()),
            presence: Some(serde_json::json!({ "publish": true, "subscribe": ["*"] })),
            ttl: TOKEN_LIFE,
            is_capability: false,
        };
        Ok(draft.sign(&self.settings, unix_time)?)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Drop for Papers {
    fn drop(&mut self) {
        // What cannot be removed is in a folder of this user's, and of no use to anybody any more.
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// As much of the configuration as signing takes.
fn settings(account: &str, key: &str, secret: &str) -> Settings {
    let key = KeySettings {
        id: key.to_owned(),
        secrets: vec![SecretText(secret.to_owned())],
    };
    let account = AccountSettings {
        sid: account.to_owned(),
        keys: vec![key],
        ..AccountSettings::default()
    };
    Settings {
        accounts: vec![account],
        ..Settings::default()
    }
}

fn sid(kind: &str) -> String {
    format!("{kind}{:032x}", fastrand::u128(..))
}

/// 256 bits that nobody can guess.
fn secret() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("no randomness for the demo's secrets"))?;
    let [high, low] = [&bytes[..16], &bytes[16..]].map(|half| {
        let half = half.iter();
        half.fold(0_u128, |word, byte| word << 8 | u128::from(*byte))
    });
    Ok(format!("{high:032x}{low:032x}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::token::Verifier;
    use std::os::unix::fs::PermissionsExt as _;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    #[test]
    fn a_page_may_call_be_called_and_see() {
        let papers = Papers::make().unwrap();
        let token = papers.token("alice", NOW).unwrap();
        let grant = Verifier::new(&papers.settings).verify(&token, NOW).unwrap();
        assert_eq!(grant.identity.as_str(), "alice");
        assert!(grant.may_receive && grant.may_give && grant.obtain.len() == 1);
        assert_eq!(grant.call_out.unwrap().application, papers.application);
    }

    #[test]
    fn papers_are_this_users_alone_and_go_with_the_demo() {
        let papers = Papers::make().unwrap();
        let folder = papers.folder().to_owned();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        for name in ["gate.crt", "gate.key", "auth_token", "secret"] {
            assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
        }
        assert_ne!(
            papers.account,
            Papers::make().unwrap().account,
            "each run has its own"
        );
        drop(papers);
        assert!(!folder.exists());
    }
}
