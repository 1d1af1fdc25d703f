//! The form that a request about a call carries: what its caller may add to it, and how its times are written.
//!
//! A caller's parameters stand beside the gate's own fields, so none may pass for one of those. What the token fixes wins over
//! what the client says, since the customer's own server signed it. Names and values are bounded: what does not fit is left out
//! and counted, because a call is better made without a parameter than not at all.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value};

/// Parameters of one call.
const NAMES_MAX: usize = 50;
/// All names and values together, in bytes.
const BYTES_MAX: usize = 4 * 1024;

/// Names of the gate's own fields. `To` is not among them, since the SDK sends it as a parameter.
const RESERVED: [&str; 8] = [
    "AccountSid",
    "ApplicationSid",
    "ApiVersion",
    "Direction",
    "From",
    "ErrorCode",
    "ErrorUrl",
    "Presence",
];
/// How the names of its other fields begin.
const RESERVED_BEGINNINGS: [&str; 2] = ["Call", "Dial"];

/// What goes to the customer's server of a client's parameters, `a=b&c=d`, and of those that its token fixes; and how many do not.
#[must_use]
pub fn client_parameters(raw: &str, fixed: &[(String, String)]) -> (Vec<(String, String)>, usize) {
    let mut taken = Taken::default();
    for (name, value) in fixed {
        taken.take(name, value);
    }
    for (name, value) in form_urlencoded::parse(raw.as_bytes()) {
        let is_fixed = |(known, _): &(String, String)| stem(known) == stem(&name);
        if fixed.iter().any(is_fixed) {
            taken.dropped += 1;
        } else {
            taken.take(&name, &value);
        }
    }
    (taken.pairs, taken.dropped)
}

/// Parameters that came as members of an object, as the form that [`client_parameters`] takes; what is no text goes as JSON.
#[must_use]
pub fn form_of(to: Option<&str>, parameters: &Map<String, Value>) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    if let Some(to) = to {
        form.append_pair("To", to);
    }
    for (name, value) in parameters {
        match value {
            Value::String(text) => form.append_pair(name, text),
            other => form.append_pair(name, &other.to_string()),
        };
    }
    form.finish()
}

/// A time since the Unix epoch as callbacks tell it (RFC 2822), in UTC.
#[must_use]
pub fn timestamp(unix_time: Duration) -> String {
    let date = httpdate::fmt_http_date(UNIX_EPOCH + unix_time);
    // The two formats differ in nothing but the name of the zone.
    date.replace("GMT", "+0000")
}

#[derive(Debug, Default)]
struct Taken {
    pairs: Vec<(String, String)>,
    bytes: usize,
    dropped: usize,
}

impl Taken {
    fn take(&mut self, name: &str, value: &str) {
        let bytes = self.bytes + name.len() + value.len();
        let is_known = self.pairs.iter().any(|(known, _)| known == name);
        let has_place = self.pairs.len() < NAMES_MAX && bytes <= BYTES_MAX;
        if !has_place || is_known || is_reserved(name) {
            self.dropped += 1;
            return;
        }
        self.bytes = bytes;
        self.pairs.push((name.to_owned(), value.to_owned()));
    }
}

fn is_reserved(name: &str) -> bool {
    let stem = stem(name);
    let mut beginnings = RESERVED_BEGINNINGS.iter();
    stem.is_empty()
        // What some servers would take for `To`, and the gate would not have judged.
        || (stem == "To" && name != "To")
        || RESERVED.contains(&stem)
        || beginnings.any(|beginning| stem.starts_with(beginning))
}

/// What some servers make of a name: PHP's skip leading blanks, and take what follows `[` for an index.
fn stem(name: &str) -> &str {
    let is_blank = |of: char| of.is_whitespace() || of.is_control();
    let name = name.trim_start_matches(is_blank);
    name.split(['[', '\0']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_client_adds_parameters_of_its_own() {
        let (pairs, dropped) =
            client_parameters("To=%2B1+2&from=x&ticket=%C3%BC&to=&called=y", &[]);
        let expected = [
            pair("To", "+1 2"),
            pair("from", "x"),
            pair("ticket", "ü"),
            pair("to", ""),
            pair("called", "y"),
        ];
        assert_eq!((pairs.as_slice(), dropped), (expected.as_slice(), 0));
        assert_eq!(client_parameters("", &[]), (vec![], 0));
    }

    // B34: what the gate tells of presence nobody else can tell, nor any other field of its own.
    #[test]
    fn no_parameter_passes_for_a_field_of_the_gate() {
        let names = "CallSid AccountSid ApplicationSid ApiVersion Direction CallStatus From Caller ErrorCode ErrorUrl Presence \
            Called CallerName DialCallStatus DialPresence Call Dial +From %0AFrom From[] From%5B0%5D From%00x %00From";
        for name in names.split_whitespace() {
            let raw = format!("{name}=x");
            assert_eq!(client_parameters(&raw, &[]), (vec![], 1), "{name}");
        }
        assert_eq!(client_parameters("=x&&a=1", &[]), (vec![pair("a", "1")], 1));
        // Not even by a token.
        let fixed = [pair("From", "x"), pair("DialPresence", "x"), pair("a", "1")];
        assert_eq!(client_parameters("", &fixed), (vec![pair("a", "1")], 2));
    }

    // What a token fixes its bearer cannot change.
    #[test]
    fn what_a_token_fixes_wins() {
        let fixed = [pair("tier", "gold"), pair("To", "client:desk")];
        let raw = "tier=platinum&To=x&tier[]=y&+tier=z&a=1&a=2";
        let (pairs, dropped) = client_parameters(raw, &fixed);
        let expected = [&fixed[..], &[pair("a", "1")]].concat();
        assert_eq!((pairs, dropped), (expected, 5));
    }

    #[test]
    fn parameters_are_bounded() {
        let many: String = (0..NAMES_MAX + 3)
            .map(|index| format!("n{index}=&"))
            .collect();
        let (pairs, dropped) = client_parameters(&many, &[]);
        assert_eq!((pairs.len(), dropped), (NAMES_MAX, 3));
        // What is too long is left out, what still fits behind it is not.
        let long = format!("a={}&b={}&c=1", "x".repeat(BYTES_MAX - 3), "x".repeat(9));
        let (pairs, dropped) = client_parameters(&long, &[]);
        assert_eq!((pairs.len(), dropped), (2, 1));
        assert_eq!(pairs[1], pair("c", "1"));
    }

    #[test]
    fn a_time_is_written_as_mail_writes_it() {
        let at = Duration::from_secs(784_111_777);
        assert_eq!(timestamp(at), "Sun, 06 Nov 1994 08:49:37 +0000");
    }
}
