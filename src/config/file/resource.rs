//! The section `resources`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{At, Named, NumberOr, OneOrMany, Scalar, present};

/// One kind of thing that requests act on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Resource {
    /// Its name in limits, metrics, logs and answers.
    ///
    /// Required. Range: 1 to 64 lower-case letters, digits, `-`, `_` and `.`; not `other` or `presence`. Example: `calls`.
    pub(in crate::config) name: At<String>,
    /// What its requests look like; everything that is set must fit. Only the `call_resource` of the section `presence` may leave it away:
    /// no request is of that resource then, only calls are.
    ///
    /// Required, but for the resource of calls. Example: `{ methods: [POST], path: "/accounts/{account}/calls" }`.
    #[serde(rename = "match", default, deserialize_with = "present")]
    pub(in crate::config) matches: Option<Match>,
    /// Where its requests go: one of the upstreams, or `presence` for the presence plugin.
    ///
    /// Default: the default upstream; without `match` the plugin. Example: `api`.
    pub(in crate::config) upstream: Option<At<String>>,
    /// How many places a request takes in each limit. `{ per: 100ms, most: 10 }` takes one for each so long that such requests held their
    /// places of late, on average; it is meant for limits on starts and completions, which else take long work for short.
    ///
    /// Default: `1`. Range: 1 to 1,000,000. Example: `5`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) cost: Option<At<NumberOr<LearnedCost>>>,
    /// Who goes first when not everybody can.
    ///
    /// Default: `normal`. Example: `high`.
    pub(in crate::config) priority: Option<Priority>,
    /// For work that outlives its response: a 2xx turns the permit into a lease, which the upstream
    /// renews and releases over the admin API by the id it was sent as `x-admission-lease`, or which expires. An answer with
    /// `x-admission-hold: 30m` does the same on any resource.
    ///
    /// Default: the permit ends as `stream` says. Example: `{ hold_up_to: 4h }`.
    pub(in crate::config) completion: Option<At<Completion>>,
    /// How long a request holds its places: `headers`, `body_end`, or `{ first: 10s }`.
    ///
    /// Default: `body_end`. Example: `{ first: 10s }`.
    pub(in crate::config) stream: Option<At<Stream>>,
    /// What happens upstream when the client leaves before the answer is through: `close`, or `{ finish: 10s }`.
    ///
    /// Default: `close`. Example: `{ finish: 10s }`.
    pub(in crate::config) departed: Option<At<Departed>>,
    /// Forwarded without being identified or limited; for health probes.
    ///
    /// Default: `false`. Example: `true`.
    pub(in crate::config) exempt: Option<bool>,
    /// Edits the documents that answer its requests, on their way. Requests that do not carry the vendor's signature are answered 403
    /// before the upstream sees anything of them, and a body over 64 KiB 413.
    ///
    /// Default: answers are passed on as they are. Example: `{ dial_by_presence: { account: AC0123456789abcdef0123456789abcdef,
    /// public_url: "https://app.example.com", fallback: nobody.xml } }`.
    #[serde(default, deserialize_with = "present")]
    pub(in crate::config) edit: Option<At<Edit>>,
}

/// How documents are edited.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Edit {
    /// Takes out of each `<Dial>` of a TwiML document the `<Client>`s that it would be no use to ring: those stay who report
    /// `available`, by whatever channel, and are in no call. All else stays byte for byte.
    ///
    /// Required. Example: `{ account: AC0123456789abcdef0123456789abcdef, public_url: "https://app.example.com", fallback: nobody.xml }`.
    pub(in crate::config) dial_by_presence: DialByPresence,
}

/// Cuts clients that cannot be rung.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct DialByPresence {
    /// The account whose clients are dialled; its `auth_token` verifies the signatures of requests.
    ///
    /// Required. One of `presence.accounts`. Example: `AC0123456789abcdef0123456789abcdef`.
    pub(in crate::config) account: At<String>,
    /// Where the vendor believes this gate to be: what stands before a request's path in the URL that was signed.
    ///
    /// Required. Range: `http` or `https`, without query and fragment. Example: `https://app.example.com`.
    pub(in crate::config) public_url: At<String>,
    /// In what order those stand who stay.
    ///
    /// Default: `as_written`. Example: `idle`.
    pub(in crate::config) order: Option<EditOrderWord>,
    /// A file with the document that goes instead of one with a `<Dial>` that has nobody left.
    ///
    /// Required. Range: a document of verbs up to 64 KiB. Example: `nobody.xml`.
    pub(in crate::config) fallback: At<String>,
}

/// In what order those stand who stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum EditOrderWord {
    /// As the document has them.
    AsWritten,
    /// Who is idle for longest comes first.
    Idle,
}

/// A cost that is learned from how long requests hold their places; 1 until something was learned.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct LearnedCost {
    /// The time that costs one place.
    ///
    /// Required. Range: 1ms to 1h. Example: `100ms`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) per: At<Scalar>,
    /// The most that a request takes.
    ///
    /// Default: `10`. Range: 2 to 1,000. Example: `20`.
    #[schemars(extend("x-kind" = "number"))]
    pub(in crate::config) most: Option<At<Scalar>>,
}

/// What a resource's requests look like.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Match {
    /// One of these methods.
    ///
    /// Default: any. Example: `[GET, HEAD]`.
    pub(in crate::config) methods: Option<OneOrMany>,
    /// This host, or one of these, without port and compared without case.
    ///
    /// Default: any. Example: `api.example.com`.
    pub(in crate::config) host: Option<OneOrMany>,
    /// This path: `{name}` is one segment, `{*name}` the rest, and a suffix may follow a capture (`{name}.json`). Compared
    /// after needless escapes, `.`, `..` and `//` are resolved.
    ///
    /// Default: any. Example: `/accounts/{account}/calls`.
    pub(in crate::config) path: Option<At<String>>,
    /// Each of these headers with this value; without a value, that it is there at all.
    ///
    /// Default: any. Range: up to 32. Example: `{ x-version: "2", x-debug: }`.
    pub(in crate::config) headers: Option<Named<Option<At<Scalar>>>>,
}

/// Who goes first when not everybody can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Priority {
    /// Waits for the others.
    Low,
    /// What is not said otherwise.
    Normal,
    /// Before the others.
    High,
}

/// For work that outlives its response.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Completion {
    /// How long a lease lasts, and the longest that a renewal may make it last from then on. It ends up to a second late.
    ///
    /// Required. Range: 1s to 31 days. Example: `4h`.
    #[schemars(extend("x-kind" = "duration"))]
    pub(in crate::config) hold_up_to: At<Scalar>,
}

/// How long a request holds its places.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Stream {
    /// Until the response's head.
    Headers,
    /// Until the last byte of the response.
    BodyEnd,
    /// Until the last byte, but no longer than this after the response's head (0s to 24h).
    First(At<Scalar>),
}

/// What happens upstream when the client leaves.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Departed {
    /// The upstream connection is cut.
    Close,
    /// The answer is drained for so long, with the place held (1ms to 24h).
    Finish(At<Scalar>),
}
