//! Whatever a client sends, an upstream gets only what the letter of the standard makes of it: requests that other
//! servers are tested with, each followed by a clean one.

use std::collections::BTreeMap;

use crate::{
    client,
    corpora::{Case, folder, requests, table},
    origin::{Came, Origin, answers, assert_credential, assert_same, everything},
    proxy::{Proxy, World},
    strict::{self, Message, Read},
};

/// Names that the requests carry in `Host`: refused names would hide what is wrong with the rest.
const LISTENER: &str = "hosts = ['example.com', 'evil.example.com', 'x', 'a', '0.0.0.0']\n\
    head_timeout = '1s'\nstall_timeout = '1s'\nkeep_alive = '2s'";

/// Cases that the strict parser refuses and the proxy takes, as one clean message of its own making, and why that is
/// safe.
const TAKEN: [(&str, &str); 6] = [
    (
        "valid/005",
        "taken: a fragment is cut off, and nothing after it counts",
    ),
    (
        "invalid/chunked_09",
        "taken: white space after a chunk size ends here",
    ),
    (
        "invalid/rfc9110_trailer_forbidden_cl_01",
        "taken: forbidden trailers end here",
    ),
    (
        "invalid/rfc9110_trailer_forbidden_host_01",
        "taken: forbidden trailers end here",
    ),
    (
        "invalid/rfc9110_trailer_forbidden_te_01",
        "taken: forbidden trailers end here",
    ),
    (
        "invalid/rfc9112_smuggle_cl_te_chunked_01",
        "taken: the chunks count, the length goes, and the connection ends (RFC 9112 6.1)",
    ),
];

/// Cases that the strict parser takes and the proxy refuses, besides those without a `Host`.
const REFUSED: [(&str, &str); 12] = [
    ("valid/002", "a Host that names nobody"),
    ("valid/003", "a Host that names nobody"),
    ("invalid/009", "more headers than 100"),
    ("invalid/011", "a Host that names nobody"),
    ("invalid/012", "a Host that names nobody"),
    ("valid/014", "quotation marks, which no URI has"),
    ("valid/100", "empty segments in the path"),
    (
        "valid/rfc9112_target_absolute_https_01",
        "https over a plain connection",
    ),
    (
        "valid/rfc9112_target_absolute_userinfo_01",
        "a name and password in the target",
    ),
    (
        "valid/rfc9112_target_asterisk_options_01",
        "OPTIONS of the proxy itself",
    ),
    ("valid/rfc9112_target_authority_connect_01", "CONNECT"),
    ("valid/rfc9112_target_authority_ipv6_01", "CONNECT"),
];

#[test]
fn requests_that_other_servers_are_tested_with() {
    let Some(folder) = folder("gunicorn") else {
        return;
    };
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = origin.proxied(&world, LISTENER, "", "");
    let mut count = 0;
    for kind in ["valid", "invalid"] {
        let cases = requests(&folder.join(kind));
        count += cases.len();
        // Most of them have no Host, and end there: with one they get further.
        let named: Vec<Case> = cases
            .iter()
            .map(|(name, bytes)| (name.clone(), with_host(bytes)))
            .collect();
        for (how, cases) in [("as they are", cases), ("with a Host", named)] {
            let mut outcomes = BTreeMap::new();
            for (name, bytes) in cases {
                let outcome = judge(&proxy, &origin, &format!("{kind}/{name}"), &bytes);
                outcomes.entry(outcome).or_insert_with(Vec::new).push(name);
            }
            table(&format!("{kind} requests {how}"), &outcomes);
        }
    }
    assert!(count > 100, "only {count} cases");
    world.end(proxy);
}

/// Sends a case and a clean request after it on the same connection, then a clean one on a new connection; what came
/// of the case.
fn judge(proxy: &Proxy, origin: &Origin, name: &str, bytes: &[u8]) -> &'static str {
    let clean = client::request("GET", "/clean-same", &[], b"");
    let sent = [bytes, &clean].concat();
    let got = everything(proxy.address(), &sent);
    let (answers, is_whole) = answers(&got);
    let clean = client::get(proxy.address(), "/clean-new", &[]);
    assert_eq!(clean.text(), "GET /clean-new HTTP/1.1", "{name}");
    // The one that is kept idle: all else has come to its end.
    origin.wait_for_open(1);
    let is_clean =
        |came: &Came| matches!(came, Came::Whole(request) if request.target() == "/clean-new");
    let (clean, came): (Vec<_>, Vec<_>) = origin.take().into_iter().partition(is_clean);
    assert_eq!(clean.len(), 1, "{name}");

    // By the letter, and why there is no more.
    let (meant, _) = meant(&sent);
    let mut whole = Vec::new();
    let mut is_cut = false;
    for came in &came {
        match came {
            Came::Malformed(why) => panic!("{name}: reached the upstream: {why}"),
            Came::Cut(_) => is_cut = true,
            Came::Whole(request) => whole.push(request),
        }
    }
    assert!(is_whole, "{name}: a cut answer");
    let mut is_lenient = false;
    let mut passed = whole.iter();
    for (index, answer) in answers.iter().enumerate() {
        if answer.status() != 200 {
            assert!(
                (400..500).contains(&answer.status()),
                "{name}: {}",
                answer.start
            );
            continue;
        }
        let request = passed
            .next()
            .unwrap_or_else(|| panic!("{name}: an answer of nobody's"));
        assert_eq!(
            String::from_utf8_lossy(&answer.body),
            request.start,
            "{name}: another's answer"
        );
        assert_credential(request);
        match meant.get(index) {
            _ if is_lenient => {}
            Some(meant) => assert_same(meant, request),
            None => is_lenient = true,
        }
    }
    assert!(
        passed.next().is_none(),
        "{name}: a request without an answer"
    );

    let (own, own_refused) = self::meant(bytes);
    whole.retain(|request| request.target() != "/clean-same");
    let listed = |cases: &[(&str, &'static str)]| {
        let found = cases.iter().find(|(case, _)| *case == name);
        found
            .unwrap_or_else(|| panic!("{name}: {own_refused:?} {answers:?} {whole:?}"))
            .1
    };
    match own.first() {
        _ if is_lenient => listed(&TAKEN),
        _ if is_cut => "begun, then cut: never whole upstream",
        _ if !whole.is_empty() => "forwarded to the letter",
        None => "refused: nothing upstream",
        Some(first) if first.all("host").is_empty() => {
            "refused for want of a Host: nothing upstream"
        }
        Some(_) => {
            listed(&REFUSED);
            "refused, though the letter allows it: nothing upstream"
        }
    }
}

/// The requests in these bytes by the letter, and why there are no more.
fn meant(mut bytes: &[u8]) -> (Vec<Message>, Option<&'static str>) {
    let mut requests = Vec::new();
    loop {
        match strict::request(bytes) {
            Read::Whole(message, size) => {
                requests.push(message);
                bytes = &bytes[size..];
            }
            Read::Partial => return (requests, None),
            Read::Malformed(why) => return (requests, Some(why)),
        }
    }
}

/// With a `Host` after each request line, where there is none at all.
fn with_host(bytes: &[u8]) -> Vec<u8> {
    if client::find(&bytes.to_ascii_lowercase(), b"\nhost:").is_some() {
        return bytes.to_vec();
    }
    let mut named = Vec::new();
    let mut rest = bytes;
    while let Some(end) = client::find(rest, b"\r\n") {
        let (line, after) = rest.split_at(end + 2);
        named.extend_from_slice(line);
        if line.ends_with(b" HTTP/1.1\r\n") || line.ends_with(b" HTTP/1.0\r\n") {
            named.extend_from_slice(b"Host: localhost\r\n");
        }
        rest = after;
    }
    named.extend_from_slice(rest);
    named
}
