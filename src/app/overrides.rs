//! Temporary overrides: who is in force, until when, and the policy that is compiled with them.
//!
//! An override is no generation: the configuration stays what it is, with its number, and only the policy is compiled anew, so
//! that counts and those who wait stay. Each beginning and end is a line in the log. They live through a reload where their limit
//! and group do, and are forgotten by a restart. Never on a request's path.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Inner, State};
use crate::admin::Overrides;
use crate::admission::{Policy, PolicySettings, TemporaryFault, TemporaryMax, Whose};
use crate::config;

/// Most that are in force at once: more are a configuration.
const OVERRIDES_MAX: usize = 1_000;

impl Inner {
    /// All in force by limit, as the admin API shows them.
    pub(super) fn shown_overrides(&self) -> Overrides {
        let mut shown = Overrides::new();
        for of in &self.state.lock().overrides {
            let limit = shown.entry(Arc::clone(&of.limit)).or_default();
            limit.push(self.shown(of));
        }
        shown
    }

    fn shown(&self, of: &TemporaryMax) -> Value {
        let left = of.until.saturating_duration_since(self.gate.clock.now());
        let (account, group) = match &of.whose {
            Whose::Everyone => (None, None),
            Whose::Account(name) => (Some(name.as_str().to_owned()), None),
            Whose::Group(name) => (None, Some(name.to_string())),
        };
        json!({
            "limit": &*of.limit,
            "account": account,
            "group": group,
            "max": of.max,
            "until": config::rfc3339(self.gate.clock.unix_time() + left),
            "seconds_left": left.as_secs(),
        })
    }

    /// Puts one in force, instead of one for the same keys.
    pub(super) fn begin_override(
        &self,
        limit: &str,
        whose: Whose,
        max: u32,
        lasts: Duration,
    ) -> Result<Value, TemporaryFault> {
        let mut state = self.state.lock();
        let wanted = TemporaryMax {
            limit: limit.into(),
            whose,
            max,
            until: self.gate.clock.now() + lasts,
        };
        wanted.check(&state.running.policy)?;
        let known = state
            .overrides
            .iter()
            .filter(|of| !of.is_for_the_same(&wanted));
        if known.count() >= OVERRIDES_MAX {
            return Err(TemporaryFault::TooMany);
        }
        state.overrides.retain(|of| !of.is_for_the_same(&wanted));
        state.overrides.push(wanted.clone());
        self.put_in_force(&state);
        let shown = self.shown(&wanted);
        tracing::warn!(limit, whose = %shown_whose(&wanted.whose), max, until = %shown["until"], "limit overridden for a while");
        Ok(shown)
    }

    /// Ends one before its time; false if there is none.
    pub(super) fn end_override_of(&self, limit: &str, whose: &Whose) -> bool {
        self.end_overrides("ended by an operator", |of| {
            *of.limit == *limit && of.whose == *whose
        })
    }

    /// Ends those whose time is over.
    pub(super) fn expire_overrides(&self, now: Instant) {
        self.end_overrides("its time is over", |of| of.until <= now);
    }

    fn end_overrides(&self, why: &str, is_over: impl Fn(&TemporaryMax) -> bool) -> bool {
        let mut state = self.state.lock();
        if !state.overrides.iter().any(&is_over) {
            return false;
        }
        let over = state.overrides.extract_if(.., |of| is_over(of));
        over.for_each(|of| log_end(&of, why));
        self.put_in_force(&state);
        true
    }

    /// Compiles the running configuration's limits anew, with what is in force of the overrides.
    fn put_in_force(&self, state: &State) {
        let running = self.gate.generation();
        let settings = state
            .running
            .policy
            .clone()
            .with_temporary(&state.overrides);
        let policy = Arc::new(Policy::new(settings, Some(&running.policy)));
        self.gate.apply(running.with_policy(policy));
        self.applied.notify_one();
    }
}

impl State {
    /// Drops the overrides that a new configuration has no place for, and names them.
    pub(super) fn prune_overrides(&mut self, settings: &PolicySettings) -> Vec<Arc<str>> {
        let lost = self
            .overrides
            .extract_if(.., |of| of.check(settings).is_err());
        let lost = lost.inspect(|of| log_end(of, "the configuration has no place for it any more"));
        lost.map(|of| of.limit).collect()
    }
}

fn log_end(of: &TemporaryMax, why: &str) {
    let whose = shown_whose(&of.whose);
    tracing::warn!(limit = %of.limit, %whose, max = of.max, why, "override of a limit ended");
}

fn shown_whose(whose: &Whose) -> String {
    match whose {
        Whose::Everyone => "everyone".into(),
        Whose::Account(name) => format!("account {name}"),
        Whose::Group(name) => format!("group {name}"),
    }
}
