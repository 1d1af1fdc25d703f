//! Fields in the form in which HTTP/1.1 writes them, with where each of them stands.
//!
//! Names are looked for one after another, since there are few; fields that follow each other are written by one copy, since nearly all
//! of them are. Never parses a head, and never says what a field means.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

/// Of so many fields the places need no memory of their own.
const INLINE: usize = 8;

/// Fields in order, names in lower case.
#[derive(Clone, Default)]
pub struct Fields {
    /// What stands before the first field, then each as `name: value` with its line end.
    pub(super) text: Vec<u8>,
    pub(super) at: SmallVec<[Field; INLINE]>,
}

/// Where a field stands in the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    start: u32,
    name_len: u32,
    end: u32,
}

/// Between a name and its value, and behind that.
pub(super) const COLON: &[u8] = b": ";
pub(super) const LINE_END: &[u8] = b"\r\n";

impl Field {
    fn name(self, text: &[u8]) -> &[u8] {
        &text[self.start as usize..(self.start + self.name_len) as usize]
    }

    fn value(self, text: &[u8]) -> &[u8] {
        let start = (self.start + self.name_len) as usize + COLON.len();
        &text[start..self.end as usize - LINE_END.len()]
    }
}

/// Turns the first `count` bytes into lower case; sixteen at once, which is as long as most names are.
fn lower(text: &mut [u8], count: usize) {
    const ONES: u128 = u128::MAX / 0xff;
    let Some(word) = text.first_chunk_mut::<16>().filter(|_| count <= 16) else {
        return text[..count].make_ascii_lowercase();
    };
    let bytes = u128::from_le_bytes(*word);
    let ascii = bytes & (ONES * 0x7f);
    // The top bit of each byte tells whether it is at least the first letter, and beyond the last.
    let from_a = ascii + ONES * u128::from(0x80 - b'A');
    let beyond_z = ascii + ONES * u128::from(0x7f - b'Z');
    let is_upper = (from_a & !beyond_z & !bytes) & (ONES * 0x80);
    let of_name = u128::MAX.checked_shr(128 - 8 * u32::try_from(count).unwrap_or(16));
    *word = (bytes | (is_upper >> 2) & of_name.unwrap_or(0)).to_le_bytes();
}

/// A place in the text. Heads are bounded far below 4 GiB where they are read.
pub(super) fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Fields {
    /// None yet, with room for so many bytes and fields.
    #[must_use]
    pub fn with_capacity(bytes: usize, count: usize) -> Self {
        Self {
            text: Vec::with_capacity(bytes + count * (COLON.len() + LINE_END.len())),
            at: SmallVec::with_capacity(count),
        }
    }

    /// None yet, with `before` in front and a copy of `raw` behind it, where fields stand that [`push_part`](Self::push_part) takes
    /// over; and with room for so many fields, and so many bytes of others.
    pub(super) fn copied(before: &[u8], raw: &[u8], count: usize, others: usize) -> Self {
        let mut fields = Self {
            text: Vec::with_capacity(before.len() + raw.len() + others),
            at: SmallVec::with_capacity(count),
        };
        fields.text.extend_from_slice(before);
        fields.text.extend_from_slice(raw);
        fields
    }

    /// None yet, but with a copy of `raw` to take fields over from.
    #[must_use]
    pub fn of_raw(raw: &[u8], count: usize, others: usize) -> Self {
        Self::copied(b"", raw, count, others)
    }

    /// Adds a field that stands in `raw`, of which the text holds a copy from `base` on. Nearly all fields stand there in the form in
    /// which they are written.
    pub(super) fn push_at(&mut self, base: usize, raw: &[u8], name: &[u8], value: &[u8]) {
        let start = (name.as_ptr() as usize).wrapping_sub(raw.as_ptr() as usize);
        let colon = start.wrapping_add(name.len());
        let end = colon.wrapping_add(COLON.len() + value.len());
        let is_as_written = value.as_ptr() as usize
            == name.as_ptr() as usize + name.len() + COLON.len()
            && raw.get(colon..).is_some_and(|rest| rest.starts_with(COLON))
            && raw
                .get(end..)
                .is_some_and(|rest| rest.starts_with(LINE_END));
        if !is_as_written {
            return self.push(name, value);
        }
        let start = base + start;
        lower(&mut self.text[start..], name.len());
        self.at.push(Field {
            start: place(start),
            name_len: place(name.len()),
            end: place(base + end + LINE_END.len()),
        });
    }

    /// Adds a field that stands in the `raw` that the fields were made with; any other one is copied.
    pub fn push_part(&mut self, raw: &[u8], name: &[u8], value: &[u8]) {
        self.push_at(0, raw, name, value);
    }

    /// Adds a field behind the others. The caller has seen to it that name and value are what RFC 9110 §5.1 and §5.5 allow.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.push_all(name, &[value]);
    }

    /// The same of a value that comes in parts.
    pub fn push_all(&mut self, name: &[u8], value: &[&[u8]]) {
        let start = self.text.len();
        self.text.extend_from_slice(name);
        self.text[start..].make_ascii_lowercase();
        self.text.extend_from_slice(COLON);
        for part in value {
            self.text.extend_from_slice(part);
        }
        self.text.extend_from_slice(LINE_END);
        self.at.push(Field {
            start: place(start),
            name_len: place(name.len()),
            end: place(self.text.len()),
        });
    }

    /// The value of the first field of that name, which is in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let field = self.at.iter().find(|field| self.is_named(field, name))?;
        Some(field.value(&self.text))
    }

    fn is_named(&self, field: &Field, name: &str) -> bool {
        field.name_len as usize == name.len() && field.name(&self.text) == name.as_bytes()
    }

    /// The same, if it is visible ASCII text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let value = self.get(name)?;
        let is_visible = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
        let text = value.iter().all(is_visible).then_some(value)?;
        std::str::from_utf8(text).ok()
    }

    /// Whether there is a field of that name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The values of all fields of that name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        self.at
            .iter()
            .filter(move |field| self.is_named(field, name))
            .map(|field| field.value(&self.text))
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.at
            .iter()
            .map(|field| (field.name(&self.text), field.value(&self.text)))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.at.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }

    /// Takes out what is not to be kept.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&[u8], &[u8]) -> bool) {
        let text = &self.text;
        self.at
            .retain(|field| is_kept((*field).name(text), (*field).value(text)));
    }

    /// Writes those that are to be passed on, each with its line end.
    pub fn write(&self, out: &mut Vec<u8>, mut is_passed: impl FnMut(&[u8], &[u8]) -> bool) {
        // Those that follow each other are copied at once.
        let mut run = 0..0;
        for field in &self.at {
            if is_passed(field.name(&self.text), field.value(&self.text)) {
                if run.end != field.start {
                    out.extend_from_slice(&self.text[run.start as usize..run.end as usize]);
                    run.start = field.start;
                }
                run.end = field.end;
            }
        }
        out.extend_from_slice(&self.text[run.start as usize..run.end as usize]);
    }

    /// The same fields for those who want a map.
    #[must_use]
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.len());
        for (name, value) in self.iter() {
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            {
                map.append(name, value);
            }
        }
        map
    }
}

impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        let bytes = map
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len());
        let mut fields = Self::with_capacity(bytes.sum(), map.len());
        for (name, value) in map {
            fields.push(name.as_str().as_bytes(), value.as_bytes());
        }
        fields
    }
}

impl fmt::Debug for Fields {
    /// Names alone: values may be credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self
            .iter()
            .map(|(name, _)| String::from_utf8_lossy(name).into_owned());
        f.debug_list().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in pairs {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    #[test]
    fn fields_are_found_by_their_name_in_lower_case_and_keep_their_order() {
        let fields = fields(&[("Host", "a"), ("X-A", "1"), ("x-b", ""), ("x-a", "2")]);
        assert_eq!(fields.get("host"), Some(&b"a"[..]));
        assert_eq!(fields.all("x-a").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(fields.get("x-b"), Some(&b""[..]));
        assert_eq!(fields.get("x-c"), None);
        assert_eq!(fields.to_map().get_all("x-a").iter().count(), 2);
        assert_eq!(Fields::from(&fields.to_map()).len(), 4);
    }

    #[test]
    fn what_is_passed_on_is_written_as_it_came_and_the_rest_is_left_out() {
        let mut fields = fields(&[("a", "1"), ("B", "2"), ("c", "3"), ("d", "4")]);
        let written = |fields: &Fields, without: &[u8]| {
            let mut out = Vec::new();
            fields.write(&mut out, |name, _| name != without);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(&fields, b"c"), "a: 1\r\nb: 2\r\nd: 4\r\n");
        assert_eq!(written(&fields, b"a"), "b: 2\r\nc: 3\r\nd: 4\r\n");
        fields.retain(|name, _| name != b"b");
        assert_eq!(written(&fields, b"d"), "a: 1\r\nc: 3\r\n");
        assert_eq!(written(&Fields::default(), b""), "");
    }

    proptest::proptest! {
        #[test]
        fn names_are_put_in_lower_case_and_nothing_else_is(text in proptest::collection::vec(proptest::num::u8::ANY, 0..40), count in 0usize..40) {
            let count = count.min(text.len());
            let mut expected = text.clone();
            expected[..count].make_ascii_lowercase();
            let mut text = text;
            lower(&mut text, count);
            proptest::prop_assert_eq!(text, expected);
        }
    }
}
