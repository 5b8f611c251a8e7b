//! What of a head goes on, and what does not.

use http::Request;
use proptest::prelude::*;

use super::*;

fn rewritten(rewrite: &Rewrite, headers: &[(&str, &str)]) -> Result<Vec<String>, Fault> {
    let mut request = Request::get("/").header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut head = request.body(()).unwrap().into_parts().0;
    let peer = Peer::Tcp {
        remote: "10.1.1.1:5".parse().unwrap(),
        local: "10.1.1.2:80".parse().unwrap(),
    };
    rewrite.headers(&mut head, &peer, false)?;
    let lines = head
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    let mut lines: Vec<_> = lines
        .filter(|line| !line.starts_with("host: ") && !line.starts_with("via: "))
        .collect();
    // The order of headers with different names means nothing, and a removal changes it.
    lines.sort();
    Ok(lines)
}

#[test]
fn forged_authentication_is_taken_out() {
    let rewrite = Rewrite {
        attached_headers: vec![HeaderName::from_static("iam-token")].into(),
        ..Rewrite::default()
    };
    let forged = [
        ("authorization", "Bearer a"),
        ("authorization", "Basic b"),
        ("proxy-authorization", "Basic c"),
        ("iam-token", "d"),
        ("iam_token", "e"),
        ("cookie", "session=f"),
        ("x-kept", "g"),
    ];
    assert_eq!(rewritten(&rewrite, &forged).unwrap(), ["x-kept: g"]);
    let nothing_attached = Rewrite {
        attaches: false,
        ..Rewrite::default()
    };
    let own = [("authorization", "Bearer a"), ("cookie", "session=f")];
    assert_eq!(
        rewritten(&nothing_attached, &own).unwrap(),
        ["authorization: Bearer a", "cookie: session=f"]
    );
}

#[test]
fn what_belongs_to_one_connection_stays_there() {
    let headers = [
        ("connection", ""),
        ("connection", "close, X-Named, host, content-length"),
        ("keep-alive", "timeout=5"),
        ("te", "gzip, trailers"),
        ("upgrade", "h2c"),
        ("x-named", "a"),
        ("x-forwarded-for", "1.2.3.4"),
        ("content-length", "0"),
        ("x-kept", "b"),
    ];
    assert_eq!(
        rewritten(&Rewrite::default(), &headers).unwrap(),
        ["content-length: 0", "te: trailers", "x-kept: b"]
    );
    let append = Rewrite {
        forwarded: Forwarded::Append,
        ..Rewrite::default()
    };
    assert_eq!(
        rewritten(&append, &[("x-forwarded-for", "1.2.3.4")]).unwrap(),
        [
            "x-forwarded-for: 1.2.3.4, 10.1.1.1",
            "x-forwarded-host: localhost",
            "x-forwarded-proto: http"
        ]
    );
}

#[test]
fn trailers_bring_nothing_that_a_head_must_not_have() {
    let rewrite = Rewrite {
        attached_headers: vec![HeaderName::from_static("iam-token")].into(),
        ..Rewrite::default()
    };
    let names = [
        "authorization",
        "proxy-authorization",
        "iam-token",
        "iam_token",
        "cookie",
        "connection",
        "te",
        "transfer-encoding",
        "content-length",
        "host",
        "trailer",
        "x-forwarded-for",
        "grpc-status",
    ];
    let trailers = || -> HeaderMap {
        names
            .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1")))
            .into_iter()
            .collect()
    };
    let mut kept = trailers();
    rewrite.trailers(&mut kept);
    assert_eq!(kept.keys().collect::<Vec<_>>(), ["grpc-status"]);
    let nothing_attached = Rewrite {
        attaches: false,
        ..Rewrite::default()
    };
    let mut kept = trailers();
    nothing_attached.trailers(&mut kept);
    assert!(kept.contains_key("authorization") && kept.contains_key("cookie"));
    assert!(!kept.contains_key(header::CONTENT_LENGTH) && !kept.contains_key(header::HOST));
}

#[test]
fn a_request_that_came_through_here_before_is_refused() {
    let looped = [("via", "1.1 other, 1.1 watsonx-auth-proxy-test")];
    assert_eq!(
        rewritten(&Rewrite::default(), &looped),
        Err(Fault::LoopDetected)
    );
}

proptest! {
    #[test]
    fn the_first_look_at_a_name_overlooks_none_that_is_dropped(
        name in prop::sample::select(&[
            "accept-charset", "authorization", "connection", "content-length", "cookie", "forwarded", "host",
            "http2-settings", "if-range", "keep-alive", "range", "request-range", "te", "transfer-encoding", "upgrade",
            "x-proxy-key", "proxy-authorization", "proxy-x", "x-forwarded-for", "x-forwarded-x", "ml-instance-id",
            "x-caller", "accept", "user-agent", "-odd", "odd-",
        ][..]),
        spelled in prop::collection::vec(any::<bool>(), 24),
        (pass_cookies, scrub_body) in any::<(bool, bool)>(),
        attached in prop::sample::select(&["ml-instance-id", "-odd", "odd-"][..]),
    ) {
        let rewrite = Rewrite {
            attached_headers: vec![HeaderName::from_static(attached)].into(),
            of_callers: vec![HeaderName::from_static("x-caller")].into(),
            pass_cookies,
            scrub_body,
            ..Rewrite::default()
        };
        let spell = |(letter, other)| if letter == '-' && other { '_' } else { letter };
        let name: String = name.chars().zip(spelled).map(spell).collect();
        let name = HeaderName::try_from(name).unwrap();
        let first_look = may_be_ours(&name, rewrite.ours());
        prop_assert!(first_look || !rewrite.is_ours_in_any_spelling(&name), "{name}");
    }
}
