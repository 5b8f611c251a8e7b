//! Which spellings of a value are found, and in how many steps.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;

thread_local! {
    /// How many spellings have been compared with a text.
    pub static STEPS: Cell<usize> = const { Cell::new(0) };
}

#[test]
fn a_row_of_one_character_is_read_in_few_ways() {
    for character in ["\\", "%", "&", "+", "/"] {
        let value = character.repeat(60);
        let needle = Needle::new(&value).unwrap();
        let text = character.repeat(1000);
        let before = STEPS.get();
        assert_eq!(
            masked([&needle], text.as_bytes()).unwrap(),
            vec![b'*'; 1000]
        );
        let steps = STEPS.get() - before;
        assert!(steps < 1000 * 60 * 4, "{character}: {steps}");
        let text = percent(&value, "");
        assert_eq!(
            masked([&needle], text.as_bytes()).unwrap(),
            vec![b'*'; text.len()]
        );
    }
}

#[test]
fn a_hyphen_is_found_in_its_spellings() {
    let needle = Needle::new("-canary-license").unwrap();
    for text in [
        "-canary\\-license",
        "-canary\\x2Dlicense",
        "-canary%2Dlicense",
        "-canary&#45;license",
    ] {
        let masked = masked([&needle], text.as_bytes());
        assert_eq!(masked.unwrap(), vec![b'*'; text.len()], "{text}");
    }
}

#[test]
fn a_password_that_is_not_ascii_is_found_in_utf_8_and_in_urls() {
    let needle = Needle::new("gr\u{fc}n-canary").unwrap();
    for text in ["gr\u{fc}n-canary", "gr%C3%BCn-canary", "gr%c3%bcn%2dcanary"] {
        let masked = masked([&needle], text.as_bytes());
        assert_eq!(masked.unwrap(), vec![b'*'; text.len()], "{text}");
    }
}

#[test]
fn a_name_in_lower_case_does_not_hide_it() {
    let needle = Needle::new("CanaryLicense%7cA").unwrap();
    for name in [
        "canarylicense%7ca",
        "x-canarylicense%7ca-y",
        "canarylicense%257ca",
    ] {
        assert!(needle.stands_in_name(name.as_bytes()), "{name}");
    }
    for name in ["canarylicense%7c", "x-canarylicense", "", "content-length"] {
        assert!(!needle.stands_in_name(name.as_bytes()), "{name}");
    }
}

/// Percent-encoded, but for letters, digits and what is kept.
fn percent(value: &str, keeps: &str) -> String {
    let encode = |c: char| match c.is_ascii_alphanumeric() || keeps.contains(c) {
        true => c.to_string(),
        false => format!("%{:02X}", u32::from(c)),
    };
    value.chars().map(encode).collect()
}

#[test]
fn a_value_is_found_as_any_client_or_server_writes_it() {
    let value = "canary+license/token=7c&\"<'>%\\~!*(),:;@$[x]";
    let needle = Needle::new(value).unwrap();
    let query = percent(value, "-._~");
    let json = value.replace('\\', "\\\\").replace('"', "\\\"");
    let html = value.replace('&', "&amp;").replace('<', "&lt;");
    let spellings = [
        value.to_owned(),
        query.clone(),
        query.to_lowercase(),
        // JavaScript, Java's forms, Python, Go and Spring, what browsers do to a query.
        percent(value, "-_.!~*'()"),
        percent(value, "-_.*"),
        percent(value, "-_.~/"),
        percent(value, "-._~!$&'()*+,;=:@"),
        percent(value, "!$%&'()*+,-./:;=?@[\\]^_`{|}~"),
        percent(&query, "-._~"),
        percent(&percent(&query, ""), ""),
        // JSON of PHP, Go and Gson; a script in a page.
        json.clone(),
        json.replace('/', "\\/"),
        json.replace('&', "\\u0026").replace('<', "\\u003c"),
        json.replace('=', "\\u003D").replace('\'', "\\u0027"),
        value.replace('\\', "\\x5c").replace('"', "\\x22"),
        // HTML by hand, of Go, PHP, Handlebars and Mustache.
        html.replace('>', "&gt;").replace('"', "&quot;"),
        html.replace('\'', "&#39;").replace('"', "&#34;"),
        html.replace('\'', "&#039;"),
        html.replace('\'', "&#x27;").replace('=', "&#x3D;"),
        html.replace('/', "&#x2F;").replace('=', "&#x3D;"),
    ];
    for spelling in spellings {
        let text = format!("before {spelling} after");
        let mut hits = Vec::new();
        let open = needle.find(text.as_bytes(), |hit| hits.push(hit));
        assert!(
            hits.iter()
                .any(|hit| hit.end == 7 + spelling.len() && hit.start == 7),
            "{spelling}: {hits:?}"
        );
        assert_eq!(open, text.len(), "{spelling}");
    }
}

#[test]
fn another_value_is_not_found() {
    let needle = Needle::new("canary+license").unwrap();
    for text in [
        "canary-license",
        "canary license",
        "Canary+license",
        "canary%2Clicense",
        "canary%2Blicens",
        "canarylicense",
        "",
    ] {
        assert_eq!(masked([&needle], text.as_bytes()), None, "{text}");
    }
    assert!(Needle::new("1234567").is_none());
    assert_eq!(
        masked([&Needle::new("12345678").unwrap()], b"a12345678b").unwrap(),
        b"a********b"
    );
}

#[test]
fn nothing_of_the_value_shows_in_debug() {
    let needle = Needle::new("canary+license").unwrap();
    assert_eq!(format!("{needle:?}"), "Needle");
}

/// A value of few characters, so that it overlaps with itself, and a text that has much of it.
pub(in super::super) fn value_and_text() -> impl Strategy<Value = (String, Vec<u8>)> {
    "[ab%&+\\\\2]{8,10}".prop_flat_map(|value| {
        let of_it = (Just(value.clone()), 0..=value.len(), any::<u64>())
            .prop_map(|(value, size, choices)| spelled(&value[..size], choices));
        let piece = prop_oneof![
            3 => of_it,
            1 => "[ab%&+\\\\25u0;x#]{0,6}",
        ];
        let text =
            prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat().into_bytes());
        (Just(value), text)
    })
}

/// Each character in a way that the bits choose.
fn spelled(value: &str, mut choices: u64) -> String {
    let mut spelled = String::new();
    for byte in value.bytes() {
        let mut ways = vec![char::from(byte).to_string()];
        if !is_plain(byte) {
            ways.extend(spellings_of(byte));
        }
        let choice = choices as usize % ways.len();
        choices = choices.rotate_right(5);
        spelled.push_str(&ways[choice]);
    }
    spelled
}

/// The text with `*` for each byte of each reading of the value, found by trying everything.
pub(in super::super) fn naively_masked(value: &str, text: &[u8]) -> Vec<u8> {
    fn longest(value: &[u8], text: &[u8]) -> Option<usize> {
        let Some((&byte, rest)) = value.split_first() else {
            return Some(0);
        };
        let mut ways = vec![char::from(byte).to_string()];
        if !is_plain(byte) {
            ways.extend(spellings_of(byte));
        }
        let after = |way: &String| {
            let (start, after) = text.split_at_checked(way.len())?;
            let is_way = start.eq_ignore_ascii_case(way.as_bytes())
                && (way.len() > 1 || start == way.as_bytes());
            is_way
                .then(|| longest(rest, after))?
                .map(|size| size + way.len())
        };
        ways.iter().filter_map(after).max()
    }
    let mut masked = text.to_vec();
    for at in 0..text.len() {
        if let Some(size) = longest(value.as_bytes(), &text[at..]) {
            masked[at..at + size].fill(b'*');
        }
    }
    masked
}

proptest! {
    #[test]
    fn every_spelling_is_found((value, text) in value_and_text()) {
        let needle = Needle::new(&value).unwrap();
        let found = masked([&needle], &text).unwrap_or_else(|| text.clone());
        prop_assert_eq!(found.escape_ascii().to_string(), naively_masked(&value, &text).escape_ascii().to_string());
    }
}
