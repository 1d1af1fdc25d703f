//! `tidegate token`: a token for trying the presence plugin, as a customer's server would mint it.
//!
//! Signed with what the configuration says, and verified by it before it is printed. Never for production: whoever may run
//! this holds the account's secrets.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use crate::clock::Clock;
use crate::config::{self, Secrets, units};
use crate::presence::token::Draft;
use crate::presence::{Name, Settings};

/// What the token is to say.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration.
    #[arg(short, long, env = "TIDEGATE_CONFIG", default_value = "tidegate.yaml")]
    pub config: PathBuf,
    /// Whose token it is.
    #[arg(long, value_parser = Name::new)]
    pub identity: Name,
    /// The account [default: the first].
    #[arg(long, value_name = "AC…")]
    pub account: Option<String>,
    /// It may be rung.
    #[arg(long)]
    pub incoming: bool,
    /// It may call out, by this application's instructions.
    #[arg(long, value_name = "AP…")]
    pub outgoing: Option<String>,
    /// Its presence grant: `{"publish": true, "subscribe": ["team:*"]}`.
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub presence: Option<serde_json::Value>,
    /// How long it is good, up to a day.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
    pub ttl: Duration,
    /// A capability token, signed with the account's auth token.
    #[arg(long)]
    pub capability: bool,
}

/// Prints the token, and nothing else, so that it can be passed on.
pub fn run(args: &Args, out: &mut impl Write, err: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = match config::load(&args.config, Secrets::Required) {
        Ok(config) => config,
        Err(report) => {
            writeln!(err, "{report}")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let settings = config.presence.as_ref();
    let settings = settings.context("there is no `presence` in the configuration")?;
    writeln!(
        out,
        "{}",
        token(args, settings, Clock::default().unix_time())?
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The token, by the configuration's secrets, from that time on.
fn token(args: &Args, settings: &Settings, unix_time: Duration) -> anyhow::Result<String> {
    let draft = Draft {
        identity: args.identity.clone(),
        account: args.account.clone(),
        may_receive: args.incoming,
        application: args.outgoing.clone(),
        presence: args.presence.clone(),
        ttl: args.ttl,
        is_capability: args.capability,
    };
    Ok(draft.sign(settings, unix_time)?)
}

fn json(text: &str) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::from_str(text)
}

/// A lifetime of whole seconds, which is what a token can say.
fn time(text: &str) -> Result<Duration, String> {
    let time = units::duration(text).map_err(|error| format!("{error}; {}", error.hint))?;
    if time < Duration::from_secs(1) {
        return Err("a token is good for a second at least".to_owned());
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::token::Verifier;
    use crate::presence::{AccountSettings, ApiAccess, KeySettings, SecretText};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn settings() -> Settings {
        let account = AccountSettings {
            sid: "AC1".to_owned(),
            auth_tokens: vec![SecretText("auth".to_owned())],
            keys: vec![KeySettings {
                id: "SK1".to_owned(),
                secrets: vec![
                    SecretText("first".to_owned()),
                    SecretText("second".to_owned()),
                ],
            }],
            webhooks: Vec::new(),
            api: ApiAccess::Tokens,
            ..AccountSettings::default()
        };
        Settings {
            accounts: vec![account],
            ..Settings::default()
        }
    }

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn typed(arguments: &[&str]) -> anyhow::Result<String> {
        let arguments = ["token", "--identity", "alice"].iter().chain(arguments);
        token(&Line::try_parse_from(arguments)?.args, &settings(), NOW)
    }

    // PLUGIN §7: what is typed is what the bearer may do, by either kind of token.
    #[test]
    fn a_token_says_what_was_typed() {
        let verifier = Verifier::new(&settings());
        let presence = r#"{"publish": true, "subscribe": ["team:*"]}"#;
        let access = [
            "--incoming",
            "--outgoing",
            "AP1",
            "--presence",
            presence,
            "--ttl",
            "90s",
        ];
        let grant = verifier.verify(&typed(&access).unwrap(), NOW).unwrap();
        assert_eq!(
            (grant.identity.as_str(), grant.issuer.as_str()),
            ("alice", "SK1")
        );
        assert_eq!(grant.expires, NOW.as_secs() + 90);
        assert!(grant.may_receive && grant.may_give && grant.obtain.len() == 1);
        assert_eq!(grant.call_out.unwrap().application, "AP1");
        let capability = ["--capability", "--incoming", "--account", "AC1"];
        let grant = verifier.verify(&typed(&capability).unwrap(), NOW).unwrap();
        assert_eq!(
            (grant.issuer.as_str(), grant.expires),
            ("AC1", NOW.as_secs() + 3_600)
        );
    }

    #[test]
    fn what_cannot_be_minted_says_why() {
        let told = |arguments: &[&str]| format!("{:#}", typed(arguments).unwrap_err());
        assert!(told(&["--account", "AC2"]).contains("no account `AC2`"));
        assert!(told(&["--ttl", "25h"]).contains("24 hours"));
        assert!(told(&["--ttl", "5"]).contains("has no unit"));
        assert!(told(&["--ttl", "5ms"]).contains("a second"));
        assert!(told(&["--capability"]).contains("without rights"));
        assert!(told(&["--presence", "{"]).contains("--presence"));
        assert!(told(&["--presence", "{\"restrict\":1}"]).contains("grants.presence.restrict"));
        let nobody = Line::try_parse_from(["token", "--identity", ""]).map(|line| line.args);
        assert!(
            nobody
                .unwrap_err()
                .to_string()
                .contains("1 to 121 characters")
        );
    }
}
