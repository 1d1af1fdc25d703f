//! Cookies of one call: how a server without a session store knows the second request by the first (RFC 6265).
//!
//! A cookie goes back to the host that set it and to no other, whatever its `Domain` says; it lives as long as the call. How many
//! there are, and how long, is bounded: beyond, the oldest give way. Never printed, since they are what a session is stolen by.

use std::time::{Duration, UNIX_EPOCH};

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, Uri};

/// Cookies of all hosts of a call.
const COOKIES_MAX: usize = 20;
/// Longest name with its value, in bytes.
const COOKIE_MAX: usize = 4 * 1024;

/// What the servers of one call want to be told again.
#[derive(Default)]
pub(super) struct Jar(Vec<Cookie>);

struct Cookie {
    host: String,
    path: String,
    is_secure: bool,
    name: String,
    value: String,
}

impl std::fmt::Debug for Jar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Jar({})", self.0.len())
    }
}

impl Jar {
    /// Takes what the answer of that URL sets, and forgets what it takes back.
    pub(super) fn keep(&mut self, url: &Uri, answer: &HeaderMap, unix_time: Duration) {
        for field in answer.get_all(SET_COOKIE) {
            let text = field.to_str().unwrap_or_default();
            let Some((cookie, is_over)) = Cookie::of(text, url, unix_time) else {
                continue;
            };
            self.0.retain(|known| !known.is_same(&cookie));
            if is_over {
                continue;
            }
            if self.0.len() == COOKIES_MAX {
                self.0.remove(0);
            }
            self.0.push(cookie);
        }
    }

    /// The field `cookie` of a request to that URL: longer paths first, as servers expect.
    pub(super) fn field(&self, url: &Uri) -> Option<HeaderValue> {
        let mut fitting: Vec<_> = self.0.iter().filter(|cookie| cookie.fits(url)).collect();
        fitting.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let pairs = fitting
            .iter()
            .map(|cookie| format!("{}={}", cookie.name, cookie.value));
        let pairs: Vec<_> = pairs.collect();
        if pairs.is_empty() {
            return None;
        }
        HeaderValue::try_from(pairs.join("; ")).ok()
    }
}

impl Cookie {
    /// Reads one field of an answer from that URL, and whether it only takes the cookie back.
    fn of(field: &str, url: &Uri, unix_time: Duration) -> Option<(Self, bool)> {
        let mut parts = field.split(';').map(str::trim);
        let (name, value) = parts.next()?.split_once('=')?;
        let (name, value) = (name.trim_end(), value.trim_start());
        if name.is_empty() || name.len() + value.len() > COOKIE_MAX {
            return None;
        }
        let mut cookie = Self {
            host: host(url)?,
            path: folder(url.path()).to_owned(),
            is_secure: false,
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let (mut expires, mut max_age) = (None, None);
        for attribute in parts {
            let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let value = value.trim();
            match key.trim_end().to_ascii_lowercase().as_str() {
                "path" if value.starts_with('/') => value.clone_into(&mut cookie.path),
                "secure" => cookie.is_secure = true,
                "max-age" => max_age = value.parse::<i64>().ok().map(|age| age <= 0),
                "expires" => {
                    let date = httpdate::parse_http_date(value).ok();
                    expires = date.map(|date| date <= UNIX_EPOCH + unix_time);
                }
                _ => {}
            }
        }
        // Over a connection that anybody could have changed nothing secure is set.
        if cookie.is_secure && url.scheme_str() != Some("https") {
            return None;
        }
        Some((cookie, max_age.or(expires).unwrap_or(false)))
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.host, &self.path, &self.name) == (&other.host, &other.path, &other.name)
    }

    fn fits(&self, url: &Uri) -> bool {
        let is_below = url.path().strip_prefix(&*self.path).is_some_and(|rest| {
            rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/')
        });
        let is_open = !self.is_secure || url.scheme_str() == Some("https");
        is_below && is_open && host(url).as_ref() == Some(&self.host)
    }
}

fn host(url: &Uri) -> Option<String> {
    url.host().map(str::to_ascii_lowercase)
}

/// The path that a cookie is for which names none: up to the last slash, without it.
fn folder(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(at) => &path[..at],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn jar(url: &str, fields: &[&str]) -> Jar {
        let mut jar = Jar::default();
        keep(&mut jar, url, fields);
        jar
    }

    fn keep(jar: &mut Jar, url: &str, fields: &[&str]) {
        let fields = fields.iter().map(|field| field.parse().unwrap());
        let answer = fields.map(|field| (SET_COOKIE, field)).collect();
        jar.keep(&url.parse().unwrap(), &answer, NOW);
    }

    fn told(jar: &Jar, url: &str) -> String {
        let field = jar.field(&url.parse().unwrap());
        field.map_or(String::new(), |field| field.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_cookie_goes_back_to_its_host_and_path() {
        let set = [
            "a=1",
            "b=\"2\"; Path=/; HttpOnly",
            "c=3=3; path=/voice/x; Domain=example",
        ];
        let jar = jar("http://A.example/voice/start?x", &set);
        assert_eq!(
            told(&jar, "http://a.example/voice/x/y"),
            "c=3=3; a=1; b=\"2\""
        );
        assert_eq!(told(&jar, "http://a.example:81/voice?q"), "a=1; b=\"2\"");
        assert_eq!(told(&jar, "https://a.example/voices"), "b=\"2\"");
        for other in ["http://example/voice/x", "http://b.a.example/voice/x"] {
            assert_eq!(told(&jar, other), "", "{other}");
        }
    }

    #[test]
    fn what_is_secure_never_travels_in_the_clear() {
        let jar = jar("https://a/", &["a=1; Secure", "b=2"]);
        assert_eq!(told(&jar, "https://a/"), "a=1; b=2");
        assert_eq!(told(&jar, "http://a/"), "b=2");
        assert_eq!(
            told(&self::jar("http://a/", &["a=1; secure"]), "https://a/"),
            ""
        );
        assert_eq!(format!("{jar:?}"), "Jar(2)");
    }

    #[test]
    fn a_cookie_is_replaced_and_taken_back() {
        let mut jar = jar("http://a/", &["a=1", "b=2", "c=3; max-age=60", "d=4"]);
        keep(&mut jar, "http://a/", &["a=9", "b=; Max-Age=0"]);
        keep(
            &mut jar,
            "http://a/",
            &["c=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"],
        );
        keep(
            &mut jar,
            "http://a/",
            &["d=5; expires=Thu, 01 Jan 2099 00:00:00 GMT"],
        );
        assert_eq!(told(&jar, "http://a/"), "a=9; d=5");
    }

    #[test]
    fn cookies_are_bounded() {
        let mut jar = Jar::default();
        for index in 0..COOKIES_MAX + 5 {
            keep(&mut jar, "http://a/", &[&format!("c{index}=x")]);
        }
        assert_eq!(jar.0.len(), COOKIES_MAX);
        assert!(told(&jar, "http://a/").starts_with("c5=x; c6"));
        let long = format!("long={}", "x".repeat(COOKIE_MAX));
        for field in [long.as_str(), "", "=x", "nothing", ";", "; Path=/"] {
            keep(&mut jar, "http://b/", &[field]);
            assert_eq!(told(&jar, "http://b/"), "", "{field}");
        }
    }
}
