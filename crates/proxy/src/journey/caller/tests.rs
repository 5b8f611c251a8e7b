//! Who is recognised, what a refusal gives away, and which headers go on.

use std::time::Duration;

use http::HeaderMap;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug)]
struct Someone {
    peer: Peer,
    names: Option<CertificateNames>,
}

impl Client for Someone {
    fn peer(&self) -> Peer {
        self.peer
    }
    fn certificate(&self) -> Option<&CertificateNames> {
        self.names.as_ref()
    }
    fn waits_for_body(&self, _: bool) {}
    fn body_ended(&self) {}
    fn body_dropped(&self) {}
    fn answered(&self) {}
}

fn from(address: &str) -> Someone {
    Someone {
        peer: Peer::Tcp {
            remote: address.parse().unwrap(),
            local: "[::]:8080".parse().unwrap(),
        },
        names: None,
    }
}

fn with_certificate(dns: &[&str], uris: &[&str]) -> Someone {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Someone {
        names: Some(CertificateNames {
            dns: owned(dns),
            uris: owned(uris),
            until: SystemTime::now() + HOUR,
        }),
        ..from("10.0.0.9:1")
    }
}

fn caller(name: &str) -> Caller {
    Caller {
        name: Arc::from(name),
        keys: Vec::new(),
        certificates: Vec::new(),
        networks: Vec::new(),
        users: None,
        reaches: None,
        rate: None,
        identity_header: None,
    }
}

fn key(text: &str) -> Arc<KeyCell> {
    let cell = KeyCell::default();
    cell.put(Some(Fingerprint::of(text.as_bytes())));
    Arc::new(cell)
}

fn keyed(name: &str, keys: &[&str]) -> Caller {
    Caller {
        keys: keys.iter().map(|text| key(text)).collect(),
        ..caller(name)
    }
}

fn networked(name: &str, network: &str) -> Caller {
    Caller {
        networks: vec![network.parse().unwrap()],
        ..caller(name)
    }
}

fn callers(all: impl IntoIterator<Item = Caller>) -> Callers {
    Callers::new(all.into_iter().map(Arc::new).collect())
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

/// Who it is, or which rule turns him away, and the headers that go on.
fn recognise(
    callers: &Callers,
    client: &Someone,
    lines: &[(&'static str, &str)],
) -> (String, HeaderMap) {
    let mut headers = headers(lines);
    let who = match callers.recognise(client, &mut headers) {
        Ok(Some(caller)) => caller.name.to_string(),
        Ok(None) => "nobody".to_owned(),
        Err(Fault::CallerNotAllowed(rule)) => format!("no {}", rule.name()),
        Err(fault) => panic!("{fault:?}"),
    };
    (who, headers)
}

fn basic(pair: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}

#[test]
fn a_key_opens_from_each_of_its_three_places() {
    let callers = callers([
        keyed("alice", &["old-key", "new-key"]),
        keyed("bob", &["bobs"]),
    ]);
    for (name, value, who) in [
        ("authorization", "Bearer new-key", "alice"),
        ("authorization", "bearer  old-key", "alice"),
        ("authorization", &basic("anyone:bobs"), "bob"),
        ("authorization", &basic(":bobs"), "bob"),
        ("x-proxy-key", "bobs", "bob"),
        ("authorization", "Bearer bob", "no key"),
        ("authorization", "Bearer bobs2", "no key"),
        ("authorization", "Bearer ", "no key"),
        ("authorization", "bobs", "no key"),
        ("authorization", "ZenApiKey bobs", "no key"),
        ("authorization", "Basic bobs", "no key"),
        ("authorization", &basic("bobs"), "no key"),
        ("authorization", &basic("bobs:"), "no key"),
        ("x-proxy-key", "Bearer bobs", "no key"),
        ("x-proxy-key", "", "no key"),
        ("x-other", "bobs", "no key"),
    ] {
        let (found, _) = recognise(&callers, &from("10.0.0.9:1"), &[(name, value)]);
        assert_eq!(found, who, "{name}: {value}");
    }
}

#[test]
fn of_two_keys_in_one_place_none_counts() {
    let callers = callers([keyed("alice", &["alices"])]);
    for name in ["x-proxy-key", "authorization"] {
        let value = if name == "x-proxy-key" {
            "alices"
        } else {
            "Bearer alices"
        };
        let (who, left) = recognise(
            &callers,
            &from("10.0.0.9:1"),
            &[(name, value), (name, value)],
        );
        assert_eq!((who.as_str(), left.len()), ("no key", 0), "{name}");
    }
}

#[test]
fn no_header_with_a_key_goes_on_and_no_other_is_lost() {
    let callers = callers([keyed("alice", &["alices"]), networked("lab", "10.0.0.0/8")]);
    let mine = ("x-proxy-key", "alices");
    for (lines, left) in [
        // An accepted and a wrong one, also where the network alone would do.
        (&[("authorization", "Bearer alices")][..], 0),
        (&[("authorization", "Bearer wrong")], 0),
        (&[("authorization", "Basic !!!")], 0),
        (&[("x-proxy-key", "wrong")], 0),
        // The client's own, beside the key.
        (&[mine, ("authorization", "Bearer own")], 1),
        (&[mine, ("authorization", "Bearer alices")], 0),
        (
            &[
                mine,
                ("authorization", "Bearer own"),
                ("authorization", "Bearer alices"),
            ],
            0,
        ),
        // Not a scheme of keys.
        (&[("authorization", "ZenApiKey x")], 1),
    ] {
        let (_, headers) = recognise(&callers, &from("10.0.0.9:1"), lines);
        assert_eq!(headers.len(), left, "{lines:?}");
    }
    let without_keys = self::callers([networked("lab", "10.0.0.0/8")]);
    let (who, headers) = recognise(
        &without_keys,
        &from("10.0.0.9:1"),
        &[("authorization", "Bearer own")],
    );
    assert_eq!((who.as_str(), headers.len()), ("lab", 1));
}

#[test]
fn no_form_of_a_key_goes_on_beside_the_key() {
    let callers = callers([
        keyed("alice", &["alices:key"]),
        keyed("bob", &["bobs-key-0"]),
    ]);
    let passes = |authorization: &str| {
        let lines = [
            ("x-proxy-key", "bobs-key-0"),
            ("authorization", authorization),
        ];
        let (who, headers) = recognise(&callers, &from("10.0.0.9:1"), &lines);
        assert_eq!(who, "bob", "{authorization}");
        !headers.is_empty()
    };
    for gone in [
        "bobs-key-0",
        "Bearer bobs-key-0",
        "Bearer\tbobs-key-0",
        "Bearer  bobs-key-0",
        "Bearer bobs-key-0, x",
        "Bearer x, bobs-key-0",
        "Bearer \"bobs-key-0\"",
        "Token bobs-key-0",
        "Token token=bobs-key-0 x",
        "Bearer, bobs-key-0",
        "Bearer",
        "Basic bobs-key-0",
        "Basic !!!",
        "Basic bobs:bobs-key-0",
        &basic("bobs-key-0"),
        &basic("bobs-key-0:"),
        &basic("user:bobs-key-0"),
        &basic("alices:key"),
        basic("user:bobs-key-0").trim_end_matches('='),
        &basic("user:bobs-key-0").replace("Basic", "ZenApiKey"),
    ] {
        assert!(!passes(gone), "{gone}");
    }
    for own in [
        "Bearer eyJhbGciOiJub25lIn0.e30.",
        "ZenApiKey dTpr",
        "Token bobs-key-00",
        &basic("user:password"),
        basic("user:passwords").trim_end_matches('='),
        &basic("user:"),
    ] {
        assert!(passes(own), "{own}");
    }
}

#[test]
fn all_that_is_asked_of_a_caller_must_hold() {
    let everything = Caller {
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        certificates: vec![CertificateName::Dns("alice.internal".into())],
        ..keyed("alice", &["alices"])
    };
    let callers = callers([everything]);
    let right = with_certificate(&["alice.internal"], &[]);
    let elsewhere = Someone {
        names: with_certificate(&["alice.internal"], &[]).names,
        ..from("192.0.2.1:1")
    };
    let key = ("x-proxy-key", "alices");
    assert_eq!(recognise(&callers, &right, &[key]).0, "alice");
    assert_eq!(recognise(&callers, &right, &[]).0, "no key");
    for lines in [&[][..], &[key], &[("x-proxy-key", "wrong")]] {
        // Whether the key is right is told only to whom it would help.
        assert_eq!(
            recognise(&callers, &from("10.0.0.9:1"), lines).0,
            "no certificate"
        );
        assert_eq!(recognise(&callers, &elsewhere, lines).0, "no network");
    }
}

#[test]
fn the_first_that_fits_is_who_it_is_and_a_key_is_asked_for_where_one_would_do() {
    let callers = callers([
        networked("lab", "192.0.2.0/24"),
        keyed("alice", &["alices"]),
        networked("dev", "10.0.0.0/8"),
    ]);
    let key = ("x-proxy-key", "alices");
    assert_eq!(recognise(&callers, &from("192.0.2.1:1"), &[key]).0, "lab");
    assert_eq!(recognise(&callers, &from("10.0.0.1:1"), &[key]).0, "alice");
    assert_eq!(recognise(&callers, &from("10.0.0.1:1"), &[]).0, "dev");
    assert_eq!(
        recognise(&callers, &from("198.51.100.1:1"), &[]).0,
        "no key"
    );
    let nobody = Callers::default();
    assert_eq!(recognise(&nobody, &from("10.0.0.1:1"), &[key]).0, "nobody");
}

#[test]
fn networks_see_through_ipv4_in_ipv6() {
    let callers = callers([networked("lab", "10.0.0.0/8"), networked("six", "fd00::/8")]);
    for (address, who) in [
        ("10.255.255.255:1", "lab"),
        ("[::ffff:10.0.0.1]:1", "lab"),
        ("[fd12::1]:1", "six"),
        ("11.0.0.1:1", "no network"),
        ("[::10.0.0.1]:1", "no network"),
        ("[fe80::1]:1", "no network"),
    ] {
        assert_eq!(recognise(&callers, &from(address), &[]).0, who, "{address}");
    }
}

#[test]
fn names_of_certificates_are_whole_and_of_their_type() {
    let spiffe = "spiffe://example.org/alice";
    let callers = callers([Caller {
        certificates: vec![
            CertificateName::Dns("alice.internal".into()),
            CertificateName::Uri(spiffe.into()),
        ],
        ..caller("alice")
    }]);
    for (dns, uris, who) in [
        (&["alice.internal"][..], &[][..], "alice"),
        (&["other", "alice.internal"], &[], "alice"),
        (&[], &[spiffe], "alice"),
        (&[], &["spiffe://example.org/ALICE"], "no certificate"),
        (&[], &["spiffe://example.org/alice/"], "no certificate"),
        (&[spiffe], &["alice.internal"], "no certificate"),
        (&["x.alice.internal", "*.internal"], &[], "no certificate"),
        (&[], &[], "no certificate"),
    ] {
        let client = with_certificate(dns, uris);
        assert_eq!(recognise(&callers, &client, &[]).0, who, "{dns:?} {uris:?}");
    }
    assert_eq!(
        recognise(&callers, &from("10.0.0.1:1"), &[]).0,
        "no certificate"
    );
}

#[test]
fn the_common_name_is_no_name() {
    let mut params = rcgen::CertificateParams::new(vec!["Real.Internal".into()]).unwrap();
    let spiffe = "spiffe://example.org/Real".try_into().unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI(spiffe));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "alice.internal");
    let key = rcgen::KeyPair::generate().unwrap();
    let signed = params.self_signed(&key).unwrap();
    let names = CertificateNames::of(&[signed.der().clone()]).unwrap();
    assert_eq!(names.dns, ["real.internal"]);
    assert_eq!(names.uris, ["spiffe://example.org/Real"]);
}

#[test]
fn a_certificate_that_is_over_is_none_on_a_connection_that_is_not() {
    let callers = callers([Caller {
        certificates: vec![CertificateName::Dns("alice.internal".into())],
        ..caller("alice")
    }]);
    let mut client = with_certificate(&["alice.internal"], &[]);
    assert_eq!(recognise(&callers, &client, &[]).0, "alice");
    client.names.as_mut().unwrap().until = SystemTime::now() - Duration::from_secs(1);
    assert_eq!(recognise(&callers, &client, &[]).0, "no certificate");
}

#[test]
fn a_chain_holds_as_long_as_the_first_of_it_that_ends() {
    let until = |year: i32| {
        let mut params = rcgen::CertificateParams::new(vec!["a".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    };
    let names = |years: &[i32]| {
        let chain: Vec<_> = years.iter().map(|year| until(*year)).collect();
        CertificateNames::of(&chain).unwrap()
    };
    let alone = names(&[2200]).until;
    let later = names(&[2300]).until;
    assert!(alone < later);
    assert_eq!(names(&[2300, 2200]).until, alone);
    assert_eq!(names(&[2200, 2300]).until, alone);
    // One that was over already is not what the handshake went by.
    assert_eq!(names(&[2200, 2001]).until, alone);
    assert!(!names(&[2001, 2200]).still_hold());
    assert!(CertificateNames::of(&[]).is_none());
}

#[test]
fn users_of_a_unix_socket() {
    let callers = callers([Caller {
        users: Some(Users {
            uids: vec![1001],
            gids: vec![50],
        }),
        ..caller("alice")
    }]);
    let unix = |uid, gid| Someone {
        peer: Peer::Unix {
            uid,
            gid,
            pid: None,
        },
        names: None,
    };
    for (uid, gid, who) in [
        (1001, 1, "alice"),
        (1, 50, "alice"),
        (50, 1001, "no user"),
        (0, 0, "no user"),
    ] {
        assert_eq!(
            recognise(&callers, &unix(uid, gid), &[]).0,
            who,
            "{uid} {gid}"
        );
    }
    assert_eq!(recognise(&callers, &from("10.0.0.1:1"), &[]).0, "no user");
}

#[test]
fn a_key_is_replaced_and_withdrawn_under_running_requests() {
    let alice = keyed("alice", &["first"]);
    let cell = Arc::clone(&alice.keys[0]);
    let callers = callers([alice]);
    let who = |text: &str| recognise(&callers, &from("10.0.0.1:1"), &[("x-proxy-key", text)]).0;
    assert_eq!(
        (who("first").as_str(), who("second").as_str()),
        ("alice", "no key")
    );
    assert!(cell.put(Some(Fingerprint::of(b"second"))));
    assert!(!cell.put(Some(Fingerprint::of(b"second"))));
    assert_eq!(
        (who("first").as_str(), who("second").as_str()),
        ("no key", "alice")
    );
    assert!(cell.put(None));
    assert_eq!(who("second"), "no key");
    assert_eq!(who(""), "no key", "nothing is no key");
}

#[test]
fn the_host_says_nothing_only_where_everybody_proves_himself() {
    let certified = || Caller {
        certificates: vec![CertificateName::Dns("a".into())],
        ..caller("certified")
    };
    assert!(callers([keyed("a", &["k"]), certified()]).are_all_proved());
    assert!(!callers([keyed("a", &["k"]), networked("lab", "10.0.0.0/8")]).are_all_proved());
    assert!(!Callers::default().are_all_proved());
}
