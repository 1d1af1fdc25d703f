//! The section `limits`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::resource::Priority;
use super::scalar::{At, NumberOr, Scalar};

/// How much may be in flight for a key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Limit {
    /// Its name in refusals, metrics and logs.
    ///
    /// Required. Range: 1 to 64 lower-case letters, digits, `-`, `_` and `.`; not `retries`. Example: `account`.
    pub(in crate::config) name: At<String>,
    /// What it counts on, in any combination: `account`, `resource`, `group`, `upstream`, `client_network` (the /24 of IPv4, the
    /// /56 of IPv6), `process` (this sidecar only), `{ header: NAME }`, `{ path: CAPTURE }`. Requests without a value
    /// share the key `-`, so that leaving a header away evades nothing.
    ///
    /// Default: `[]`, one count for all. Range: up to 8, and up to 8 headers and captures over all limits. Example: `[account, resource]`.
    pub(in crate::config) per: Option<Vec<At<Per>>>,
    /// How many places a key has; 0 is closed. It moves by itself with `{ per_endpoint: 50, of: api }`, which follows the healthy
    /// endpoints, with `{ follow: { floor: 5, ceiling: 100 } }`, which follows what a key used of late, and with `{ adaptive: {} }`, which
    /// follows latency.
    ///
    /// Required. Range: 0 to 1,000,000,000. Example: `100`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) max: At<NumberOr<MovingMax>>,
    /// The only resources it covers.
    ///
    /// Default: all. Example: `[calls]`.
    pub(in crate::config) resources: Option<At<Vec<At<String>>>>,
    /// Resources it leaves out.
    ///
    /// Default: none. Example: `[signal]`.
    pub(in crate::config) except: Option<Vec<At<String>>>,
    /// The only upstreams it covers; `presence` is the presence plugin.
    ///
    /// Default: all. Example: `[api]`.
    pub(in crate::config) upstreams: Option<At<Vec<At<String>>>>,
    /// Whether a lease keeps its places here (`count`), or gives them back with the response's last byte (`skip`).
    ///
    /// Default: `count` where the key holds the account, else `skip`. Example: `skip`.
    pub(in crate::config) leases: Option<At<Leases>>,
    /// Places of accounts and groups of their own; the account's goes before its group's.
    ///
    /// Default: none. Range: up to 100,000 over all limits. Example: `[{ account: AC_GOLD, max: 300 }, { group: gold, max: 200 }]`.
    pub(in crate::config) overrides: Option<Vec<At<Override>>>,
    /// What is counted: `in_flight`; `{ in_flight_started_within: 30s }`, of which what is older counts no more; `{ starts_per: 1s }`, of
    /// which `max` may begin at once and then one each `1s / max`; `{ completions_per: 1m }`, what ended within that time and what
    /// is in flight. Who waits in a `queue` for what time gives back is let in when it fits, by turns and weight.
    ///
    /// Default: `in_flight`. Range: 100ms to 1h. Example: `{ starts_per: 1s }`.
    pub(in crate::config) count: Option<At<Count>>,
    /// One request of so many is counted, and stands for all of them: cores that share a count meet on it so much less. It is right on
    /// average, to a part of about the root of `sample / max`. Nobody can `queue` for it.
    ///
    /// Default: `1`. Range: 1 to 1,000. Example: `10`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) sample: Option<At<Scalar>>,
    /// It holds only while another limit is nearly full, as one on accounts that is to bite only when the whole is under pressure. It
    /// counts all the time. Nobody can `queue` for it.
    ///
    /// Default: always. Example: `{ limit: whole-api, percent: 80 }`.
    pub(in crate::config) when: Option<At<When>>,
    /// `enforce` refuses what does not fit, `shadow` only counts and notes, `off` does neither.
    ///
    /// Default: `enforce`. Example: `shadow`.
    pub(in crate::config) mode: Option<At<Mode>>,
    /// The store that holds one count for all sidecars. Not built yet.
    ///
    /// Default: each sidecar counts by itself. Example: `central`.
    pub(in crate::config) shared: Option<At<String>>,
    /// The ladder: what is tried with a request that does not fit, in order, each step once.
    ///
    /// Default: `[reject]`, with status 429 where the key holds account, group, header, path or client network, else 503. One
    /// that does not end in `reject` gets it appended. Range: up to 8 steps. Example: `[{ queue: { length: 100, timeout: 2s } }, reject]`.
    pub(in crate::config) when_full: Option<Vec<At<Step>>>,
    /// Places that an account or a group has for sure: while it holds less of them, what falls free goes to its waiting requests
    /// first. What it does not use, others may. It needs a `queue` in `when_full`.
    ///
    /// Default: none. Range: up to 16, together no more than `max`. Example: `[{ group: gold, min: 100 }]`.
    pub(in crate::config) guaranteed: Option<Vec<At<Guarantee>>>,
}

/// When a limit holds.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct When {
    /// The limit that is looked at: one on what is in flight, without a `when` of its own.
    ///
    /// Required. Example: `whole-api`.
    pub(in crate::config) limit: At<String>,
    /// How much of its places must be taken, in percent.
    ///
    /// Required. Range: 1 to 100. Example: `80`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) percent: At<Scalar>,
}

/// Places of an account or a group for sure.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Guarantee {
    /// The account.
    ///
    /// Required, unless `group` is given. Example: `AC_GOLD`.
    pub(in crate::config) account: Option<At<String>>,
    /// The group: its accounts together.
    ///
    /// Required, unless `account` is given. Example: `gold`.
    pub(in crate::config) group: Option<At<String>>,
    /// How many places, over all keys of the limit.
    ///
    /// Required. Range: 1 to 1,000,000,000. Example: `100`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) min: At<Scalar>,
}

/// Whether leases count.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Leases {
    /// They do.
    Count,
    /// Their places return at the last byte.
    Skip,
}

/// What a limit does with a request that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Mode {
    /// Refuses it.
    Enforce,
    /// Lets it through and notes it.
    Shadow,
    /// Counts nothing.
    #[serde(alias = "false")]
    Off,
}

/// Places of one account or group.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Override {
    /// The account.
    ///
    /// Required, unless `group` is given. Example: `AC_GOLD`.
    pub(in crate::config) account: Option<At<String>>,
    /// The group.
    ///
    /// Required, unless `account` is given. Example: `gold`.
    pub(in crate::config) group: Option<At<String>>,
    /// How many places its key has.
    ///
    /// Required. Range: 0 to 1,000,000,000. Example: `300`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) max: At<Scalar>,
}

/// What is counted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Count {
    /// What is in flight.
    InFlight,
    /// What is in flight and began within this time.
    InFlightStartedWithin(At<Scalar>),
    /// What began within this time.
    StartsPer(At<Scalar>),
    /// What ended within this time, and what is in flight.
    CompletionsPer(At<Scalar>),
}

/// One step of a ladder.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Step {
    /// Wait for a place. Among accounts the next is the one that holds least for its weight; higher priorities go first, and of
    /// 100 places that fall free while all wait, high gets 60 or more, normal 20, low 10.
    Queue(Queue),
    /// Sleep for a fixed time and ask again.
    Slow(Slow),
    /// Take a place above the limit, up to a harder one, marked where it does.
    Admit(Admit),
    /// Go to another upstream, judged by the limits that hold there, less this one.
    Reroute(At<String>),
    /// Be refused.
    Reject(Option<Reject>),
}

/// Waiting for a place.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Queue {
    /// How many may wait for one key.
    ///
    /// Required. Range: 1 to 100,000. Example: `100`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) length: At<Scalar>,
    /// How long. A client's own deadline (`grpc-timeout`, `server.timeout_header`) shortens it.
    ///
    /// Required. Range: 1ms to 1h. Example: `2s`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) timeout: At<Scalar>,
    /// How many of one account.
    ///
    /// Default: `length`. Range: 1 to 100,000. Example: `20`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) per_account: Option<At<Scalar>>,
    /// Who goes first within an account: `oldest_first`, or `adaptive`: once the queue has not been empty for `timeout`, the
    /// newest, and who comes then may wait a twentieth of `timeout`.
    ///
    /// Default: `oldest_first`. Example: `adaptive`.
    pub(in crate::config) order: Option<Order>,
    /// Up to so many places above `max` for those who wait, while as many of the places in use are near completion: the answer has a
    /// `content-length`, nothing is left of the request, and of the answer at most the last tenth and 64 KiB.
    ///
    /// Default: `0`, nobody is served before a place is free. Range: 0 to 1,000. Example: `2`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) early: Option<At<Scalar>>,
}

/// Who goes first within an account.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Order {
    /// The one that came first.
    OldestFirst,
    /// In a standing queue the one that came last.
    Adaptive,
}

/// Sleeping for a fixed time and asking again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Slow {
    /// How long each time.
    ///
    /// Required. Range: 1ms to 1h. Example: `200ms`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) delay: At<Scalar>,
    /// How often.
    ///
    /// Default: `1`. Range: 1 to 100. Example: `3`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) times: Option<At<Scalar>>,
    /// How many may sleep at once under the limit.
    ///
    /// Default: `100`. Range: 1 to 100,000. Example: `100`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) length: Option<At<Scalar>>,
}

/// Going over the limit, marked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Admit {
    /// The harder limit.
    ///
    /// Required. Range: above `max`, to 1,000,000,000. Example: `120`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) up_to: At<Scalar>,
    /// The priority it goes on with.
    ///
    /// Default: `low`. Example: `low`.
    pub(in crate::config) priority: Option<Priority>,
    /// The word that the upstream sees as `x-admission-mark`, and the access log as `mark`.
    ///
    /// Default: `overage`. Range: 1 to 64 lower-case letters, digits, `-`, `_` and `.`. Example: `overage`.
    pub(in crate::config) mark: Option<At<String>>,
}

/// Being refused.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Reject {
    /// The HTTP status.
    ///
    /// Default: 429 where the key holds account, group, header, path or client network, else 503. Range: 400 to 599. Example: `429`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) status: Option<At<Scalar>>,
}

/// One thing that a limit counts on: a word, or a word and a name.
#[derive(Debug)]
pub(in crate::config) struct Per {
    pub(in crate::config) dimension: String,
    pub(in crate::config) name: Option<At<String>>,
}

impl<'de> Deserialize<'de> for Per {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PerVisitor;
        impl<'de> Visitor<'de> for PerVisitor {
            type Value = Per;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a dimension such as `account`, or `{ header: NAME }`, `{ path: CAPTURE }`",
                )
            }
            fn visit_str<E>(self, word: &str) -> Result<Per, E> {
                Ok(Per {
                    dimension: word.to_owned(),
                    name: None,
                })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Per, A::Error> {
                let only_one = "`{ header: NAME }` or `{ path: CAPTURE }`, one entry each";
                let (dimension, name) = map
                    .next_entry()?
                    .ok_or_else(|| A::Error::custom(format!("expected {only_one}")))?;
                if map.next_entry::<String, IgnoredAny>()?.is_some() {
                    return Err(A::Error::custom(format!("expected {only_one}")));
                }
                Ok(Per {
                    dimension,
                    name: Some(name),
                })
            }
        }
        deserializer.deserialize_any(PerVisitor)
    }
}

impl JsonSchema for Per {
    fn schema_name() -> Cow<'static, str> {
        "Per".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words = [
            "account",
            "resource",
            "group",
            "upstream",
            "client_network",
            "process",
        ];
        let named = |kind: &str| {
            json_schema!({
                "type": "object", "properties": { kind: { "type": "string" } },
                "required": [kind], "additionalProperties": false,
            })
        };
        json_schema!({ "anyOf": [{ "enum": words }, named("header"), named("path")] })
    }
}

/// A maximum that moves, by one of these rules.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct MovingMax {
    /// So many places for each healthy endpoint of an upstream; one endpoint is counted at least.
    ///
    /// Default: none. Range: 1 to 1,000,000. Example: `50`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) per_endpoint: Option<At<Scalar>>,
    /// The upstream whose endpoints count.
    ///
    /// Default: `default_upstream`. Example: `api`.
    pub(in crate::config) of: Option<At<String>>,
    /// As many as latency allows: raised while more in flight brings more throughput, lowered when it only brings waiting. It says what
    /// an upstream can do, so it goes with `per: []`, `[resource]` or `[upstream]`, each of which finds its own number.
    ///
    /// Default: none. Example: `{ floor: 4, ceiling: 200 }`.
    pub(in crate::config) adaptive: Option<At<Adaptive>>,
    /// A multiple of the most that the key held of late.
    ///
    /// Default: none. Example: `{ floor: 5, ceiling: 100 }`.
    pub(in crate::config) follow: Option<Follow>,
}

/// A maximum that follows latency. What teaches it is the time to the response's head of answers below 500 that are no streams;
/// upstreams that cannot be reached or answer 503 lower it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Adaptive {
    /// Never less.
    ///
    /// Default: `4`. Range: 1 to `ceiling`. Example: `8`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) floor: Option<At<Scalar>>,
    /// Never more.
    ///
    /// Default: `200`. Range: 1 to 1,000,000. Example: `400`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) ceiling: Option<At<Scalar>>,
    /// Where it begins.
    ///
    /// Default: `20`, within floor and ceiling. Range: `floor` to `ceiling`. Example: `50`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) start: Option<At<Scalar>>,
}

/// A maximum that follows what a key used in the last finished interval of six seconds.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Follow {
    /// Never less.
    ///
    /// Required. Range: 1 to `ceiling`. Example: `5`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) floor: At<Scalar>,
    /// Never more.
    ///
    /// Required. Range: `floor` to 1,000,000,000. Example: `100`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) ceiling: At<Scalar>,
    /// Percent of the most that was held: by so much use may grow in an interval.
    ///
    /// Default: `200`. Range: 101 to 1,000. Example: `150`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) headroom: Option<At<Scalar>>,
}
