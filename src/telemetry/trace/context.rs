//! The place of one request in a trace (W3C Trace Context: `traceparent`, `tracestate`).
//!
//! Who began the trace decides whether it is recorded; the share decides for those that begin here. Upstream, the parent is the
//! span of the gate's own request to it; where nothing is recorded no such span will be, so there the client's stays the
//! parent. What is not well-formed begins a new trace, as the standard asks. Never allocates for what is not recorded.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::super::share::Share;
use crate::admission::hex;
use crate::head::{Fields, Head};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;
/// The flag of a trace whose id is random in its last bits (level 2 of the standard); kept as it came.
const RANDOM: u8 = 2;
/// Longest `tracestate` that is told: what the standard asks to pass on at least. A longer one is passed on as it came, and not told.
const STATE_MAX: usize = 512;
/// Longest host that is told: the longest name of the DNS, and a port. A longer one is nobody's.
const HOST_MAX: usize = 253 + 6;
/// `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const LENGTH: usize = 55;

/// Where the request stands in its trace.
#[derive(Debug)]
pub struct Trace {
    id: u128,
    /// The client's span; 0 where the trace begins here.
    parent: u64,
    flags: u8,
    /// The span of the gate's own request to the upstream.
    upstream_span: u64,
    /// Whether the client's fields are good as they came.
    is_as_received: bool,
    /// Of those that are recorded.
    noted: Option<Box<Noted>>,
}

/// What spans tell and records do not.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// As the client named the gate.
    pub(super) host: Option<Box<str>>,
    /// What vendors keep beside the trace's id.
    pub(super) state: Option<Box<str>>,
    /// Who asked, behind the proxies that are trusted.
    pub(super) client: Option<IpAddr>,
    pub(super) is_tls: bool,
    /// When the limits had decided.
    pub(super) decided: Option<Instant>,
    /// When the request was sent on.
    pub(super) sent: Option<Instant>,
    /// To which endpoint.
    pub(super) endpoint: Option<Arc<str>>,
}

impl Trace {
    /// Joins the trace that a request came in, or begins one.
    #[must_use]
    pub fn join(head: &Head, share: Share, is_tls: bool) -> Self {
        let mut trace = match received(&head.fields) {
            Some((id, parent, flags)) => Self {
                id,
                parent,
                flags,
                upstream_span: 0,
                is_as_received: true,
                noted: None,
            },
            None => Self::begin(share),
        };
        if trace.is_sampled() {
            let host = head.host().and_then(|host| std::str::from_utf8(host).ok());
            // Fields of a trace that is begun anew belong to another one.
            let state = trace.is_as_received.then(|| head.fields.text(TRACESTATE));
            trace.noted = Some(Box::new(Noted {
                host: host.filter(|host| host.len() <= HOST_MAX).map(Box::from),
                state: state
                    .flatten()
                    .filter(|state| state.len() <= STATE_MAX)
                    .map(Box::from),
                is_tls,
                ..Noted::default()
            }));
            trace.upstream_span = fastrand::u64(1..);
            trace.is_as_received = false;
        }
        trace
    }

    fn begin(share: Share) -> Self {
        let id = fastrand::u128(1..);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the rule looks at the last bits"
        )]
        let is_sampled = share.takes(id as u64);
        Self {
            id,
            parent: 0,
            flags: if is_sampled { SAMPLED } else { 0 },
            // A span that is not recorded; whoever comes next learns from it that nobody recorded.
            upstream_span: if is_sampled { 0 } else { fastrand::u64(1..) },
            is_as_received: false,
            noted: None,
        }
    }

    /// Whether it is recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The number by which shares choose.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the rule looks at the last bits"
    )]
    pub fn number(&self) -> u64 {
        self.id as u64
    }

    /// Its id, as everybody writes it.
    #[must_use]
    pub fn id_text(&self) -> String {
        format!("{:032x}", self.id)
    }

    /// The limits have decided about a request of that client.
    pub fn decided(&mut self, client: impl FnOnce() -> Option<IpAddr>, now: Instant) {
        if let Some(noted) = &mut self.noted {
            noted.client = client();
            noted.decided = Some(now);
        }
    }

    /// The request is sent on, to that endpoint if there is one only.
    pub fn sent(&mut self, endpoint: impl FnOnce() -> Option<Arc<str>>, now: Instant) {
        if let Some(noted) = &mut self.noted {
            noted.sent = Some(now);
            noted.endpoint = endpoint();
        }
    }

    /// That endpoint answered.
    pub fn answered_by(&mut self, endpoint: &Arc<str>) {
        if let Some(noted) = &mut self.noted {
            noted.endpoint = Some(Arc::clone(endpoint));
        }
    }

    /// Whether a field of the head is passed on: not what [`write`](Self::write) puts anew, nor what belongs to a trace that could not
    /// be read.
    #[must_use]
    pub fn passes(&self, name: &[u8]) -> bool {
        self.is_as_received
            || name != TRACEPARENT.as_bytes() && (self.parent != 0 || name != TRACESTATE.as_bytes())
    }

    /// Writes `traceparent` with its line end, unless the client's is good as it came.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.is_as_received {
            return;
        }
        out.extend_from_slice(b"traceparent: 00-");
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it is written in two halves"
        )]
        let (upper, lower) = ((self.id >> 64) as u64, self.id as u64);
        out.extend_from_slice(&hex(upper));
        out.extend_from_slice(&hex(lower));
        out.push(b'-');
        out.extend_from_slice(&hex(self.upstream_span));
        out.push(b'-');
        out.extend_from_slice(&hex(self.flags.into())[14..]);
        out.extend_from_slice(b"\r\n");
    }

    pub(super) fn id(&self) -> u128 {
        self.id
    }

    pub(super) fn parent(&self) -> u64 {
        self.parent
    }

    pub(super) fn flags(&self) -> u8 {
        self.flags
    }

    pub(super) fn upstream_span(&self) -> u64 {
        self.upstream_span
    }

    pub(super) fn noted(&self) -> Option<&Noted> {
        self.noted.as_deref()
    }
}

/// The trace's id, the client's span and the flags, if there is one such field and it is well-formed.
fn received(fields: &Fields) -> Option<(u128, u64, u8)> {
    let mut values = fields.all(TRACEPARENT);
    let text = values.next()?;
    if values.next().is_some() || text.len() < LENGTH {
        return None;
    }
    let (known, later) = text.split_at(LENGTH);
    let is_separated = [2, 35, 52].iter().all(|&at| known[at] == b'-');
    let version = read_hex(&known[..2])?;
    // Later versions may say more, behind a dash; 255 is none.
    let is_length_right = if version == 0 {
        later.is_empty()
    } else {
        later.first().is_none_or(|&byte| byte == b'-')
    };
    if !is_separated || version == 255 || !is_length_right {
        return None;
    }
    let id = read_hex(&known[3..35])?;
    let parent = u64::try_from(read_hex(&known[36..52])?).ok()?;
    let flags = u8::try_from(read_hex(&known[53..])?).ok()?;
    (id != 0 && parent != 0).then_some((id, parent, flags & (SAMPLED | RANDOM)))
}

/// Lower-case digits only, as the standard asks.
fn read_hex(text: &[u8]) -> Option<u128> {
    text.iter().try_fold(0u128, |number, &byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use http::{Method, Version};

    use super::*;

    const CLIENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn head(fields: &[(&str, &str)]) -> Head {
        let mut head = Head::new(Method::GET, Version::HTTP_11, "/").unwrap();
        for (name, value) in fields {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        head
    }

    /// What goes to the upstream of a request with these fields: all `traceparent`, and whether there is a `tracestate`.
    fn sent(fields: &[(&str, &str)], share: Share) -> (Trace, Vec<String>, bool) {
        let head = head(fields);
        let trace = Trace::join(&head, share, false);
        let mut written = Vec::new();
        head.fields
            .write(&mut written, |name, _| trace.passes(name));
        trace.write(&mut written);
        let written = String::from_utf8(written).unwrap();
        let parents = written
            .lines()
            .filter_map(|line| line.strip_prefix("traceparent: "));
        let parents = parents.map(str::to_owned).collect();
        (trace, parents, written.contains("tracestate: "))
    }

    #[test]
    fn a_trace_that_is_recorded_goes_on_with_another_parent() {
        let fields = [("traceparent", CLIENT), ("tracestate", "a=1")];
        let (trace, parents, has_state) = sent(&fields, Share::of(0.0));
        assert!(trace.is_sampled() && has_state);
        assert_eq!(trace.id_text(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parents.len(), 1);
        assert!(parents[0].starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
        assert!(parents[0].ends_with("-01") && parents[0] != CLIENT);
    }

    #[test]
    fn a_trace_that_is_not_recorded_goes_on_as_it_came() {
        let client = CLIENT.replace("-01", "-00");
        let fields = [("traceparent", &*client), ("tracestate", "a=1")];
        let (trace, parents, has_state) = sent(&fields, Share::ALL);
        assert!(!trace.is_sampled() && has_state && trace.noted().is_none());
        assert_eq!(parents, [client]);
    }

    #[test]
    fn without_a_trace_one_begins_and_the_share_decides() {
        for (share, flags) in [(Share::ALL, "-01"), (Share::of(0.0), "-00")] {
            let (trace, parents, _) = sent(&[], share);
            assert_eq!(parents.len(), 1);
            assert!(parents[0].ends_with(flags), "{parents:?}");
            let read = received(&head(&[("traceparent", &parents[0])]).fields);
            assert_eq!(read, Some((trace.id, trace.upstream_span, trace.flags)));
        }
    }

    #[test]
    fn what_is_not_well_formed_begins_a_trace_without_the_others_state() {
        let wrong = [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
        ];
        for text in wrong {
            let fields = [("traceparent", text), ("tracestate", "a=1")];
            let (_, parents, has_state) = sent(&fields, Share::of(0.0));
            assert!(!has_state && parents.len() == 1, "{text}: {parents:?}");
            assert!(received(&head(&[("traceparent", &parents[0])]).fields).is_some());
        }
        let twice = [("traceparent", CLIENT), ("traceparent", CLIENT)];
        assert_eq!(received(&head(&twice).fields), None);
    }

    #[test]
    fn a_state_or_a_host_of_any_length_passes_and_is_told_up_to_a_bound_only() {
        for (length, is_told) in [(STATE_MAX, true), (STATE_MAX + 1, false)] {
            let state = "s".repeat(length);
            let fields = [("traceparent", CLIENT), ("tracestate", &*state)];
            let (trace, _, has_state) = sent(&fields, Share::ALL);
            assert!(has_state);
            assert_eq!(trace.noted().unwrap().state.is_some(), is_told, "{length}");
        }
        for (length, is_told) in [(HOST_MAX, true), (HOST_MAX + 1, false)] {
            let (trace, ..) = sent(&[("host", &"h".repeat(length))], Share::ALL);
            assert_eq!(trace.noted().unwrap().host.is_some(), is_told, "{length}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more";
        let (trace, parents, _) = sent(&[("traceparent", later)], Share::of(0.0));
        assert!(trace.is_sampled());
        assert!(parents[0].starts_with("00-") && parents[0].ends_with("-03"));
    }
}
