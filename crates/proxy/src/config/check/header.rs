//! Headers and query parameters that the operator may name.

use http::HeaderName;

use crate::config::reading::Wrong;

/// A header that the operator may set or attach; not one that frames the message or that the proxy sets itself.
pub(super) fn header_name(text: &str) -> Result<HeaderName, Wrong> {
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        return Err(Wrong::new(
            "not the name of a header",
            "letters, digits and `-`, such as LhInstanceId",
        ));
    };
    if OWN.contains(&name.as_str()) {
        return Err(Wrong::new(
            "the proxy itself sets or removes this header",
            "it belongs to one connection, or says how long the message is",
        ));
    }
    Ok(name)
}

/// Whether a value under this name is likely a credential.
pub(super) fn names_a_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    CREDENTIALS.iter().any(|word| name.contains(word))
        || name == "key"
        || name.ends_with("-key")
        // At the end of a word: AuthInstanceId of watsonx.data is none.
        || name.split('-').any(|word| word.ends_with("auth"))
}

/// Whether a value is likely a credential: one with its scheme, or a JSON Web Token.
pub(super) fn is_credential(value: &str) -> bool {
    let has_scheme = value
        .trim_start()
        .split_once(' ')
        .is_some_and(|(scheme, _)| {
            ["Bearer", "Basic", "ZenApiKey"]
                .iter()
                .any(|known| scheme.eq_ignore_ascii_case(known))
        });
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_jwt = |word: &str| {
        let mut parts = word.split('.');
        // `{"` in base64
        parts.next().is_some_and(|head| head.starts_with("eyJ"))
            && parts.next().is_some_and(|claims| !claims.is_empty())
            && parts.next().is_some()
    };
    has_scheme || value.split(|c| !is_of_token(c)).any(is_jwt)
}

/// Whether two names of headers may be the same to a server that takes `_` for `-`.
pub(super) fn are_one_header(one: &HeaderName, other: &HeaderName) -> bool {
    one.as_str().replace('_', "-") == other.as_str().replace('_', "-")
}

/// Lower case, with `-` for `_`.
const CREDENTIALS: [&str; 13] = [
    "api-key",
    "apikey",
    "authentication",
    "authorization",
    "cookie",
    "credential",
    "jwt",
    "passwd",
    "password",
    "secret",
    "session",
    "signature",
    "token",
];

/// Lower case.
const OWN: [&str; 13] = [
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];
