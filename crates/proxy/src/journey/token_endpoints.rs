//! The platform's own token machines: whoever reaches one through the proxy takes the credential away, or mints
//! another one.

use http::Method;
use percent_encoding::{percent_decode, percent_decode_str};
use smallvec::SmallVec;

use super::{
    decoy::Login,
    route::{Path, significant},
};

/// Whether a path under `base` leads to one of the platform's own token machines, in any spelling: the platform's
/// nginx matches them decoded, anywhere in the path, and without regard to case in places.
pub fn leads_to_one(base: &str, path: Path<'_>) -> bool {
    has_one(&under(base, path))
        || (path.as_str().contains("%25") && has_one(&resolved(&decoded_by_all(base, path))))
}

/// The login that a call of a token machine is, if it is one.
pub fn login(method: &Method, base: &str, path: Path<'_>) -> Option<Login> {
    let mut segments = under(base, path);
    // A slash at the end means nothing.
    if segments.last().is_some_and(|last| last.is_empty()) {
        segments.pop();
    }
    Login::ALL.into_iter().find(|login| {
        let (wanted_method, path) = login.call();
        let wanted = path.split('/');
        let start = segments.len().checked_sub(wanted.clone().count());
        method == wanted_method
            && start.is_some_and(|start| {
                let found = segments[start..].iter();
                found
                    .zip(wanted)
                    .all(|(found, wanted)| wanted == "*" || is(found, wanted))
            })
    })
}

/// The segments of a path as it goes upstream, without their parameters.
fn under<'a>(base: &'a str, path: Path<'a>) -> Segments<'a> {
    let base = base.split('/').filter(|segment| !segment.is_empty());
    base.chain(path.segments()).map(significant).collect()
}

/// What the last of several servers sees, each of which decodes the path once more; whoever encodes an escape does it
/// for such a chain, or for nothing.
fn decoded_by_all(base: &str, path: Path<'_>) -> String {
    let mut whole = format!("{base}{}", path.as_str());
    for _ in 0..MOST_DECODINGS {
        if !whole.contains('%') {
            break;
        }
        whole = percent_decode_str(&whole).decode_utf8_lossy().into_owned();
    }
    whole
}

/// The segments of a decoded path, in which there may be any.
fn resolved(path: &str) -> Segments<'_> {
    let mut segments = Segments::new();
    for segment in path.split(['/', '\\']).map(significant) {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    segments
}

fn has_one(segments: &[&str]) -> bool {
    let is_at = |at: usize, wanted: &str| segments.get(at).is_some_and(|found| is(found, wanted));
    let run = |at: usize, wanted: &[&str]| {
        wanted
            .iter()
            .enumerate()
            .all(|(index, name)| is_at(at + index, name))
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
            || (run(at, &["zen-data"]) && (at..segments.len()).any(|later| is_at(later, "secrets")))
            || run(at, &["api_key"])
            || run(at, &["apikeys"])
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

/// Whether a raw segment, decoded, is `wanted`, which is in lower case.
fn is(segment: &str, wanted: &str) -> bool {
    segment.eq_ignore_ascii_case(wanted)
        || (segment.contains('%')
            && percent_decode(segment.as_bytes())
                .map(|byte| byte.to_ascii_lowercase())
                .eq(wanted.bytes()))
}

type Segments<'a> = SmallVec<[&'a str; 16]>;

/// More than any chain of servers has.
const MOST_DECODINGS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn is_closed(base: &str, path: &str) -> bool {
        leads_to_one(base, Path::parse(path).unwrap())
    }

    #[test]
    fn every_login_is_at_a_token_machine() {
        for login in Login::ALL {
            let (method, path) = login.call();
            let path = format!("/{}", path.replace('*', "x"));
            assert!(is_closed("", &path), "{path}");
            let found = |base, path: &str| super::login(method, base, Path::parse(path).unwrap());
            assert_eq!(found("", &path), Some(login));
            assert_eq!(found("/x/y", &format!("{path}/")), Some(login));
            assert_eq!(found("", &path.to_ascii_uppercase()), Some(login));
            assert_eq!(found("", &format!("{path}/x")), None);
            let (base, rest) = path.split_at(path[1..].find('/').unwrap() + 1);
            assert_eq!(found(base, rest), Some(login), "{base} {rest}");
            let other = Method::PUT;
            assert_eq!(super::login(&other, "", Path::parse(&path).unwrap()), None);
        }
    }

    #[test]
    fn escapes_of_escapes_are_seen_through() {
        for path in [
            "/%2569cp4d-api/v1/authorize",
            "/%252569cp4d-api/v1/authorize",
            "/x%252Ficp4d-api%252fv1/authorize",
            "/v1/x%252f..%252fpreauth/signin",
            "/v1/%252e/preauth/signin",
            "/v1%255cpreauth/signin",
            "/v1%253bx/preauth/signin",
        ] {
            assert!(is_closed("", path), "{path}");
        }
        assert!(is_closed("/x/v1", "/%2570reauth/signin"));
        for path in [
            "/v2/assets/a%252Fb",
            "/x/%25",
            "/icp4d-api%252f..%252fx",
            "/100%25",
        ] {
            assert!(!is_closed("", path), "{path}");
        }
    }

    #[test]
    fn keys_are_not_minted() {
        assert!(is_closed("", "/v1/apikeys"));
        assert!(is_closed("/api/2.0/accounts/7", "/ApiKeys"));
        assert!(!is_closed("", "/v1/apikeysets"));
    }
}
