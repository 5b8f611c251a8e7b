//! What must not be shown, and the words of strangers without it: masked in each form in which somebody who was told a
//! secret might repeat it.

use std::{
    collections::HashSet,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use form_urlencoded::byte_serialize;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};

/// The secrets that are known so far, whatever their case.
#[derive(Default)]
pub struct Redaction(Mutex<Vec<Zeroizing<String>>>);

impl Redaction {
    /// From now on masks a secret as it is, and as it stands in URLs, forms, JSON, HTML, and base64.
    pub fn add(&self, secret: &SecretString) {
        #[expect(clippy::disallowed_methods, reason = "looked for, to be masked")]
        let secret = secret.expose_secret().trim();
        if secret.is_empty() {
            return;
        }
        let mut known = self.known();
        for form in forms(secret) {
            let form = Zeroizing::new(form.to_ascii_lowercase());
            if !known.contains(&form) {
                known.push(form);
            }
        }
    }

    /// A stranger's words in one line of at most `longest` characters: nothing secret, nothing that a terminal obeys,
    /// and nothing that nobody sees.
    pub fn quote(&self, text: &str, longest: usize) -> String {
        // Unseen characters go first: they may stand in the middle of a secret.
        shortened(&self.mask(&in_one_line(text), false), longest)
    }

    /// The text without what is known, whole or in runs of eight characters. Where it was cut, its end may be the start
    /// of a secret, which goes too.
    pub(crate) fn mask(&self, text: &str, is_cut: bool) -> String {
        let known = self.known();
        // ASCII letters keep their length and place in lower case.
        let lower = Zeroizing::new(text.to_ascii_lowercase());
        let mut hidden = vec![false; lower.len()];
        let runs: HashSet<&[u8]> = lower.as_bytes().windows(RUN).collect();
        let secret_runs: HashSet<&[u8]> = known
            .iter()
            .flat_map(|form| form.as_bytes().windows(RUN))
            .filter(|run| runs.contains(run))
            .collect();
        for (at, run) in lower.as_bytes().windows(RUN).enumerate() {
            if secret_runs.contains(run) {
                hidden[at..at + RUN].fill(true);
            }
        }
        for form in known.iter().filter(|form| form.len() < RUN) {
            for (at, _) in lower.match_indices(form.as_str()) {
                let end = at + form.len();
                if form.len() >= SHORTEST || is_a_value(&lower[..at], &lower[end..]) {
                    hidden[at..end].fill(true);
                }
            }
        }
        if is_cut {
            let is_start = |start: &usize| {
                let end = lower.get(*start..);
                end.is_some_and(|end| known.iter().any(|form| form.starts_with(end)))
            };
            let last = lower.len().saturating_sub(RUN)..lower.len();
            let start = last.clone().find(is_start).unwrap_or(last.end);
            hidden[start..].fill(true);
        }
        masked(text, &hidden)
    }

    fn known(&self) -> MutexGuard<'_, Vec<Zeroizing<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing of what it knows.
impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redaction").finish_non_exhaustive()
    }
}

/// How somebody might write it.
fn forms(secret: &str) -> Vec<Zeroizing<String>> {
    let in_json = Zeroizing::new(serde_json::to_string(secret).expect("a string has a JSON form"));
    let in_html = [
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("\"", "&quot;"),
        ("'", "&#39;"),
    ];
    let in_html = in_html
        .into_iter()
        .fold(secret.to_owned(), |text, (plain, entity)| {
            text.replace(plain, entity)
        });
    let mut forms = vec![
        secret.to_owned(),
        // As it is left of a text that was put in one line.
        in_one_line(secret),
        in_json[1..in_json.len() - 1].to_owned(),
        in_html,
    ];
    let in_url = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
    let in_form = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    for once in [
        in_url(secret),
        in_form(secret),
        in_form(secret).replace('+', "%20"),
    ] {
        // As a URL that is quoted in another.
        forms.extend([in_url(&once), in_form(&once), once]);
    }
    // Alone, or behind other bytes: the characters that these share with the secret are left out.
    for (before, shared) in [(0, 0), (1, 2), (2, 3)] {
        let bytes = Zeroizing::new([&vec![0; before], secret.as_bytes()].concat());
        forms.push(BASE64_STANDARD_NO_PAD.encode(&*bytes)[shared..].to_owned());
        forms.push(BASE64_URL_SAFE_NO_PAD.encode(&*bytes)[shared..].to_owned());
    }
    forms.into_iter().map(Zeroizing::new).collect()
}

/// Whether what stands between two texts is the whole value of something: `"x"`, `name=x`.
fn is_a_value(before: &str, after: &str) -> bool {
    before.ends_with(['"', '\'', '=', '>'])
        && (after.is_empty()
            || after.starts_with(|c: char| c.is_whitespace() || "\"'&;,<".contains(c)))
}

fn masked(text: &str, hidden: &[bool]) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut was_hidden = false;
    for (at, character) in text.char_indices() {
        let is_hidden = hidden[at..at + character.len_utf8()].contains(&true);
        if !is_hidden {
            shown.push(character);
        } else if !was_hidden {
            shown.push_str(MASK);
        }
        was_hidden = is_hidden;
    }
    shown
}

/// Without characters that a terminal obeys, or that nobody sees.
pub(crate) fn in_one_line(text: &str) -> String {
    let is_unseen = |c: char| {
        matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
    };
    let shown: String = text
        .chars()
        .filter(|&c| !is_unseen(c) && (c.is_whitespace() || !c.is_control()))
        .collect();
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What is longer ends with an ellipsis.
pub(crate) fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// All but what RFC 3986 calls unreserved.
pub(crate) const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const MASK: &str = "***";
/// In bytes: so much of a secret is told by no accident.
const RUN: usize = 8;
/// In bytes: what is shorter is masked only where it is the value of something. It stands in many a word, and who sees
/// those with a mask in them knows it.
const SHORTEST: usize = 4;

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    fn knowing(secrets: &[&str]) -> Redaction {
        let redaction = Redaction::default();
        for &secret in secrets {
            redaction.add(&secret.into());
        }
        redaction
    }

    #[test]
    fn a_secret_is_masked_in_each_form() {
        let secret = "qq7&* \"wörd\"~+/=<qq7>";
        let redaction = knowing(&[secret]);
        let in_url = utf8_percent_encode(secret, UNRESERVED).to_string();
        let in_form: String = byte_serialize(secret.as_bytes()).collect();
        let echoes = [
            secret.to_owned(),
            secret.to_uppercase().replace('Ö', "ö"),
            serde_json::to_string(secret).unwrap(),
            serde_json::json!({ "username": "svc", "password": secret }).to_string(),
            in_url.replace('%', "%25"),
            in_form.replace('%', "%25"),
            in_url,
            in_form,
            BASE64_STANDARD.encode(secret),
        ];
        for echo in echoes {
            let told = redaction.quote(&format!("wrong password {echo} for svc"), 200);
            assert!(told.contains("***") && told.ends_with(" for svc"), "{told}");
            assert!(!told.to_lowercase().contains("qq7"), "{told}");
        }
        for before in ["", "u:", "us:", "use:"] {
            let encoded = BASE64_STANDARD.encode(format!("{before}{secret}:after"));
            let told = redaction.quote(&encoded, 200);
            // What is before and behind it, each with the character that it shares with it.
            let left = told.replace("***", "");
            assert!(left.len() <= 18, "{encoded}: {told}");
        }
    }

    #[test]
    fn parts_of_a_secret_are_masked_from_eight_characters_on() {
        let redaction = knowing(&["hunter2-of-the-world", "abc", "zebra"]);
        for (text, expected) in [
            ("hunter2-of-the… no", "***… no"),
            ("2-of-the-world!", "***!"),
            ("xhunter2-xx2-of-the-", "x***xx***"),
            ("hunter2 of the world", "hunter2 of the world"),
            // Short ones: whole, and the shortest as a value only.
            ("a zebra, zebras, zeb", "a ***, ***s, zeb"),
            (
                "abcess \"abc\" k=abc&x=abcd abc",
                "abcess \"***\" k=***&x=abcd abc",
            ),
        ] {
            assert_eq!(redaction.quote(text, 200), expected, "{text}");
        }
    }

    #[test]
    fn the_start_of_a_secret_at_a_cut_is_masked() {
        let redaction = knowing(&["hunter2-hunter2"]);
        for (text, expected) in [
            ("bad hunter2-hunt", "bad ***"),
            ("bad h", "bad ***"),
            ("bad hunter2-hunter2", "bad ***"),
            ("bad key", "bad key"),
            ("ü", "ü"),
            ("", ""),
        ] {
            assert_eq!(redaction.mask(text, true), expected, "{text}");
        }
    }

    #[test]
    fn what_nobody_sees_is_gone_and_hides_nothing() {
        let redaction = knowing(&["hunter2-hunter2", "zq  \u{200b}zq\tzq"]);
        assert_eq!(redaction.quote("a zq  \u{200b}zq\tzq b", 200), "a *** b");
        let text =
            "a\u{202e}b\x1b[31m\u{2066}\tc\r\nhunter2\u{200b}-hu\u{feff}nter2\u{e0041} \u{9b}d";
        assert_eq!(redaction.quote(text, 200), "ab[31m c *** d");
        assert_eq!(redaction.quote("äöü", 2), "äö…");
        assert_eq!(redaction.quote("äöü", 3), "äöü");
    }

    #[test]
    fn it_shows_nothing_of_what_it_knows() {
        assert_eq!(format!("{:?}", knowing(&["hunter2"])), "Redaction { .. }");
    }
}
