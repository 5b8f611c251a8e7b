//! Paths of requests as the operator writes them: one spelling each, so that nothing is matched twice or never.

use percent_encoding::percent_decode_str;

use crate::config::reading::Wrong;

/// The decoded segments of a clean absolute path; a slash at the end means nothing.
pub(crate) fn clean_segments(path: &str) -> Result<Vec<String>, Wrong> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(Wrong::new(
            "a path begins with a slash",
            "write it as \"/ml/v1\"",
        ));
    };
    if rest.contains(['?', '#']) {
        return Err(Wrong::new(
            "a path has no query and no fragment",
            "leave out `?` and `#`",
        ));
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() && path.len() > 1 {
        return Err(Wrong::new(
            "empty segment in the path",
            "write one slash instead of several",
        ));
    }
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    rest.split('/').map(clean_segment).collect()
}

fn clean_segment(segment: &str) -> Result<String, Wrong> {
    if segment.is_empty() {
        return Err(Wrong::new(
            "empty segment in the path",
            "write one slash instead of several",
        ));
    }
    let escapes_are_whole = segment
        .split('%')
        .skip(1)
        .all(|after| after.len() >= 2 && after.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit));
    let decoded = percent_decode_str(segment).decode_utf8();
    let (true, Ok(decoded)) = (escapes_are_whole, decoded) else {
        return Err(Wrong::new(
            "broken escape in the path",
            "`%` and two hexadecimal digits",
        ));
    };
    if decoded == "." || decoded == ".." {
        return Err(Wrong::new(
            "dot segment in the path",
            "write the path that is meant",
        ));
    }
    if decoded.contains(['/', '\\', ';']) || decoded.chars().any(char::is_control) {
        return Err(Wrong::new(
            "a segment of the path contains a slash, a backslash, a semicolon or a control character",
            "requests with such paths are refused or matched without it",
        ));
    }
    Ok(decoded.into_owned())
}
