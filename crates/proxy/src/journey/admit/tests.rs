//! Who comes in, and whom each rule turns away.

use http::Request;

use super::*;

fn peer() -> Peer {
    Peer::Tcp {
        remote: "10.0.0.9:4000".parse().unwrap(),
        local: "10.0.0.1:8080".parse().unwrap(),
    }
}

fn admit(
    admission: &Admission,
    headers: &[(&str, &str)],
    target: &str,
    method: &str,
) -> Result<Admitted, Fault> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let head = request.body(()).unwrap().into_parts().0;
    admit_from(&peer(), admission, &head)
}

fn admit_from(peer: &Peer, admission: &Admission, head: &Parts) -> Result<Admitted, Fault> {
    let last_host = LastHost::default();
    let admit = || admission.admit(peer, head, Survey::of(&head.headers), &last_host);
    let (first, again) = (admit(), admit());
    let what = |admitted: &Result<Admitted, Fault>| match admitted {
        Ok(admitted) => Ok(admitted.host.name.clone()),
        Err(fault) => Err(*fault),
    };
    assert_eq!(what(&first), what(&again), "the same host is read alike");
    again
}

#[test]
fn only_names_that_cannot_be_rebound_are_answered_to() {
    let admission = Admission {
        hosts: vec!["proxy.internal".into()],
        ..Admission::default()
    };
    for host in [
        "localhost",
        "LOCALHOST:8080",
        "localhost:",
        "[::ffff:127.0.0.1]:1",
        "[::FFFF:10.0.0.1]",
        "127.0.0.1:1",
        "127.8.8.8",
        "[::1]:8080",
        "10.0.0.1",
        "proxy.internal:9",
    ] {
        assert!(
            admit(&admission, &[("host", host)], "/", "GET").is_ok(),
            "{host}"
        );
    }
    for host in [
        "evil.example",
        "localhost.evil",
        "127.0.0.1.nip.io",
        "10.0.0.2",
        "localhost.",
        "xproxy.internal",
        "[::ffff:10.0.0.2]",
        "0.0.0.0",
        "[::]:80",
    ] {
        let refused = admit(&admission, &[("host", host)], "/", "GET").unwrap_err();
        assert_eq!(refused, Fault::CallerNotAllowed(Rule::Host), "{host}");
    }
    for host in [
        "",
        "u@localhost",
        "localhost:80@evil.example",
        "[::ffff:127.0.0.1",
        "0x7f.1",
        "[::1%25lo]:80",
        "localhost:99999",
        "localhost:x",
        "a b",
        "127.1",
        "2130706433",
        "[::1]x",
    ] {
        assert_eq!(
            admit(&admission, &[("host", host)], "/", "GET").unwrap_err(),
            Fault::BadRequest,
            "{host}"
        );
    }
}

#[test]
fn a_host_is_not_taken_for_the_one_before() {
    let (admission, last_host) = (Admission::default(), LastHost::default());
    let name = |host: &str| {
        let head = Request::get("/").header("host", host).body(()).unwrap();
        let head = head.into_parts().0;
        let admitted = admission.admit(&peer(), &head, Survey::of(&head.headers), &last_host);
        admitted.map(|admitted| admitted.host.name.clone())
    };
    let foreign = Err(Fault::CallerNotAllowed(Rule::Host));
    assert_eq!(name("localhost:1"), Ok("localhost".into()));
    assert_eq!(name("evil.example"), foreign);
    assert_eq!(name("LOCALHOST"), Ok("localhost".into()));
    assert_eq!(name("evil.example"), foreign);
    assert_eq!(name("u@localhost"), Err(Fault::BadRequest));
    assert_eq!(name("127.0.0.1"), Ok("127.0.0.1".into()));
}

#[test]
fn exactly_one_host_that_an_absolute_target_repeats() {
    let admission = Admission::default();
    assert_eq!(
        admit(&admission, &[], "/", "GET").unwrap_err(),
        Fault::BadRequest
    );
    let twice = [("host", "localhost"), ("host", "localhost")];
    assert_eq!(
        admit(&admission, &twice, "/", "GET").unwrap_err(),
        Fault::BadRequest
    );
    let host = [("host", "localhost:8080")];
    assert!(admit(&admission, &host, "http://localhost:8080/x", "GET").is_ok());
    for target in [
        "http://evil/",
        "https://localhost:8080/",
        "http://u:p@localhost:8080/",
    ] {
        assert_eq!(
            admit(&admission, &host, target, "GET").unwrap_err(),
            Fault::BadRequest,
            "{target}"
        );
    }
    assert_eq!(
        admit(&admission, &host, "/", "TRACE").unwrap_err(),
        Fault::MethodNotAllowed
    );
}

#[test]
fn a_foreign_page_may_not_call() {
    let admission = Admission {
        origins: vec!["https://grafana.internal".into()],
        ..Admission::default()
    };
    let host = ("host", "localhost:8080");
    let call = |extra: &[(&str, &str)]| admit(&admission, &[&[host], extra].concat(), "/", "GET");
    assert!(
        call(&[("origin", "http://localhost:8080")])
            .unwrap()
            .origin
            .is_none()
    );
    assert!(
        call(&[("origin", "https://Grafana.internal")])
            .unwrap()
            .origin
            .is_some()
    );
    assert!(call(&[("sec-fetch-site", "same-origin")]).is_ok());
    let link = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    assert!(call(&link).is_ok());
    for refused in [
        &[("origin", "null")][..],
        &[("origin", "http://localhost:3000")],
        &[("origin", "https://grafana.internal.evil")],
        &[
            ("origin", "https://grafana.internal"),
            ("origin", "https://evil"),
        ],
        &[("sec-fetch-site", "cross-site")],
        &[
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-mode", "no-cors"),
        ],
    ] {
        assert_eq!(
            call(refused).unwrap_err(),
            Fault::CallerNotAllowed(Rule::Origin),
            "{refused:?}"
        );
    }
    let post = admit(&admission, &[&[host][..], &link].concat(), "/", "POST");
    assert_eq!(post.unwrap_err(), Fault::CallerNotAllowed(Rule::Origin));
}

#[test]
fn a_unix_user_must_be_listed() {
    let admission = Admission {
        users: Some(Users {
            uids: vec![1001],
            gids: vec![50],
        }),
        ..Admission::default()
    };
    let head = Request::get("/")
        .header("host", "localhost")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    let user = |uid, gid| {
        let peer = Peer::Unix {
            uid,
            gid,
            pid: None,
        };
        admit_from(&peer, &admission, &head)
    };
    assert!(user(1001, 1).is_ok());
    assert!(user(1, 50).is_ok());
    let refused = user(1002, 1002).unwrap_err();
    assert_eq!(refused, Fault::CallerNotAllowed(Rule::User));
}

#[test]
fn any_host_will_do_where_callers_prove_themselves_but_it_must_be_one() {
    let admission = Admission {
        any_host: true,
        ..Admission::default()
    };
    assert!(admit(&admission, &[("host", "evil.example")], "/", "GET").is_ok());
    for host in ["", "u@localhost", "a b"] {
        let refused = admit(&admission, &[("host", host)], "/", "GET").unwrap_err();
        assert_eq!(refused, Fault::BadRequest, "{host}");
    }
    let foreign = [("host", "evil.example"), ("origin", "https://evil.example")];
    let refused = admit(&admission, &foreign, "/", "GET").unwrap_err();
    assert_eq!(refused, Fault::CallerNotAllowed(Rule::Origin));
}

#[test]
fn a_peer_that_has_no_number_here_has_none_in_the_log() {
    let unix = |pid| {
        Peer::Unix {
            uid: 7,
            gid: 8,
            pid,
        }
        .to_string()
    };
    assert_eq!(
        (unix(Some(9)), unix(None)),
        ("uid 7 pid 9".into(), "uid 7".into())
    );
    let mapped = Peer::Tcp {
        remote: "[::ffff:10.0.0.9]:4000".parse().unwrap(),
        local: "[::]:80".parse().unwrap(),
    };
    assert_eq!(mapped.to_string(), "10.0.0.9");
}
