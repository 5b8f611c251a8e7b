//! A value that must not reach a client, found however its characters are spelled: as they are, or as URLs, JSON,
//! JavaScript and HTML write them.

use std::{fmt, ops::Range};

use secrecy::{ExposeSecret as _, SecretString};
use smallvec::{SmallVec, smallvec};

/// A value, and the spellings of those of its characters that have more than one.
pub struct Needle {
    value: SecretString,
    size: usize,
    /// How many characters at its start have one spelling only; all of most tokens.
    plain: usize,
    spellings: Vec<(u8, Vec<String>)>,
    /// Where a character stands so often in a row that only its first spelling is followed.
    runs: Vec<Range<usize>>,
}

/// What a text has of a value from one place on.
struct Standing {
    /// How many bytes of the text are the value.
    size: Option<usize>,
    /// The text ends before it is clear whether the value stands there, or how long it is.
    goes_on: bool,
}

impl Needle {
    /// Looks for a value of visible ASCII; `None` where it is so short that it would be found, and overwritten, where
    /// it is none. No real credential is that short.
    pub fn new(value: &str) -> Option<Self> {
        if value.len() < SHORTEST {
            return None;
        }
        let mut spellings: Vec<(u8, Vec<String>)> = Vec::new();
        let special = || {
            value
                .bytes()
                .enumerate()
                .filter(|&(at, byte)| is_special(at, byte))
        };
        for (_, byte) in special() {
            if spellings.iter().all(|(known, _)| *known != byte) {
                spellings.push((byte, spellings_of(byte)));
            }
        }
        let plain = special().next().map_or(value.len(), |(at, _)| at);
        Some(Self {
            value: value.into(),
            size: value.len(),
            plain,
            spellings,
            runs: runs(value.as_bytes()),
        })
    }

    /// How long the value is, in bytes; no spelling of it is shorter.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Tells `hit` each place where the value stands in a text; such places may overlap. What is returned is where the
    /// value may begin that goes on behind the end of the text; the text's length, if nowhere.
    #[expect(
        clippy::disallowed_methods,
        reason = "the value is looked for in answers"
    )]
    pub fn find(&self, text: &[u8], mut hit: impl FnMut(Range<usize>)) -> usize {
        let value = self.value.expose_secret().as_bytes();
        let mut open = text.len();
        let mut at = 0;
        while let Some(next) = self.next_start(value[0], &text[at..]) {
            at += next;
            let standing = self.standing(value, &text[at..], |text, value| text == value);
            if let Some(size) = standing.size {
                hit(at..at + size);
            }
            if standing.goes_on {
                open = open.min(at);
            }
            at += 1;
        }
        open
    }

    /// Whether the value stands in the name of a header; such names are in lower case.
    #[expect(
        clippy::disallowed_methods,
        reason = "the value is looked for in answers"
    )]
    pub fn stands_in_name(&self, name: &[u8]) -> bool {
        // Nearly all names are shorter than any value.
        let Some(last) = name.len().checked_sub(self.size) else {
            return false;
        };
        let value = self.value.expose_secret().as_bytes();
        (0..=last).any(|at| {
            let standing = self.standing(value, &name[at..], <[u8]>::eq_ignore_ascii_case);
            standing.size.is_some()
        })
    }

    /// The next place where the value might stand, by the first byte alone.
    fn next_start(&self, first: u8, text: &[u8]) -> Option<usize> {
        match self.spellings_at(0, first) {
            [] => memchr::memchr(first, text),
            spellings => text.iter().position(|byte| {
                *byte == first || spellings.iter().any(|s| s.as_bytes()[0] == *byte)
            }),
        }
    }

    /// Whether the value stands at the start of a text. Several readings are followed side by side: `%25` may be a
    /// percent sign, or the beginning of `%2525`.
    fn standing(
        &self,
        value: &[u8],
        text: &[u8],
        is_same: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Standing {
        let (plain, value) = value.split_at(self.plain);
        let common = plain.len().min(text.len());
        let begins = is_same(&text[..common], &plain[..common]);
        if !begins || common < plain.len() {
            return Standing {
                size: None,
                goes_on: begins,
            };
        }
        let mut ends: SmallVec<[usize; 4]> = smallvec![common];
        let mut goes_on = false;
        for (at, &byte) in (self.plain..).zip(value) {
            let mut next = SmallVec::new();
            for &end in &ends {
                let rest = &text[end..];
                let mut read = |spelling: &[u8]| {
                    #[cfg(test)]
                    tests::STEPS.set(tests::STEPS.get() + 1);
                    let common = spelling.len().min(rest.len());
                    if !rest[..common].eq_ignore_ascii_case(&spelling[..common]) {
                        return;
                    }
                    if common < spelling.len() {
                        goes_on = true;
                    } else if !next.contains(&(end + common)) {
                        next.push(end + common);
                    }
                };
                // Case counts where a character stands for itself.
                if rest.first().is_none_or(|first| is_same(&[*first], &[byte])) {
                    read(&[byte]);
                }
                for spelling in self.spellings_at(at, byte) {
                    read(spelling.as_bytes());
                }
            }
            if next.is_empty() {
                return Standing {
                    size: None,
                    goes_on,
                };
            }
            ends = next;
        }
        Standing {
            size: ends.into_iter().max(),
            goes_on,
        }
    }

    /// The other spellings of the value's character at a place.
    fn spellings_at(&self, at: usize, byte: u8) -> &[String] {
        if !is_special(at, byte) {
            return &[];
        }
        let found = self.spellings.iter().find(|(known, _)| *known == byte);
        let spellings = found.map_or(&[][..], |(_, spellings)| spellings);
        match self.runs.iter().any(|run| run.contains(&at)) {
            true => &spellings[..1],
            false => spellings,
        }
    }
}

/// A text with `*` wherever one of these values stands in it; `None` where none does.
pub fn masked<'a>(needles: impl IntoIterator<Item = &'a Needle>, text: &[u8]) -> Option<Vec<u8>> {
    let mut hits: SmallVec<[Range<usize>; 2]> = SmallVec::new();
    let fitting = |needle: &&Needle| needle.size <= text.len();
    for needle in needles.into_iter().filter(fitting) {
        needle.find(text, |hit| hits.push(hit));
    }
    if hits.is_empty() {
        return None;
    }
    let mut masked = text.to_vec();
    for hit in hits {
        masked[hit].fill(b'*');
    }
    Some(masked)
}

/// What nobody writes in another way than as it is: nearly all that tokens in base64url and JWTs are made of.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_')
}

/// Whether the character at this place of a value has other spellings. A `-` has some where regular expressions and
/// scripts are quoted; at the start of a value they are not looked for, so that a text is searched for one byte.
fn is_special(at: usize, byte: u8) -> bool {
    !is_plain(byte) && (at > 0 || byte != b'-')
}

/// Where one special character stands more than `LONGEST_RUN` times in a row: `\\` may be one or two of them, and a row
/// of those could be read in more ways than anybody has the time for.
fn runs(value: &[u8]) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut start = 0;
    for run in value.chunk_by(|one, next| one == next) {
        let end = start + run.len();
        if run.len() > LONGEST_RUN && !is_plain(run[0]) {
            runs.push(start..end);
        }
        start = end;
    }
    runs
}

/// The other ways to write a character, whatever the case of their letters.
fn spellings_of(byte: u8) -> Vec<String> {
    let mut spellings = vec![
        format!("%{byte:02x}"),
        // A URL as the parameter of another, and once more.
        format!("%25{byte:02x}"),
        format!("%2525{byte:02x}"),
        format!("\\{}", char::from(byte)),
        format!("\\u00{byte:02x}"),
        format!("\\x{byte:02x}"),
        format!("&#{byte};"),
        format!("&#0{byte};"),
        format!("&#x{byte:02x};"),
    ];
    let named = match byte {
        b' ' => "+",
        b'"' => "&quot;",
        b'&' => "&amp;",
        b'\'' => "&apos;",
        b'+' => "&plus;",
        b'/' => "&sol;",
        b'<' => "&lt;",
        b'=' => "&equals;",
        b'>' => "&gt;",
        _ => return spellings,
    };
    spellings.push(named.to_owned());
    spellings
}

impl fmt::Debug for Needle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Needle")
    }
}

const SHORTEST: usize = 8;

const LONGEST_RUN: usize = 8;

#[cfg(test)]
pub(super) mod tests;
