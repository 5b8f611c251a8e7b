//! Which headers a head has, after one look at all their names: nearly every name that the journey asks for is not there,
//! and a look-up that finds nothing costs as much as one that finds something.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Headers, and the names that they have.
#[derive(Debug, Clone, Copy)]
pub struct Survey<'a> {
    headers: &'a HeaderMap,
    /// Still right after headers have been taken out.
    pub names: Names,
}

/// A set that all names of some headers are in, and few others: one bit for each, which some share.
#[derive(Debug, Clone, Copy)]
pub struct Names(u64);

/// There is more than one header of a name of which one alone means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Several;

impl Names {
    /// Whether a header of this name may be there: never no for one that is.
    pub fn may_have(self, name: &HeaderName) -> bool {
        self.0 & bit(name.as_str()) != 0
    }

    /// Whether a header of one of these names may be there.
    pub fn may_have_one(self, names: Self) -> bool {
        self.0 & names.0 != 0
    }

    /// Every name.
    pub const ALL: Self = Self(u64::MAX);

    /// The names of either.
    #[must_use]
    pub fn union(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// The set of some names, in lower case.
    pub const fn of(names: &[&str]) -> Self {
        let (mut set, mut at) = (0, 0);
        while at < names.len() {
            set |= bit(names[at]);
            at += 1;
        }
        Self(set)
    }
}

impl<'a> Survey<'a> {
    /// Looks at each name once.
    pub fn of(headers: &'a HeaderMap) -> Self {
        let names = headers
            .keys()
            .fold(0, |names, name| names | bit(name.as_str()));
        Self {
            headers,
            names: Names(names),
        }
    }

    /// The same headers again, after some have been taken out.
    pub fn with(headers: &'a HeaderMap, names: Names) -> Self {
        Self { headers, names }
    }

    /// Whether a header of this name is there.
    pub fn has(&self, name: &HeaderName) -> bool {
        self.names.may_have(name) && self.headers.contains_key(name)
    }

    /// The first header of this name.
    pub fn first(&self, name: &HeaderName) -> Option<&'a HeaderValue> {
        match self.names.may_have(name) {
            true => self.headers.get(name),
            false => None,
        }
    }

    /// All headers of this name, in their order.
    pub fn all(&self, name: &HeaderName) -> impl Iterator<Item = &'a HeaderValue> + use<'a> {
        let all = self
            .names
            .may_have(name)
            .then(|| self.headers.get_all(name));
        all.into_iter().flatten()
    }

    /// What stands between the commas of all headers of this name.
    pub fn listed(&self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        listed(self.all(name))
    }

    /// Whether a word stands between those commas, in any case.
    pub fn lists(&self, name: &HeaderName, word: &str) -> bool {
        match self.only(name) {
            Ok(None) => false,
            // Nearly always it is one word.
            Ok(Some(line)) if !line.as_bytes().contains(&b',') => {
                is_word(line.as_bytes().trim_ascii(), word)
            }
            _ => self.listed(name).any(|listed| is_word(listed, word)),
        }
    }

    /// The header of this name, if there is one.
    ///
    /// # Errors
    /// When there are several.
    pub fn only(&self, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Several> {
        if !self.names.may_have(name) {
            return Ok(None);
        }
        let mut all = self.headers.get_all(name).iter();
        let only = all.next();
        match all.next() {
            Some(_) => Err(Several),
            None => Ok(only),
        }
    }
}

/// What stands between the commas of some lines.
pub fn listed<'a>(
    lines: impl IntoIterator<Item = &'a HeaderValue>,
) -> impl Iterator<Item = &'a [u8]> {
    let lines = lines.into_iter().map(HeaderValue::as_bytes);
    let listed = lines.flat_map(|line| line.split(|byte| *byte == b','));
    listed.map(<[u8]>::trim_ascii)
}

/// Whether a text is a word, in any case; nearly always it is in the case of the word, or of another length.
pub fn is_word(text: &[u8], word: &str) -> bool {
    text == word.as_bytes() || text.eq_ignore_ascii_case(word.as_bytes())
}

/// The bit of a name, by its length and its ends: so that those that are asked for hardly share one with those that
/// clients and servers send.
const fn bit(name: &str) -> u64 {
    match name.as_bytes() {
        [] => 0,
        [first, .., last] | [first @ last] => {
            1 << ((27 * name.len() + *first as usize + *last as usize) % 64)
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header;
    use proptest::prelude::*;

    use super::*;

    fn head(lines: &[(String, String)]) -> HeaderMap {
        let line = |(name, value): &(String, String)| {
            (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(line) {
            headers.append(name, value);
        }
        headers
    }

    proptest! {
        #[test]
        fn it_finds_what_the_headers_have(
            lines in proptest::collection::vec(("(x|te|via|host|[a-z-]{1,20})", "[a-z]{0,3}"), 0..12),
            asked in "(x|te|via|host|[a-z-]{1,20})",
        ) {
            let headers = head(&lines);
            let survey = Survey::of(&headers);
            let names = lines.iter().map(|(name, _)| name).chain([&asked]);
            for name in names.map(|name| HeaderName::from_bytes(name.as_bytes()).unwrap()) {
                let all: Vec<_> = headers.get_all(&name).iter().collect();
                prop_assert_eq!(survey.all(&name).collect::<Vec<_>>(), all.clone());
                prop_assert_eq!(survey.first(&name), headers.get(&name));
                prop_assert_eq!(survey.has(&name), headers.contains_key(&name));
                let only = match all[..] {
                    [] => Ok(None),
                    [only] => Ok(Some(only)),
                    _ => Err(Several),
                };
                prop_assert_eq!(survey.only(&name), only);
            }
        }
    }

    #[test]
    fn most_names_that_are_not_there_cost_no_look_up() {
        let sent = [
            "host",
            "user-agent",
            "accept",
            "content-type",
            "authorization",
        ];
        let headers = head(&sent.map(|name| (name.to_owned(), "x".to_owned())));
        let survey = Survey::of(&headers);
        let asked = [
            header::TRANSFER_ENCODING,
            header::ORIGIN,
            header::EXPECT,
            header::VIA,
            header::TE,
            header::UPGRADE,
        ];
        for name in asked {
            assert!(!survey.names.may_have(&name), "{name}");
        }
    }
}
