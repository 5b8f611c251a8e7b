//! What a server says about its refusal, as one line that may be shown: everything that was sent is masked, in each
//! form in which a server might repeat it.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use form_urlencoded::byte_serialize;
use http::{HeaderValue, Request, header::AUTHORIZATION};
use secrecy::zeroize::Zeroizing;
use serde_json::Value;

use crate::http::Body;

/// Texts that are masked wherever they stand, whatever their case.
#[derive(Default)]
pub(super) struct Redaction(Vec<Zeroizing<String>>);

impl Redaction {
    /// Masks a secret as it is, and as it stands in URLs, forms, JSON, HTML, and base64.
    pub(super) fn add(&mut self, secret: &str) {
        let secret = secret.trim();
        if secret.is_empty() {
            return;
        }
        let in_json = serde_json::to_string(secret).expect("a string has a JSON form");
        let in_form: String = byte_serialize(secret.as_bytes()).collect();
        let in_html = [
            ("&", "&amp;"),
            ("<", "&lt;"),
            (">", "&gt;"),
            ("\"", "&quot;"),
            ("'", "&#39;"),
        ]
        .into_iter()
        .fold(secret.to_owned(), |text, (plain, entity)| {
            text.replace(plain, entity)
        });
        let forms = [
            secret.to_owned(),
            in_json[1..in_json.len() - 1].to_owned(),
            in_form.replace('+', "%20"),
            in_form,
            in_html,
            BASE64_STANDARD_NO_PAD.encode(secret),
            BASE64_URL_SAFE_NO_PAD.encode(secret),
        ];
        for form in forms {
            let form = Zeroizing::new(form.to_ascii_lowercase());
            if !self.0.contains(&form) {
                self.0.push(form);
            }
        }
        // A part must not be masked before the whole.
        self.0.sort_by_key(|form| std::cmp::Reverse(form.len()));
    }

    /// Masks every value that a request carries, but for the words of the protocol and the user's name.
    pub(super) fn add_all_of(&mut self, request: &Request<Body>) {
        for (name, value) in request.headers() {
            let is_secret = value.is_sensitive() || *name == AUTHORIZATION;
            if is_secret && !HARMLESS.contains(&name.as_str()) {
                self.add_header(value);
            }
        }
        if let Some(query) = request.uri().query() {
            self.add_pairs(query.as_bytes());
        }
        match serde_json::from_slice(request.body()) {
            Ok(json) => self.add_strings(json),
            Err(_) => self.add_pairs(request.body()),
        }
    }

    /// The text without what is to be masked. Where it was cut, its end may be the start of a secret, which goes too.
    pub(super) fn redact(&self, text: &str, is_cut: bool) -> String {
        let mut text = text.to_owned();
        for form in &self.0 {
            // ASCII letters keep their length and place in lower case.
            let mut lower = text.to_ascii_lowercase();
            while let Some(start) = lower.find(form.as_str()) {
                text.replace_range(start..start + form.len(), MASK);
                lower.replace_range(start..start + form.len(), BLANK);
            }
        }
        if is_cut {
            let lower = text.to_ascii_lowercase();
            let starts = self.0.iter().flat_map(|form| {
                let ends = form.char_indices().map(|(end, _)| end).skip(1);
                ends.filter(|&end| lower.ends_with(&form[..end]))
            });
            let kept = text.len() - starts.max().unwrap_or(0);
            text.truncate(kept);
        }
        text
    }

    fn add_header(&mut self, value: &HeaderValue) {
        let Ok(value) = value.to_str() else { return };
        let value = value.split_once(' ').map_or(value, |(_, value)| value);
        self.add(value);
        let decoded = BASE64_STANDARD_NO_PAD.decode(value.trim_end_matches('='));
        if let Some(pair) = decoded.ok().and_then(|pair| String::from_utf8(pair).ok()) {
            let pair = Zeroizing::new(pair);
            self.add(pair.split_once(':').map_or("", |(_, secret)| secret));
        }
    }

    fn add_pairs(&mut self, form: &[u8]) {
        for (name, value) in form_urlencoded::parse(form) {
            if !HARMLESS.contains(&&*name) {
                self.add(&Zeroizing::new(value.into_owned()));
            }
        }
    }

    fn add_strings(&mut self, json: Value) {
        match json {
            Value::String(text) => self.add(&Zeroizing::new(text)),
            Value::Array(list) => list.into_iter().for_each(|value| self.add_strings(value)),
            Value::Object(fields) => fields
                .into_iter()
                .filter(|(name, _)| !HARMLESS.contains(&name.as_str()))
                .for_each(|(_, value)| self.add_strings(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// What the body of a refusal says, in one line of at most 200 characters; `None` where it says nothing.
pub(super) fn message(body: &[u8], is_cut: bool, redaction: &Redaction) -> Option<String> {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(json) => said_in(&json)?.to_owned(),
        Err(_) => {
            let text = redaction.redact(&String::from_utf8_lossy(body), is_cut);
            without_tags(&text)
        }
    };
    // Once more in the end: what was taken out may have stood in the middle of a secret.
    let line = in_one_line(&redaction.redact(&text, false));
    let line = redaction.redact(&line, is_cut);
    let mut characters = line.chars();
    let mut message: String = characters.by_ref().take(LONGEST).collect();
    if characters.next().is_some() {
        message.push('…');
    }
    (!message.is_empty()).then_some(message)
}

/// The texts of an answer that may be tokens: no word is that long.
pub(super) fn long_texts(body: &[u8]) -> Vec<Zeroizing<String>> {
    let mut texts = Redaction::default();
    if let Ok(json) = serde_json::from_slice(body) {
        texts.add_strings(json);
    }
    texts.0.retain(|text| text.len() >= LONG);
    texts.0
}

/// Where IBM's services put their message, in the order in which IBM's own clients look for it.
fn said_in(json: &Value) -> Option<&str> {
    let places = [
        "/errors/0/message",
        "/error",
        "/error/message",
        "/message",
        "/errorMessage",
        "/exception",
    ];
    let texts = places
        .into_iter()
        .filter_map(|place| json.pointer(place)?.as_str());
    texts
        .chain(json.as_str())
        .find(|text| !text.trim().is_empty())
}

/// The text of a page.
fn without_tags(page: &str) -> String {
    let lower = page.to_ascii_lowercase();
    let mut text = String::with_capacity(page.len());
    let mut at = 0;
    while let Some(start) = page[at..].find('<').map(|start| at + start) {
        text.push_str(&page[at..start]);
        text.push(' ');
        let hidden = ["script", "style", "!--"]
            .into_iter()
            .find(|name| lower[start + 1..].starts_with(name));
        let end = match hidden {
            Some("!--") => "-->",
            Some("script") => "</script>",
            Some(_) => "</style>",
            None => ">",
        };
        at = lower[start..]
            .find(end)
            .map_or(page.len(), |after| start + after + end.len());
    }
    text.push_str(&page[at..]);
    [
        ("&nbsp;", " "),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ]
    .into_iter()
    .fold(text, |text, (entity, plain)| text.replace(entity, plain))
}

/// Without characters that a terminal obeys, or that nobody sees.
fn in_one_line(text: &str) -> String {
    let is_unseen = |c: char| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let shown: String = text
        .chars()
        .filter(|&c| !is_unseen(c) && (c.is_whitespace() || !c.is_control()))
        .collect();
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What carries no secret, and whose values are words that a message may well use.
const HARMLESS: [&str; 5] = [
    "grant_type",
    "response_type",
    "scope",
    "username",
    "expires_in",
];
const MASK: &str = "***";
/// What [`MASK`] is while it is looked for more: never part of a secret's form.
const BLANK: &str = "\0\0\0";
const LONGEST: usize = 200;
const LONG: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(body: &str) -> Option<String> {
        message(body.as_bytes(), false, &Redaction::default())
    }

    #[test]
    fn the_message_is_found_where_ibms_clients_look_for_it() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"x","message":"first"}],"error":"second","message":"third"}"#,
                Some("first"),
            ),
            (r#"{"error":"second","message":"third"}"#, Some("second")),
            (
                r#"{"error":{"message":"inner"},"message":"third"}"#,
                Some("inner"),
            ),
            (
                r#"{"errors":[],"error":"","message":"third","errorMessage":"fourth"}"#,
                Some("third"),
            ),
            (
                r#"{"errorCode":"BXNIM0415E","errorMessage":"Provided API key could not be found."}"#,
                Some("Provided API key could not be found."),
            ),
            (r#"{"_statusCode_":401,"exception":"e"}"#, Some("e")),
            (r#"{"token":"t"}"#, None),
            ("[]", None),
            ("", None),
            ("  \n", None),
            ("plain\r\n text\x1b[31m", Some("plain text[31m")),
            (
                "<html><head><style>p { }</style><script>x()</script></head><body><!-- c --><h1>Error 401</h1><p>Message: \
                 <b>Unauthorized &amp; out</b></p></body></html>",
                Some("Error 401 Message: Unauthorized & out"),
            ),
        ] {
            assert_eq!(said(body).as_deref(), expected, "{body}");
        }
        let long = said(&"x".repeat(1000)).unwrap();
        assert_eq!(long.chars().count(), 201);
    }

    fn post(body: &str) -> Request<Body> {
        Request::post("/login")
            .body(Body::new(body.as_bytes().to_vec()))
            .unwrap()
    }

    #[test]
    fn what_was_sent_is_masked_in_each_form() {
        let secret = "qq7& \"wörd\"+/=<qq7>";
        let json = serde_json::json!({"username": "svc", "password": secret}).to_string();
        let form: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "password")
            .append_pair("username", "svc")
            .append_pair("password", secret)
            .finish();
        for body in [json, form] {
            let mut redaction = Redaction::default();
            redaction.add_all_of(&post(&body));
            let echoes = [
                secret.to_owned(),
                secret.to_uppercase().replace('Ö', "ö"),
                serde_json::to_string(secret).unwrap(),
                byte_serialize(secret.as_bytes()).collect(),
                base64::prelude::BASE64_STANDARD.encode(secret),
                body.clone(),
            ];
            for echo in echoes {
                let told = format!("wrong password {echo} for svc");
                let told = message(told.as_bytes(), false, &redaction).unwrap();
                assert!(told.contains("***") && told.ends_with(" for svc"), "{told}");
                assert!(!told.to_lowercase().contains("qq7"), "{told}");
            }
        }
    }

    #[test]
    fn headers_and_queries_are_masked() {
        let mut request = post("");
        *request.uri_mut() = "/products?token=c%2Bnary&format=csv".parse().unwrap();
        let headers = request.headers_mut();
        headers.insert(
            AUTHORIZATION,
            HeaderValue::from_static("Basic dTpoaWRkZW4="),
        );
        let mut token = HeaderValue::from_static("tok-en");
        token.set_sensitive(true);
        headers.insert("iam-token", token);
        let mut redaction = Redaction::default();
        redaction.add_all_of(&request);
        let body = b"a c+nary b c%2bnary c dTpoaWRkZW4= d hidden e tok-en f";
        assert_eq!(
            message(body, false, &redaction).as_deref(),
            Some("a *** b *** c *** d *** e *** f")
        );
    }

    #[test]
    fn the_start_of_a_secret_at_a_cut_is_masked() {
        let mut redaction = Redaction::default();
        redaction.add("hunter2-hunter2");
        for (body, expected) in [
            ("bad hunter2-hunt", "bad"),
            ("bad h", "bad"),
            ("bad hunter2-hunter2", "bad ***"),
            ("bad key", "bad key"),
        ] {
            assert_eq!(
                message(body.as_bytes(), true, &redaction).as_deref(),
                Some(expected)
            );
        }
        // A zero-width space in the middle hides nothing.
        let body = "bad hunter2\u{200b}-hunter2";
        assert_eq!(
            message(body.as_bytes(), false, &redaction).as_deref(),
            Some("bad ***")
        );
    }
}
