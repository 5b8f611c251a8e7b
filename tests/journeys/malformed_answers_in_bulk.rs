//! Whatever an upstream answers, the client gets only what the letter of the standard makes of it: answers that other
//! clients are tested with, each followed by a clean one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    thread,
};

use crate::{
    client,
    corpora::{Case, answers as cases, folder, table},
    origin::{Origin, Then, everything, shown},
    proxy::{Proxy, World},
    strict::{self, Read},
};

/// Cases that the strict parser refuses and the proxy takes, as one clean answer of its own making, and why that is
/// safe.
const TAKEN: [(&str, &str); 11] = [
    ("connection: HTTP 100 first, then 400", EMPTY),
    ("sample: Response starting with CRLF", EMPTY),
    ("invalid: Only LFs present and no body", LF),
    ("invalid: Only LFs present and no body (lenient)", LF),
    ("invalid: Only LFs present", LF),
    ("invalid: Only LFs present (lenient)", LF),
    ("sample: No carriage ret", LF),
    ("sample: No carriage ret (lenient)", LF),
    (
        "sample: No reason phrase",
        "taken: a status line without its last space",
    ),
    (
        "transfer-encoding: Trailing space on chunked body",
        EXTENSIONS,
    ),
    (
        "transfer-encoding: No extension after semicolon",
        EXTENSIONS,
    ),
];

const LF: &str = "taken: a bare LF ends a line (RFC 9112 2.2)";

const EMPTY: &str = "taken: an empty line before a status line";

const EXTENSIONS: &str = "taken: odd chunk extensions, which end here";

#[test]
fn answers_that_other_clients_are_tested_with() {
    let Some(folder) = folder("llhttp/response") else {
        return;
    };
    let cases = cases(&folder);
    assert!(cases.len() > 60, "only {} cases", cases.len());
    for then in [Then::Ends, Then::Goes] {
        // Many wait for the time-out of an answer that does not end: side by side.
        let all = thread::scope(|scope| {
            let parts: Vec<_> = cases
                .chunks(4)
                .map(|cases| scope.spawn(move || outcomes(cases, then)))
                .collect();
            parts
                .into_iter()
                .flat_map(|part| part.join().unwrap())
                .collect::<Vec<_>>()
        });
        let mut outcomes = BTreeMap::new();
        for (outcome, name) in all {
            outcomes.entry(outcome).or_insert_with(Vec::new).push(name);
        }
        let after = match then {
            Then::Ends => "and the connection ends",
            Then::Goes => "and the connection goes on",
        };
        table(&format!("answers {after}"), &outcomes);
    }
}

/// What comes of each case, through a proxy of their own.
fn outcomes(cases: &[Case], then: Then) -> Vec<(&'static str, String)> {
    let world = World::new();
    let case = Arc::new(Mutex::new(Vec::new()));
    let connections = Arc::new(Mutex::new(Vec::new()));
    let (bytes, used) = (Arc::clone(&case), Arc::clone(&connections));
    let origin = Origin::scripted(move |request, connection| {
        used.lock().unwrap().push(connection);
        match request.target() {
            "/case" => (bytes.lock().unwrap().clone(), then),
            _ => (
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nclean".to_vec(),
                Then::Goes,
            ),
        }
    });
    let limits = "first_byte_timeout = '5s'\nidle_timeout = '5s'";
    let proxy = origin.proxied(&world, "", limits, "");
    let mut outcomes = Vec::new();
    for (name, bytes) in cases {
        bytes.clone_into(&mut case.lock().unwrap());
        connections.lock().unwrap().clear();
        outcomes.push((judge(&proxy, name, bytes, then, &connections), name.clone()));
    }
    world.end(proxy);
    outcomes
}

/// Asks for a case and for a clean answer after it; what came of the case.
fn judge(
    proxy: &Proxy,
    name: &str,
    bytes: &[u8],
    then: Then,
    connections: &Mutex<Vec<usize>>,
) -> &'static str {
    let got = everything(proxy.address(), &client::request("GET", "/case", &[], b""));
    let clean = client::get(proxy.address(), "/clean", &[]);
    assert_eq!(
        (clean.status, &*clean.text()),
        (200, "clean"),
        "{name}: the next one's answer"
    );
    let meant = strict::answer(bytes, false, then == Then::Ends);
    let seen = format!(
        "{name}: {meant:?}\nsent {}\ngot {}",
        shown(bytes),
        shown(&got)
    );

    let is_reused = {
        let used = connections.lock().unwrap();
        let [.., case, clean] = used[..] else {
            panic!("{seen}")
        };
        case == clean
    };
    let is_reusable = match &meant {
        Read::Whole(message, size) => message.keeps_connection() && *size == bytes.len(),
        _ => false,
    };
    let taken = TAKEN.iter().find(|(case, _)| case == &name);
    let outcome = match (strict::answer(&got, false, true), &meant) {
        (Read::Malformed(why), _) => panic!("the client got {why}: {seen}"),
        (Read::Whole(_, size), _) if size < got.len() => panic!("more than an answer: {seen}"),
        (Read::Partial, Read::Whole(..)) => panic!("cut: {seen}"),
        (Read::Partial, _) => "begun, then cut: seen as cut",
        (Read::Whole(got, _), Read::Whole(meant, _)) if got.all("proxy-status").is_empty() => {
            assert_eq!(
                (got.status(), &got.body),
                (meant.status(), &meant.body),
                "{seen}"
            );
            "passed on to the letter"
        }
        (Read::Whole(..), Read::Whole(..)) => panic!("refused: {seen}"),
        (Read::Whole(got, _), _) if got.status() == 502 => "refused: 502",
        (Read::Whole(got, _), _) if got.status() == 504 => "never whole: 504",
        _ => taken.unwrap_or_else(|| panic!("passed on: {seen}")).1,
    };
    let may_be_reused = is_reusable || taken.is_some();
    assert!(
        may_be_reused || !is_reused,
        "poisoned and used again: {seen}"
    );
    outcome
}
