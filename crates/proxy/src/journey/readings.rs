//! What the servers of a chain may read in a path in which escapes are escaped: each may decode it once more, cut
//! parameters off, and resolve dots, in any order.

use percent_encoding::percent_decode_str;

/// Every form of a path that one of the servers may see; `None` where there are more than anybody means.
pub fn of(path: &str) -> Option<Vec<String>> {
    let mut forms = vec![(path.to_owned(), 0)];
    let mut at = 0;
    while let Some((form, decodings)) = forms.get(at).cloned() {
        at += 1;
        let next = [
            (without_parameters(&form), decodings),
            (resolved(&form), decodings),
            (decoded(&form), decodings + 1),
        ];
        for (next, decodings) in next {
            if forms.iter().any(|(known, _)| *known == next) {
                continue;
            }
            if decodings > MOST_DECODINGS || forms.len() == MOST_FORMS {
                return None;
            }
            forms.push((next, decodings));
        }
    }
    Some(forms.into_iter().map(|(form, _)| form).collect())
}

/// Whether a path has more than one form: whoever encodes an escape does it for a chain of servers, or for nothing.
pub fn are_several(path: &str) -> bool {
    // Most have no escape at all, which is sooner seen.
    memchr::memchr(b'%', path.as_bytes()).is_some_and(|at| path[at..].contains("%25"))
}

fn decoded(path: &str) -> String {
    percent_decode_str(path).decode_utf8_lossy().into_owned()
}

fn without_parameters(path: &str) -> String {
    let segments = path.split('/');
    let names = segments.map(|segment| segment.split(';').next().unwrap_or_default());
    names.collect::<Vec<_>>().join("/")
}

/// Without dot segments and empty ones; a backslash counts as a slash. Dots that lead out at the top stay, so that
/// nothing below takes the path for one of its own.
fn resolved(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut is_folder = false;
    for segment in path.split(['/', '\\']) {
        is_folder = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." if segments.last().is_some_and(|last| *last != "..") => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let end = if is_folder && !segments.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{end}", segments.join("/"))
}

/// More than any chain of servers has.
const MOST_DECODINGS: usize = 8;

/// A path that is not made to confuse has one form for each decoding.
const MOST_FORMS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn has(path: &str, form: &str) -> bool {
        of(path).unwrap().iter().any(|found| found == form)
    }

    #[test]
    fn each_order_of_decoding_cutting_and_resolving_is_a_form() {
        assert_eq!(
            of("/a%252Fb").unwrap(),
            ["/a%252Fb", "/a%2Fb", "/a/b"],
            "a path without dots and parameters"
        );
        assert!(has("/a/%252e%252e/b/", "/b/"));
        assert!(has("/a/%252e%252e/b", "/a/../b"));
        assert!(has("/a%255c..%255cb", "/b"));
        assert!(has("/a;%252f../b", "/a/b"));
        assert!(has("/a;%252f../b", "/b"));
        assert!(has("/a;x%252f..%252f..%252f..%252fb", "/../../b"));
        assert!(has("/%2541%25zz", "/A%zz"));
    }

    #[test]
    fn there_is_an_end_to_them() {
        let escaped = |times: usize| format!("/%{}41", "25".repeat(times));
        assert_eq!(of(&escaped(7)).unwrap().len(), 9);
        assert_eq!(of(&escaped(8)), None);
        assert_eq!(of("/100%25").unwrap(), ["/100%25", "/100%"]);
    }
}
