//! What the heads of an upstream's answers have in common, so that it is parsed once and not for each answer.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use smallvec::SmallVec;

use super::Malformed;

/// What an upstream says of the connection, which ends here.
pub(super) type Lines = SmallVec<[HeaderValue; 1]>;

/// The names of headers that have come, each with its last value where it may be kept.
#[derive(Debug, Default)]
pub struct Usual {
    /// By `place`; none before the first head.
    places: Vec<Option<Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    /// As it came, in any case.
    spelled: Box<[u8]>,
    name: HeaderName,
    /// Its last value, empty at first; `None` where none is kept.
    value: Option<HeaderValue>,
}

impl Usual {
    /// The lines of a head as headers; values that are not known stay where they were read. Those of `Connection` apart,
    /// where they are wanted.
    ///
    /// # Errors
    /// When a line can be none.
    pub fn headers(
        &mut self,
        lines: &[httparse::Header<'_>],
        read: &Bytes,
        mut connection: Option<&mut Lines>,
    ) -> Result<HeaderMap, Malformed> {
        let mut headers = HeaderMap::with_capacity(lines.len() + ADDED_HEADERS);
        for line in lines {
            let (name, value) = self.header(line, read)?;
            match &mut connection {
                Some(connection) if name == header::CONNECTION => connection.push(value),
                _ => drop(headers.append(name, value)),
            }
        }
        Ok(headers)
    }

    #[inline]
    fn header(
        &mut self,
        line: &httparse::Header<'_>,
        read: &Bytes,
    ) -> Result<(HeaderName, HeaderValue), Malformed> {
        let spelled = line.name.as_bytes();
        if self.places.is_empty() {
            self.places = vec![None; PLACES];
        }
        let known = match &mut self.places[place(spelled)] {
            Some(known) if *known.spelled == *spelled => known,
            free @ None if spelled.len() <= LONGEST_NAME => free.insert(Known::new(spelled)?),
            // Who came first stays: two that take each other's place would cost more than they save.
            _ => return header(line, read),
        };
        let name = known.name.clone();
        match &mut known.value {
            Some(last) if last.as_bytes() == line.value => Ok((name, last.clone())),
            Some(last) if line.value.len() <= LONGEST_VALUE => {
                // A copy: the value itself would hold all that was read with it.
                *last = HeaderValue::from_bytes(line.value).map_err(|_| Malformed)?;
                Ok((name, value(line, read)?))
            }
            _ => Ok((name, value(line, read)?)),
        }
    }
}

impl Known {
    fn new(spelled: &[u8]) -> Result<Self, Malformed> {
        let name = HeaderName::from_bytes(spelled).map_err(|_| Malformed)?;
        let value = KEPT.contains(&name).then(|| HeaderValue::from_static(""));
        Ok(Self {
            spelled: spelled.into(),
            name,
            value,
        })
    }
}

/// A line as a header, of which nothing is kept.
pub(super) fn header(
    line: &httparse::Header<'_>,
    read: &Bytes,
) -> Result<(HeaderName, HeaderValue), Malformed> {
    let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Malformed)?;
    Ok((name, value(line, read)?))
}

fn value(line: &httparse::Header<'_>, read: &Bytes) -> Result<HeaderValue, Malformed> {
    HeaderValue::from_maybe_shared(read.slice_ref(line.value)).map_err(|_| Malformed)
}

/// Where a name is looked for, by its length and its ends: few of those that servers send share a place.
fn place(spelled: &[u8]) -> usize {
    let (Some(first), Some(last)) = (spelled.first(), spelled.last()) else {
        return 0;
    };
    (115 * spelled.len() + 3 * usize::from(*first) + usize::from(*last)) % PLACES
}

/// Headers that an upstream sends with the same value again and again, and that carry no secret by their meaning.
const KEPT: [HeaderName; 17] = [
    header::ACCEPT_RANGES,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_SECURITY_POLICY,
    header::CONTENT_TYPE,
    header::DATE,
    header::EXPIRES,
    header::PRAGMA,
    header::REFERRER_POLICY,
    header::SERVER,
    header::STRICT_TRANSPORT_SECURITY,
    header::VARY,
    header::X_CONTENT_TYPE_OPTIONS,
    header::X_FRAME_OPTIONS,
    header::X_XSS_PROTECTION,
];

/// Headers that the journey adds, for which room is made at once.
const ADDED_HEADERS: usize = 2;

const PLACES: usize = 128;

/// Longer names are not usual, in bytes.
const LONGEST_NAME: usize = 64;

/// Longer values are not kept, in bytes.
const LONGEST_VALUE: usize = 512;

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    type Read = Result<(HeaderMap, Lines), Malformed>;

    fn read(usual: &mut Usual, lines: &[(String, String)]) -> Read {
        let mut text = String::new();
        for (name, value) in lines {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        let text = Bytes::from(text + "\r\n");
        let mut parsed = [httparse::EMPTY_HEADER; 20];
        let (_, parsed) = httparse::parse_headers(&text, &mut parsed)
            .unwrap()
            .unwrap();
        let mut connection = Lines::new();
        let headers = usual.headers(parsed, &text, Some(&mut connection))?;
        Ok((headers, connection))
    }

    proptest! {
        #[test]
        fn what_came_before_changes_nothing(
            heads in proptest::collection::vec(
                proptest::collection::vec(
                    ("([Ss]erver|SERVER|[Dd]ate|connection|x|[A-Za-z-]{1,80})", "(a|b|[ -~]{0,12}|b{600})"),
                    0..12,
                ),
                1..8,
            ),
        ) {
            let mut usual = Usual::default();
            for lines in heads {
                let known = read(&mut usual, &lines).unwrap();
                prop_assert_eq!(known, read(&mut Usual::default(), &lines).unwrap());
            }
        }
    }

    #[test]
    fn values_are_kept_of_usual_names_alone() {
        let lines = ["Set-Cookie", "X-Own", "Location", "Server"];
        let lines = lines.map(|name| (name.to_owned(), "a".to_owned()));
        let mut usual = Usual::default();
        read(&mut usual, &lines).unwrap();
        let known = usual.places.iter().flatten();
        let kept = known.filter(|known| known.value.as_ref().is_some_and(|value| value == "a"));
        let kept: Vec<_> = kept.map(|known| known.name.as_str()).collect();
        assert_eq!(kept, ["server"]);
    }

    #[test]
    fn a_value_that_came_again_is_not_read_again() {
        let mut usual = Usual::default();
        let lines = [("Server".to_owned(), "nginx".to_owned())];
        let (first, _) = read(&mut usual, &lines).unwrap();
        let (second, _) = read(&mut usual, &lines).unwrap();
        let (third, _) = read(&mut usual, &lines).unwrap();
        let at = |headers: &HeaderMap| headers[header::SERVER].as_bytes().as_ptr();
        assert_ne!(
            at(&first),
            at(&second),
            "it would hold what it was read with"
        );
        assert_eq!(at(&second), at(&third));
    }
}
