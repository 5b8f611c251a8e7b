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
    matches!(
        name.as_str(),
        "authorization" | "proxy-authorization" | "cookie" | "set-cookie"
    ) || [
        "token",
        "api-key",
        "apikey",
        "secret",
        "password",
        "passwd",
        "credential",
    ]
    .iter()
    .any(|word| name.contains(word))
}

/// Whether two names of headers may be the same to a server that takes `_` for `-`.
pub(super) fn are_one_header(one: &HeaderName, other: &HeaderName) -> bool {
    one.as_str().replace('_', "-") == other.as_str().replace('_', "-")
}

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
