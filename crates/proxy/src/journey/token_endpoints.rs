//! The platform's own token endpoints: whoever reaches one through the proxy takes the credential away, or mints
//! another one.

use http::Method;
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

use super::{
    decoy::Login,
    readings,
    route::{Path, significant},
};

/// Whether a path under `base` leads to one of the platform's own token endpoints, in any spelling: the platform's
/// nginx matches them decoded, anywhere in the path, and without regard to case in places. What leads to one for any
/// server of a chain does so, whatever the next ones make of it.
pub fn leads_to_one(base: &str, path: Path<'_>) -> bool {
    let is_one = |form: &String| {
        let segments: Segments<'_> = form.split(['/', '\\']).map(significant).collect();
        has_one(&segments)
    };
    let names_one = [base, path.as_str()].into_iter().any(|path| {
        let mut segments = path.as_bytes().split(|byte| *byte == b'/');
        segments.any(may_name_one)
    });
    (names_one && has_one(&under(base, path)))
        || (readings::are_several(path.as_str())
            && readings::of(&format!("{base}{}", path.as_str()))
                .is_none_or(|forms| forms.iter().any(is_one)))
}

/// The login that a call of a token endpoint is, if it is one.
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

/// Whether a raw segment may be one that tells a machine: each path to one has such a segment, and most paths have none.
fn may_name_one(segment: &[u8]) -> bool {
    match *segment {
        [b'%', ..] | [_, b'%', ..] => true,
        [first, second, ..] => matches!(
            &[first | 0x20, second | 0x20],
            b"ic" | b"pr" | b"au" | b"id" | b"us" | b"ze" | b"ap" | b"oi" | b"in"
        ),
        _ => false,
    }
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
            .is_some_and(|first| b"iIvVuUzZaAoO%".contains(&first))
        {
            return false;
        }
        MACHINES.iter().any(|machine| {
            run(at, machine)
                && match **machine {
                    ["usermgmt"] => !is_open_usermgmt(at, segments.len(), &run),
                    ["zen-data"] => (at..segments.len()).any(|later| is_at(later, "secrets")),
                    _ => true,
                }
        })
    })
}

/// `currentUserInfo` and `tokenExpiry` tell nothing that could be used elsewhere.
fn is_open_usermgmt(at: usize, segments: usize, run: &impl Fn(usize, &[&str]) -> bool) -> bool {
    segments == at + 4
        && (run(at, &["usermgmt", "v1", "user", "currentuserinfo"])
            || run(at, &["usermgmt", "v1", "user", "tokenexpiry"]))
}

/// Whether a raw segment, decoded, is `wanted`, which is in lower case. Some servers take dots and spaces off its end, or
/// all behind a control character; others an ending that says which format is wanted.
fn is(segment: &str, wanted: &str) -> bool {
    let is_wanted = |name: &str| {
        let Some((start, end)) = name.split_at_checked(wanted.len()) else {
            return false;
        };
        let end = end.split(char::is_control).next().unwrap_or_default();
        let end = end.trim_end_matches(['.', ' ']);
        start.eq_ignore_ascii_case(wanted) && (end.is_empty() || end.eq_ignore_ascii_case(".json"))
    };
    match segment.contains('%') {
        true => is_wanted(&percent_decode_str(segment).decode_utf8_lossy()),
        false => is_wanted(segment),
    }
}

/// The segments that the paths of each machine begin with, wherever in a path that is; of two of them not all paths are
/// closed.
const MACHINES: [&[&str]; 13] = [
    &["icp4d-api"],
    &["v1", "preauth"],
    &["v1", "authorize"],
    &["idprovider"],
    &["usermgmt"],
    &["zen-data"],
    &["api_key"],
    &["apikeys"],
    &["api", "v1", "secrets"],
    &["identity", "token"],
    &["oidc", "token"],
    &["instance_identity"],
    &["auth"],
];

type Segments<'a> = SmallVec<[&'a str; 16]>;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        for path in ["/v2/assets/a%252Fb", "/x/%25", "/%252e%252e", "/100%25"] {
            assert!(!is_closed("", path), "{path}");
        }
    }

    #[test]
    fn what_one_server_of_a_chain_sees_is_closed_whatever_the_next_makes_of_it() {
        for path in [
            "/%2569cp4d-api/v1/users/%25252e%25252e/%25252e%25252e/%25252e%25252e/ml",
            "/%2575sermgmt/v1/users%25252f..%25252f..%25252fml",
            "/ml/%252e%252e/%2569cp4d-api/v1/users/%25252e%25252e/%25252e%25252e/%25252e%25252e/ml",
            "/%2569cp4d-api/v1/authorize;x%252f..%252f..%252f..%252fml",
            "/%2569cp4d-api;%252f../v1/authorize",
            "/icp4d-api%252f..%252fx",
            "/usermgmt/v1/user/currentUserInfo%252f..%252fapiKey",
        ] {
            assert!(is_closed("", path), "{path}");
        }
    }

    #[test]
    fn escaped_more_often_than_anybody_decodes_is_closed() {
        let path = format!("/x%{}69", "25".repeat(9));
        assert!(is_closed("", &path), "{path}");
    }

    #[test]
    fn what_some_servers_take_off_the_end_of_a_name_hides_nothing() {
        for path in [
            "/icp4d-api./v1/x",
            "/icp4d-api%20/v1/x",
            "/v1/preauth.../x",
            "/v1/apikeys.JSON",
            "/v1/apikeys%2ejson",
            "/v1/apikeys%2500x",
            "/api/v1/secrets%250a",
            "/instance_identity/v1/token",
            "/oidc/token",
            "/v1/authorize",
        ] {
            assert!(is_closed("", path), "{path}");
        }
        for path in ["/v1/apikeys.jsonl", "/v1/authorized", "/oidc/tokens"] {
            assert!(!is_closed("", path), "{path}");
        }
    }

    /// Each character as an escape, that many times over.
    fn escaped(text: &str, times: usize) -> String {
        let once = |byte| format!("%{}{byte:02x}", "25".repeat(times.saturating_sub(1)));
        match times {
            0 => text.to_owned(),
            _ => text.bytes().map(once).collect(),
        }
    }

    proptest! {
        #[test]
        fn a_machine_is_closed_with_anything_behind_it(
            name in prop::sample::select(&["icp4d-api", "usermgmt", "idprovider", "apikeys", "auth"][..]),
            times in 1..6_usize,
            tail in prop::collection::vec(
                (prop::sample::select(&["/", ";", "\\", "..", "/..", ";x", "ml"][..]), 0..6_usize), 0..8,
            ),
        ) {
            let mut path = format!("/{}", escaped(name, times));
            for (index, (text, times)) in tail.into_iter().enumerate() {
                // What follows the name at once would be a part of it.
                let joint = if index == 0 && !text.starts_with(['/', ';', '\\']) { "/" } else { "" };
                path.push_str(&escaped(&format!("{joint}{text}"), times));
            }
            if let Ok(path) = Path::parse(&path) {
                prop_assert!(leads_to_one("", path), "{path:?}");
            }
        }
    }

    #[test]
    fn every_machine_is_closed() {
        for machine in MACHINES {
            let path = format!("/{}/x/secrets", machine.join("/"));
            assert!(is_closed("", &path) && is_closed("/x/y", &path), "{path}");
        }
    }

    /// All that a path to a machine may consist of, and what it does not.
    fn names() -> Vec<&'static str> {
        let others = ["user", "currentUserInfo", "secrets", "x", ""];
        MACHINES.concat().into_iter().chain(others).collect()
    }

    /// A name in some spelling: each letter in either case or as an escape, with something behind it.
    fn spelled() -> impl Strategy<Value = String> {
        let letters = prop::collection::vec(0..4_u8, 20);
        let behind = prop::sample::select(&["", ".", ";x", ".json", "%00x"][..]);
        let name = prop::sample::select(names());
        (name, letters, behind).prop_map(|(name, letters, behind)| {
            let letter = |(letter, how): (char, u8)| match how {
                0 => letter.to_ascii_uppercase().to_string(),
                1 => format!("%{:02x}", u32::from(letter)),
                _ => letter.to_string(),
            };
            let name: String = name.chars().zip(letters).map(letter).collect();
            format!("{name}{behind}")
        })
    }

    proptest! {
        #[test]
        fn the_first_look_overlooks_no_machine(segments in prop::collection::vec(spelled(), 0..5)) {
            let all: Segments<'_> = segments.iter().map(|segment| significant(segment)).collect();
            let is_seen = segments.iter().any(|segment| may_name_one(segment.as_bytes()));
            prop_assert!(is_seen || !has_one(&all), "{segments:?}");
        }
    }

    #[test]
    fn keys_are_not_minted() {
        assert!(is_closed("", "/v1/apikeys"));
        assert!(is_closed("/api/2.0/accounts/7", "/ApiKeys"));
        assert!(!is_closed("", "/v1/apikeysets"));
    }
}
