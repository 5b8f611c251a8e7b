//! The platform's own token machines: whoever reaches one through the proxy takes the credential away, or mints
//! another one.

use percent_encoding::percent_decode;

use super::route::{Path, significant};

/// Whether a path under `base` leads to one of the platform's own token machines, in any spelling: the platform's
/// nginx matches them decoded, anywhere in the path, and without regard to case in places.
pub fn leads_to_one(base: &str, path: Path<'_>) -> bool {
    let base = base.split('/').filter(|segment| !segment.is_empty());
    let segments: smallvec::SmallVec<[&str; 16]> =
        base.chain(path.segments()).map(significant).collect();
    let is = |at: usize, wanted: &str| {
        segments.get(at).is_some_and(|segment: &&str| {
            segment.eq_ignore_ascii_case(wanted)
                || (segment.contains('%')
                    && percent_decode(segment.as_bytes())
                        .map(|byte| byte.to_ascii_lowercase())
                        .eq(wanted.bytes()))
        })
    };
    let run = |at: usize, wanted: &[&str]| {
        wanted
            .iter()
            .enumerate()
            .all(|(index, name)| is(at + index, name))
    };
    (0..segments.len()).any(|at| {
        // Every machine's first segment begins with one of these letters (or an escape): most segments end here.
        if !segments[at]
            .bytes()
            .next()
            .is_some_and(|first| b"iIvVuUzZaA%".contains(&first))
        {
            return false;
        }
        run(at, &["icp4d-api"])
            || run(at, &["v1", "preauth"])
            || run(at, &["idprovider"])
            || (run(at, &["usermgmt"]) && !is_open_usermgmt(at, segments.len(), &run))
            || (run(at, &["zen-data"]) && (at..segments.len()).any(|later| is(later, "secrets")))
            || run(at, &["api_key"])
            || run(at, &["api", "v1", "secrets"])
            || run(at, &["identity", "token"])
            || run(at, &["auth"])
    })
}

/// `currentUserInfo` and `tokenExpiry` tell nothing that could be used elsewhere.
fn is_open_usermgmt(at: usize, segments: usize, run: &impl Fn(usize, &[&str]) -> bool) -> bool {
    segments == at + 4
        && (run(at, &["usermgmt", "v1", "user", "currentuserinfo"])
            || run(at, &["usermgmt", "v1", "user", "tokenexpiry"]))
}
