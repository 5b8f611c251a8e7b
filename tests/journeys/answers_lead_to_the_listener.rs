//! What an answer says of where to go and what to bring along is meant for the listener: its paths, its cookies.

use std::io::Write as _;

use crate::{
    client::{self, Answer},
    origin::Origin,
    proxy::{Proxy, World},
    tls_both_ways::over_tls,
};

/// An upstream that answers with these lines, in which `UP` is its own authority, and in front of it a route at `/cpd`
/// that is taken off, to the base path `/base`.
fn start(world: &World, lines: &str, listener: &str, route: &str) -> (Proxy, Origin) {
    let lines = lines.to_owned();
    let origin = Origin::answering(move |request| {
        let up = String::from_utf8(request.all("host")[0].to_vec()).unwrap();
        let lines = lines.replace("UP", &up);
        format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n").into_bytes()
    });
    let proxy = world.start_with(&format!(
        "admin = {{ address = '127.0.0.1:0' }}\n[listener.local]\naddress = '127.0.0.1:0'\n{listener}\n\
         [upstream.raw]\nurl = 'http://{}/base'\nplain_http = true\n\
         [credential.raw.token]\nvalue = {{ file = 'license-token' }}\nupstream = 'raw'\n\
         [route.raw]\npath = '/cpd'\nstrip_prefix = true\nupstream = 'raw'\n\
         attach = [{{ credential = 'raw', query = 'token' }}]\n{route}\n",
        origin.address
    ));
    proxy.ready();
    (proxy, origin)
}

/// What the client gets of an answer with these lines.
fn answered(lines: &str, route: &str) -> Answer {
    let world = World::new();
    let (proxy, origin) = start(&world, lines, "", route);
    let answer = proxy.get("/cpd/x", &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    world.end(proxy);
    Answer {
        head: answer.head.replace(&origin.address.to_string(), "UP"),
        ..answer
    }
}

#[test]
fn references_to_the_upstream_lead_to_the_listener() {
    for (told, mapped) in [
        ("http://UP/base/a?b=1", "/cpd/a?b=1"),
        ("HTTP://UP/base", "/cpd"),
        ("//UP/base/a", "/cpd/a"),
        ("/base/a#b", "/cpd/a#b"),
        ("http://UP/base/a?token=x&b=%20", "/cpd/a?b=%20"),
        ("http://UP/basement", "/cpd/basement"),
        // Not the upstream, or nothing that could be told otherwise.
        ("https://UP/base/a", "https://UP/base/a"),
        (
            "http://elsewhere.example/base/a",
            "http://elsewhere.example/base/a",
        ),
        (
            "http://UP.elsewhere.example/base/a",
            "http://UP.elsewhere.example/base/a",
        ),
        ("//elsewhere.example/base/a", "//elsewhere.example/base/a"),
        ("a/b", "a/b"),
        ("?page=2", "?page=2"),
    ] {
        let lines = format!(
            "Location: {told}\r\nContent-Location: {told}\r\nRefresh: 5; url={told}\r\nRefresh: 0;URL = '{told}' ;x\r\n\
             Link: <{told}>; rel=\"next\", <https://elsewhere.example/?<>; title=\"a \\\" <{told}>\"\r\nLink: <{told}>\r\n"
        );
        let answer = answered(&lines, "");
        assert_eq!(answer.all("location"), [mapped], "{told}");
        assert_eq!(answer.all("content-location"), [mapped], "{told}");
        let refresh = [format!("5; url={mapped}"), format!("0;URL = '{mapped}' ;x")];
        assert_eq!(answer.all("refresh"), refresh, "{told}");
        let link = [
            format!(
                "<{mapped}>; rel=\"next\", <https://elsewhere.example/?<>; title=\"a \\\" <{told}>\""
            ),
            format!("<{mapped}>"),
        ];
        assert_eq!(answer.all("link"), link, "{told}");
    }
    for told in ["<http://UP/base/a", "<http://UP/base/a>; title=\"x"] {
        let answer = answered(&format!("Link: {told}\r\nRefresh: 5\r\n"), "");
        assert_eq!(answer.all("link"), [told], "not a list of links");
        assert_eq!(answer.all("refresh"), ["5"]);
    }
}

#[test]
fn cookies_that_pass_are_the_listeners() {
    let set = [
        (
            "a=1; Path=/base/ui; Domain=up.example; HttpOnly",
            "a=1; Path=/cpd/ui; HttpOnly",
        ),
        (
            "b=\"x y\";path=/ ; Max-Age=5;SameSite=Lax",
            "b=\"x y\"; Path=/cpd; Max-Age=5;SameSite=Lax",
        ),
        (
            "a=2; Path=/base; Secure; SameSite=None; Partitioned",
            "a=2; Path=/cpd",
        ),
        (
            "c=; expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "c=; expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/cpd",
        ),
        (
            "__Host-d=1; Secure; Path=/; SameSite=None",
            "__Host-d=1; Secure; Path=/; SameSite=None",
        ),
        (
            "__Secure-e=1; Secure; Path=/base/; Domain=up.example",
            "__Secure-e=1; Secure; Path=/cpd/",
        ),
        (
            "f=1; Path=relative; Path=/base/g",
            "f=1; Path=relative; Path=/cpd/g",
        ),
    ];
    let lines: String = set
        .iter()
        .map(|(told, _)| format!("Set-Cookie: {told}\r\n"))
        .collect();
    let answer = answered(&lines, "cookies = 'pass'");
    assert_eq!(answer.all("set-cookie"), set.map(|(_, passed)| passed));
    assert!(answered(&lines, "").all("set-cookie").is_empty());
}

#[test]
fn cookies_do_not_leave_for_the_routes_of_others() {
    let set = [
        ("a=1; Path=/", "a=1; Path=/ml"),
        ("b=1", "b=1; Path=/ml"),
        ("c=1; Path=/mlx", "c=1; Path=/ml"),
        ("d=1; Path=/ml/v1; HttpOnly", "d=1; Path=/ml/v1; HttpOnly"),
        ("e=1; Path=/ml", "e=1; Path=/ml"),
        ("f=1; Path=/ml/v1; Path", "f=1; Path=/ml/v1; Path; Path=/ml"),
        ("__Host-g=1; Secure; Path=/", "__Host-g=1; Secure; Path=/"),
    ];
    let lines: String = set
        .iter()
        .map(|(told, _)| format!("Set-Cookie: {told}\r\n"))
        .collect();
    let world = World::new();
    let origin = Origin::answering(move |_| {
        format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n").into_bytes()
    });
    let proxy = world.start_with(&format!(
        "admin = {{ address = '127.0.0.1:0' }}\n[listener.local]\naddress = '127.0.0.1:0'\n\
         [upstream.raw]\nurl = 'http://{}'\nplain_http = true\n\
         [credential.raw.token]\nvalue = {{ file = 'license-token' }}\nupstream = 'raw'\n\
         [route.raw]\npath = '/ml'\nupstream = 'raw'\nattach = 'raw'\ncookies = 'pass'\n",
        origin.address
    ));
    proxy.ready();
    let answer = proxy.get("/ml/x", &[]);
    assert_eq!(answer.all("set-cookie"), set.map(|(_, passed)| passed));
    world.end(proxy);
}

#[test]
fn a_reference_with_a_control_character_is_not_mapped() {
    for told in ["http://UP/base/\t/evil.example", "/base/\t/evil.example"] {
        let answer = answered(
            &format!("Location: {told}\r\nRefresh: 0;url={told}\r\n"),
            "",
        );
        assert_eq!(answer.all("location"), [told]);
        assert_eq!(answer.all("refresh"), [format!("0;url={told}")]);
    }
}

#[test]
fn over_tls_cookies_stay_secure() {
    let world = World::new();
    let set = "a=1; Path=/base/; Secure; SameSite=None; Partitioned; Domain=up.example";
    let lines = format!("Set-Cookie: {set}\r\n");
    let tls = "tls = { self_signed = true }";
    let (proxy, _) = start(&world, &lines, tls, "cookies = 'pass'");
    let ca = std::fs::read(world.path("watsonx-auth-proxy/ca.crt")).unwrap();
    let mut stream = over_tls(&proxy, &ca, "localhost");
    let request = client::request("GET", "/cpd/x", &[], b"");
    stream.write_all(&request).unwrap();
    let answer = client::read_one(&mut stream);
    assert_eq!(
        answer.all("set-cookie"),
        ["a=1; Path=/cpd/; Secure; SameSite=None; Partitioned"]
    );
    world.end(proxy);
}
