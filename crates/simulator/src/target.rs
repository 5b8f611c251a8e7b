//! Reads a request target as the services do: the path as the platform's nginx, the query as a form.

use http::Uri;
use percent_encoding::percent_decode_str;

/// The segments of `path`: percent-decoded once, lower case, without `;params`, empty segments and dot segments.
///
/// This generosity is the danger that a proxy in front has to cope with: `/USERMGMT//v1/x/../user/%61piKey` mints
/// a key here as it does on a real platform.
pub(crate) fn segments(path: &str) -> Vec<String> {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let mut segments: Vec<String> = Vec::new();
    for segment in decoded.split(['/', '\\']) {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name.to_ascii_lowercase()),
        }
    }
    segments
}

/// The first value of the query parameter `name`, decoded.
pub(crate) fn query_value(uri: &Uri, name: &str) -> Option<String> {
    form_urlencoded::parse(uri.query()?.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// Whether `text` has the form `YYYY-MM-DD`, as the version of an API has.
pub(crate) fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_endpoint_is_the_endpoint() {
        let plain = segments("/usermgmt/v1/user/apiKey");
        for spelling in [
            "/USERMGMT/v1/user/apikey",
            "//usermgmt/./v1/x/../user/apiKey/",
            "/usermgmt/v1/user/%61piKey",
            "/usermgmt%2Fv1%2fuser/apiKey",
            "/usermgmt;a=b/v1/user/apiKey;c",
            "/ml/%2e%2e/usermgmt/v1/user\\apiKey",
        ] {
            assert_eq!(segments(spelling), plain, "{spelling}");
        }
    }

    #[test]
    fn a_path_cannot_climb_above_its_root() {
        assert_eq!(segments("/../../ml"), ["ml"]);
        assert!(segments("/").is_empty());
    }
}
