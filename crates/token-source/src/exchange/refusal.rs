//! What a server says about its refusal, as one line that may be shown.

use serde_json::Value;

use crate::redaction::{Redaction, in_one_line, shortened};

/// What the body of a refusal says, in one line of at most 200 characters; `None` where it says nothing.
pub(super) fn message(body: &[u8], is_cut: bool, redaction: &Redaction) -> Option<String> {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(json) => said_in(&json)?.to_owned(),
        // Before the tags go: what looks like one may be part of a secret.
        Err(_) => {
            let line = in_one_line(&String::from_utf8_lossy(body));
            without_tags(&redaction.mask(&line, is_cut))
        }
    };
    let line = redaction.mask(&in_one_line(&text), is_cut);
    let message = shortened(&line, LONGEST);
    (!message.is_empty()).then_some(message)
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

const LONGEST: usize = 200;

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

    #[test]
    fn what_is_secret_is_masked_wherever_it_stands() {
        let redaction = Redaction::default();
        redaction.add(&"hunter2-hunter2".into());
        for (body, is_cut, expected) in [
            ("bad <b>hunter2-hunter2</b>", false, "bad ***"),
            (
                r#"{"message":"bad hunter2\u002dhunter2"}"#,
                false,
                "bad ***",
            ),
            // A zero-width space in the middle hides nothing.
            ("bad hunter2\u{200b}-hunter2", false, "bad ***"),
            ("bad hunter2-", true, "bad ***"),
        ] {
            let told = message(body.as_bytes(), is_cut, &redaction);
            assert_eq!(told.as_deref(), Some(expected), "{body}");
        }
    }
}
