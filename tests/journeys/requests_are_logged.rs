//! One line per request, which says who did what with which value of the credential; and no client can write a line of
//! its own, or make a secret show.

use std::io::Write as _;

use http::Request;
use serde_json::{Value, json};

use crate::{
    client::{self, eventually},
    origin::Origin,
    proxy::{Proxy, World},
    streams::{Http2, uri},
    tls_both_ways::over_tls,
};

const KEY: &str = "canary-key-of-grafana-01";

/// The access lines, once there are so many.
fn lines(proxy: &Proxy, count: usize) -> Vec<Value> {
    eventually("the access lines", || {
        let printed = proxy.printed();
        let lines = printed
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let lines: Vec<_> = lines.filter(|line| line["target"] == "access").collect();
        (lines.len() >= count).then_some(lines)
    })
}

#[test]
fn a_line_says_who_did_what() {
    let world = World::new();
    world.write("grafana", KEY);
    let origin = Origin::echoing();
    let proxy = world.start_with(&format!(
        "workers = 1\npoll = '100ms'\nadmin = {{ address = '127.0.0.1:0' }}\n\
         listener.local = {{ address = '127.0.0.1:0' }}\n\
         listener.keyed = {{ address = '127.0.0.1:0', callers = ['grafana'] }}\n\
         caller.grafana = {{ key = {{ file = 'grafana' }} }}\n\
         [upstream.raw]\nurl = 'http://{}'\nplain_http = true\n\
         [credential.raw.token]\nvalue = {{ file = 'license-token' }}\nupstream = 'raw'\n\
         [route.raw]\npath = '/'\nupstream = 'raw'\nattach = 'raw'\n",
        origin.address
    ));
    proxy.ready();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    // Not noted: this upstream answers with the target.
    let answer = client::send(
        proxy.address(),
        "POST",
        "/a/b?version=1&secret-without-value&x=y",
        &[
            "X-Request-Id: r1",
            &format!("traceparent: 00-{trace}-00f067aa0ba902b7-01"),
        ],
        b"12345",
    );
    let body = answer.body.len();
    let key = format!("X-Proxy-Key: {KEY}");
    assert_eq!(client::get(proxy.listeners[1], "/a", &[&key]).status, 200);
    assert_eq!(client::get(proxy.listeners[1], "/a?b=c", &[]).status, 401);
    let first = lines(&proxy, 3);
    let line = &first[0];
    for (field, value) in [
        ("level", json!("INFO")),
        ("message", json!("request")),
        ("listener", json!("local")),
        ("caller", Value::Null),
        ("peer", json!("127.0.0.1")),
        ("identity", Value::Null),
        ("route", json!("raw")),
        ("method", json!("POST")),
        ("path", json!("/a/b")),
        ("query", json!("version,*,x")),
        ("status", json!(200)),
        ("bytes", json!(body)),
        ("bytes_in", json!(5)),
        ("code", Value::Null),
        ("replay", Value::Null),
        ("trace_id", json!(trace)),
        ("request_id", json!("r1")),
    ] {
        assert_eq!(line[field], value, "{field} of {line}");
    }
    for field in ["timestamp", "duration_ms", "overhead_ms", "credential"] {
        assert!(!line[field].is_null(), "{field} of {line}");
    }
    assert_eq!(first[1]["caller"], "grafana");
    let refused = &first[2];
    assert_eq!(
        (&refused["code"], &refused["caller"]),
        (&json!("caller_not_allowed"), &Value::Null)
    );
    assert_eq!(
        (&refused["credential"], &refused["query"]),
        (&Value::Null, &json!("b"))
    );

    // The value's fingerprint is the same for the same value, and another one for another.
    let fingerprint = first[0]["credential"].as_str().unwrap();
    assert!(fingerprint.len() == 8 && fingerprint.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(first[1]["credential"], fingerprint);
    world.write("license-token", "canary-another-license-token");
    eventually("the other token", || {
        proxy.get("/c", &[]);
        origin.take_whole().pop().filter(|message| {
            message.all("authorization") == [b"Bearer canary-another-license-token"]
        })
    });
    let all = eventually("the line of it", || {
        let all = lines(&proxy, 4);
        let is_other =
            |line: &Value| line["credential"].is_string() && line["credential"] != fingerprint;
        all.iter().any(is_other).then_some(all)
    });
    assert!(all.iter().all(|line| {
        line["credential"]
            .as_str()
            .is_none_or(|text| text.len() == 8)
    }));
    let secrets = [KEY, "canary-another-license-token", "secret-without-value"].map(str::to_owned);
    proxy.end([world.secrets(), secrets.to_vec()].concat());
}

/// Bytes that end a line, move a cursor or turn text around, where a client may say what it likes.
const ODD: &[&[u8]] = &[
    b"GET /a%0d%0a%1b[31m HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a b\r\n",
    b"GET /\xc2\x9b31m\xe2\x80\xae\xe2\x80\xa8?\xc2\x9b=1 HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /\x7f HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /x?\xc2\x9b31m=1&\xe2\x80\xae HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n",
    b"GE|T /\"},{\"level\":\"ERROR\"} HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /x HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: \xc2\x9b31m\r\ntraceparent: \xc2\x9b\r\n",
    b"GET /x HTTP/1.1\r\nHost: localhost\r\nX-User: \xc2\x9b31m\te\xe2\x80\xae\xff\r\n",
    b"GET /x HTTP/1.1\r\nHost: \xc2\x9b31m\r\nOrigin: \xe2\x80\xae\r\n",
];

fn assert_visible(printed: &str) {
    for line in printed.lines() {
        let odd = line.chars().find(|c| {
            (c.is_control() && *c != '\t')
                || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        });
        assert_eq!(odd, None, "{line:?}");
    }
}

#[test]
fn nobody_writes_lines_into_the_log() {
    for format in ["json", "human"] {
        let world = World::new();
        let origin = Origin::echoing();
        let config = format!(
            "workers = 1\nlog.format = '{format}'\nadmin = {{ address = '127.0.0.1:0' }}\n\
             listener.local = {{ address = '127.0.0.1:0', callers = ['near'] }}\n\
             caller.near = {{ networks = ['127.0.0.0/8'], identity_header = 'X-User' }}\n\
             [upstream.raw]\nurl = 'http://{}'\nplain_http = true\n\
             [route.raw]\npath = '/'\nupstream = 'raw'\n",
            origin.address
        );
        let proxy = world.start_with(&config);
        for head in ODD {
            let mut stream = client::connect(proxy.address());
            stream
                .write_all(&[head, &b"Connection: close\r\n\r\n"[..]].concat())
                .unwrap();
            let mut all = Vec::new();
            let _ = std::io::Read::read_to_end(&mut stream, &mut all);
            assert!(all.starts_with(b"HTTP/1.1 "), "{head:?}");
        }
        let long = format!("/{}", "a".repeat(20_000));
        client::get(
            proxy.address(),
            &long,
            &[&format!("X-User: {}", "u".repeat(20_000))],
        );
        let printed = eventually("the last line", || {
            Some(proxy.printed()).filter(|printed| printed.contains("aaaaaaaaaaaaaaaa…"))
        });
        assert_visible(&printed);
        let is_access = |line: &&str| match format {
            "json" => line.contains("\"target\":\"access\""),
            _ => line.contains(" request listener=local "),
        };
        let access: Vec<_> = printed.lines().filter(is_access).collect();
        // Two are refused by the parser, in lines of another kind.
        assert_eq!(access.len(), ODD.len() - 2 + 1, "{printed}");
        assert!(access.iter().all(|line| line.len() < 4096));
        for line in printed.lines() {
            match format {
                "json" => drop(serde_json::from_str::<Value>(line).unwrap()),
                _ => assert!(
                    line.starts_with("20"),
                    "a line that is none of ours: {line}"
                ),
            }
        }
        proxy.end(world.secrets());
    }
}

#[tokio::test]
async fn at_trace_no_library_tells_what_it_carries() {
    let world = World::new();
    world.write("grafana", KEY);
    let secret = "canary-of-a-client-4711";
    let proxy = world.start_with(&world.config(
        "state_dir = 'state'\n",
        r#"
listener.tls = { address = "127.0.0.1:0", callers = ["grafana"], tls = { self_signed = true } }
listener.plain = { address = "127.0.0.1:0", callers = ["grafana"] }
caller.grafana = { key = { file = "grafana" } }
[route.platform]
path = "/"
upstream = "platform"
attach = "platform"
"#,
    ));
    proxy.ready();
    let target = format!("/simulator/status/200?token={secret}");
    let key = format!("Authorization: Bearer {KEY}");
    let body = format!("{{\"password\":\"{secret}\"}}");
    let lines = [
        key.as_str(),
        "Host: localhost",
        &format!("Cookie: s={secret}"),
    ];
    let request = client::request("POST", &target, &lines, body.as_bytes());
    let ca = std::fs::read(world.path("state/ca.crt")).unwrap();
    let mut over_tls = over_tls(&proxy, &ca, "localhost");
    over_tls.write_all(&request).unwrap();
    let mut all = Vec::new();
    let _ = std::io::Read::read_to_end(&mut over_tls, &mut all);
    assert_eq!(client::parse(&all).status, 200);
    let plain = client::exchange(client::connect(proxy.listeners[1]), &request);
    assert_eq!(plain.status, 200);
    let client = Http2::connect(proxy.listeners[1]).await;
    for key in [KEY, "canary-wrong-key-000000"] {
        let request = Request::post(uri(&target))
            .header("authorization", format!("Bearer {key}"))
            .header("x-proxy-key", key)
            .header("cookie", format!("s={secret}"));
        client
            .send(request.body(()).unwrap(), Some(body.as_bytes()))
            .await
            .unwrap();
    }
    let printed = proxy.printed();
    let speaks = |target: &str| printed.contains(&format!("\"target\":\"{target}"));
    assert!(speaks("h2::"), "h2 is not asked to be silent");
    let secrets = [KEY, secret, "canary-wrong-key-000000"].map(str::to_owned);
    proxy.end([world.secrets(), secrets.to_vec()].concat());
}
