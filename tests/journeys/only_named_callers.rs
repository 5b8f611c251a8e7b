//! Where a listener names its callers, nobody else comes in, what they prove themselves by stays here, and each does what
//! it may.

use std::{
    io::Write as _,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    thread,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::Request;

use crate::{
    client::{self, Answer, eventually},
    origin::Origin,
    proxy::{Proxy, World},
    streams::{Http2, uri},
};

/// Keys as `openssl rand` makes them; secrets like those of upstreams.
const GRAFANA: &str = "canary-grafana-5tJxk2yXqQ";
const BATCH: &str = "canary-batch-W8yqLwz0aa";
const WRONG: &str = "canary-wrong-000000000000";

/// A proxy with two routes to a strict upstream: one attaches, one does not.
fn proxied(world: &World, origin: &Origin, listener: &str, callers: &str) -> Proxy {
    world.write("grafana", GRAFANA);
    world.write("batch", BATCH);
    let config = format!(
        "workers = 2\npoll = '100ms'\nadmin = {{ address = '127.0.0.1:0' }}\n\
         [listener.local]\naddress = '127.0.0.1:0'\n{listener}\n{callers}\n\
         [upstream.raw]\nurl = 'http://{}'\nplain_http = true\n\
         [credential.raw.token]\nvalue = {{ file = 'license-token' }}\nupstream = 'raw'\n\
         [route.attaching]\npath = '/'\nupstream = 'raw'\nattach = 'raw'\nallow = ['*']\n\
         [route.open]\npath = '/open'\nupstream = 'raw'\nallow = ['*']\n",
        origin.address
    );
    let proxy = world.start_with(&config);
    proxy.ready();
    proxy
}

fn end(world: &World, proxy: Proxy) {
    let keys = [GRAFANA, BATCH, WRONG].map(str::to_owned);
    proxy.end([world.secrets(), keys.to_vec()].concat());
}

/// Which rule turned a request away, if one did.
fn rule(answer: &Answer) -> Option<String> {
    let status = answer.header("proxy-status")?;
    let details = status.split("details=\"").nth(1)?;
    Some(details.trim_end_matches('"').to_owned())
}

fn refused(answer: &Answer) -> (u16, Option<String>) {
    assert_eq!(answer.code(), "caller_not_allowed");
    (answer.status, rule(answer))
}

const KEYED: &str = "[caller.grafana]\nkey = { file = 'grafana' }\n\
     [caller.batch]\nkey = { file = 'batch' }\nroutes = ['open']\n";

#[tokio::test]
async fn a_key_opens_over_either_protocol_and_goes_no_further() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = proxied(&world, &origin, "callers = ['grafana', 'batch']", KEYED);
    let basic = BASE64_STANDARD.encode(format!("any:{GRAFANA}"));
    let bearer = format!("Authorization: Bearer {GRAFANA}");
    let own = format!("X-Proxy-Key: {GRAFANA}");
    let right = [
        bearer.as_str(),
        &own,
        &format!("Authorization: Basic {basic}"),
    ];
    for line in right {
        for target in ["/x", "/open/x"] {
            assert_eq!(proxy.get(target, &[line]).status, 200, "{line} {target}");
        }
    }
    // An SDK that insists on a token of its own, beside the key, and one who says both.
    let both = [own.as_str(), "Authorization: Bearer mine"];
    assert_eq!(proxy.get("/open/mine", &both).status, 200);
    assert_eq!(proxy.get("/open/x", &[&own, &bearer]).status, 200);

    let wrong = [
        &[][..],
        &[&*format!("Authorization: Bearer {WRONG}")],
        &[&*format!("X-Proxy-Key: {WRONG}")],
        // Nearly right.
        &[&*format!("X-Proxy-Key: {GRAFANA}x")],
        &[&*format!("X-Proxy-Key: {}", &GRAFANA[..GRAFANA.len() - 1])],
        &[&own, &own],
    ];
    let mut texts = Vec::new();
    for lines in wrong {
        let answer = proxy.get("/open/x", lines);
        assert_eq!(refused(&answer), (401, Some("key".into())), "{lines:?}");
        assert_eq!(
            answer.all("www-authenticate"),
            [
                "Bearer realm=\"watsonx-auth-proxy\"",
                "Basic realm=\"watsonx-auth-proxy\", charset=\"UTF-8\"",
            ]
        );
        texts.push(answer.json()["errors"].to_string());
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "they say the same: {texts:?}");

    let client = Http2::connect(proxy.address()).await;
    for (name, value, status) in [
        ("authorization", format!("Bearer {GRAFANA}"), 200),
        ("x-proxy-key", GRAFANA.to_owned(), 200),
        ("authorization", format!("Basic {basic}"), 200),
        ("authorization", format!("Bearer {WRONG}"), 401),
        ("x-other", "x".to_owned(), 401),
    ] {
        // On one connection, each for itself.
        let request = Request::get(uri("/open/x")).header(name, value);
        let reply = client.send(request.body(()).unwrap(), None).await.unwrap();
        assert_eq!(reply.status, status, "{name}");
    }

    let came = origin.take_whole();
    assert_eq!(came.len(), 6 + 2 + 3);
    for message in &came {
        assert!(message.all("x-proxy-key").is_empty(), "{message:?}");
        let carried = message.all("authorization");
        let expected: &[&[u8]] = match message.start.as_str() {
            "GET /x HTTP/1.1" => &[b"Bearer canary+license/token=7c"],
            "GET /open/mine HTTP/1.1" => &[b"Bearer mine"],
            _ => &[],
        };
        assert_eq!(carried, expected, "{message:?}");
    }
    let counted = |caller: &str, status: u16| {
        let start = "watsonx_auth_proxy_requests_total{route=";
        let page = proxy.admin("/metrics").text();
        let ours = page.lines().filter(|line| {
            line.starts_with(start)
                && line.contains(&format!("caller=\"{caller}\""))
                && line.contains(&format!("status=\"{status}\""))
        });
        ours.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>()
    };
    assert_eq!((counted("grafana", 200), counted("", 401)), (11.0, 8.0));
    let faults = "watsonx_auth_proxy_faults_total{route=\"none\",code=\"caller_not_allowed\"}";
    assert_eq!(proxy.metric(faults), 8.0);
    end(&world, proxy);
}

#[test]
fn with_a_key_any_host_will_do_and_a_foreign_page_still_will_not() {
    let world = World::new();
    let origin = Origin::echoing();
    let listed = "Origin: https://grafana.internal";
    let proxy = proxied(
        &world,
        &origin,
        "callers = ['grafana']\norigins = ['https://grafana.internal']",
        KEYED,
    );
    let key = format!("X-Proxy-Key: {GRAFANA}");
    let host = "Host: proxy.example";
    assert_eq!(proxy.get("/x", &[&key, host]).status, 200);
    assert_eq!(refused(&proxy.get("/x", &[host])).0, 401);
    for lines in [
        &["Origin: https://evil.example"][..],
        &["Origin: null"],
        &["Sec-Fetch-Site: cross-site"],
    ] {
        let lines = [&[&*key], lines].concat();
        let answer = proxy.get("/x", &lines);
        assert_eq!(refused(&answer), (403, Some("origin".into())), "{lines:?}");
    }
    // A browser asks before it has shown the key; what comes then is judged by it, and the page may read why.
    let asks = [
        listed,
        "Access-Control-Request-Method: GET",
        "Access-Control-Request-Headers: x-proxy-key",
    ];
    let preflight = proxy.send("OPTIONS", "/x", &asks, b"");
    assert_eq!(preflight.status, 204);
    assert_eq!(
        preflight.header("access-control-allow-headers"),
        Some("x-proxy-key")
    );
    let shared = Some("https://grafana.internal");
    assert_eq!(preflight.header("access-control-allow-origin"), shared);
    let foreign = [&["Origin: https://evil.example"], &asks[1..]].concat();
    assert_eq!(proxy.send("OPTIONS", "/x", &foreign, b"").status, 403);
    let without = proxy.get("/x", &[listed]);
    assert_eq!(
        (
            without.status,
            without.header("access-control-allow-origin")
        ),
        (401, shared)
    );
    let with = proxy.get("/x", &[listed, &key]);
    assert_eq!(
        (with.status, with.header("access-control-allow-origin")),
        (200, shared)
    );
    assert_eq!(origin.take_whole().len(), 2);
    end(&world, proxy);
}

#[test]
fn where_the_network_alone_lets_in_the_host_is_looked_at() {
    let world = World::new();
    let origin = Origin::echoing();
    let callers = format!("{KEYED}[caller.machine]\nnetworks = ['127.0.0.0/8']\n");
    let proxy = proxied(
        &world,
        &origin,
        "callers = ['grafana', 'machine']",
        &callers,
    );
    let key = format!("X-Proxy-Key: {GRAFANA}");
    for lines in [&["Host: proxy.example"][..], &["Host: proxy.example", &key]] {
        let answer = proxy.get("/x", lines);
        assert_eq!(refused(&answer), (403, Some("host".into())), "{lines:?}");
    }
    assert_eq!(proxy.get("/x", &[]).status, 200);
    // The key of a caller that was not needed, and a wrong one, on a route that attaches nothing.
    for lines in [&[&*key][..], &[&*format!("Authorization: Bearer {WRONG}")]] {
        assert_eq!(proxy.get("/open/x", lines).status, 200);
    }
    for message in origin.take_whole().iter().skip(1) {
        assert!(message.all("authorization").is_empty(), "{message:?}");
        assert!(message.all("x-proxy-key").is_empty(), "{message:?}");
    }
    end(&world, proxy);
}

#[test]
fn a_caller_reaches_its_routes_and_no_other() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = proxied(&world, &origin, "callers = ['grafana', 'batch']", KEYED);
    let batch = format!("X-Proxy-Key: {BATCH}");
    assert_eq!(proxy.get("/open/x", &[&batch]).status, 200);
    let answer = proxy.get("/x", &[&batch]);
    assert_eq!(refused(&answer), (403, Some("route".into())));
    assert_eq!(answer.header("www-authenticate"), None);
    assert_eq!(origin.take_whole().len(), 1);
    let line = "watsonx_auth_proxy_requests_total{route=\"attaching\",method=\"GET\",status=\"403\",caller=\"batch\"}";
    assert_eq!(proxy.metric(line), 1.0);
    end(&world, proxy);
}

#[test]
fn a_key_is_replaced_and_withdrawn_without_a_restart() {
    let world = World::new();
    let origin = Origin::echoing();
    let callers = "[caller.grafana]\nkey = [{ file = 'grafana' }, { file = 'next' }]\n";
    let proxy = proxied(&world, &origin, "callers = ['grafana']", callers);
    let status = |key: &str| proxy.get("/x", &[&format!("X-Proxy-Key: {key}")]).status;
    assert_eq!((status(GRAFANA), status(BATCH)), (200, 401));
    world.write("next", BATCH);
    eventually("the second key", || (status(BATCH) == 200).then_some(()));
    assert_eq!(status(GRAFANA), 200, "both while it is replaced");
    std::fs::remove_file(world.path("grafana")).unwrap();
    eventually("the end of the first", || {
        (status(GRAFANA) == 401).then_some(())
    });
    world.write("next", WRONG);
    eventually("the third key", || (status(WRONG) == 200).then_some(()));
    assert_eq!((status(BATCH), status(GRAFANA)), (401, 401));
    let printed = proxy.printed();
    assert!(
        printed.contains("the key of a caller is withdrawn"),
        "{printed}"
    );
    end(&world, proxy);
}

#[test]
fn a_short_key_is_warned_of_once_wherever_it_comes_from() {
    let world = World::new();
    let origin = Origin::echoing();
    world.write("short", "canary-file");
    let callers = "[caller.file]\nkey = { file = 'short' }\n\
         [caller.program]\nkey = { command = ['printf', 'canary-program'] }\n";
    let proxy = proxied(&world, &origin, "callers = ['file', 'program']", callers);
    let warned = || {
        let printed = proxy.printed();
        let lines = printed.lines().filter(|line| line.contains("so short"));
        let of = |caller: &str| lines.clone().filter(|line| line.contains(caller)).count();
        (of("canary"), of("\"file\""), of("\"program\""))
    };
    eventually("both are in force", || {
        let printed = proxy.printed();
        let told = printed.matches("the key of a caller is in force").count();
        (told == 2).then_some(())
    });
    assert_eq!(warned(), (0, 1, 1), "{}", proxy.printed());
    end(&world, proxy);
}

#[test]
fn networks_of_a_listener_for_both_families() {
    let world = World::new();
    let origin = Origin::echoing();
    let callers =
        "[caller.near]\nnetworks = ['127.0.0.0/8']\n[caller.far]\nnetworks = ['192.0.2.0/24']\n";
    let tables = format!(
        "workers = 1\nadmin = {{ address = '127.0.0.1:0' }}\n\
         listener.a = {{ address = '[::]:0', callers = ['near'] }}\n\
         listener.b = {{ address = '127.0.0.1:0', callers = ['far'] }}\n\
         listener.c = {{ address = '0.0.0.0:0', callers = ['far', 'near'] }}\n{callers}\
         [upstream.raw]\nurl = 'http://{}'\nplain_http = true\n\
         [route.open]\npath = '/'\nupstream = 'raw'\nallow = ['*']\n",
        origin.address
    );
    let proxy = world.start_with(&tables);
    let at = |index: usize| {
        let port = proxy.listeners[index].port();
        client::get(([127, 0, 0, 1], port).into(), "/x", &[])
    };
    // By an address that is IPv4 in IPv6 to the socket.
    assert_eq!(at(0).status, 200);
    assert_eq!(refused(&at(1)), (403, Some("network".into())));
    assert_eq!(at(2).status, 200);
    proxy.end(world.secrets());
}

#[test]
fn unix_users_by_what_the_kernel_says() {
    if !rustix::process::getuid().is_root() {
        let skipped = "SKIPPED: only root can call as another user\n";
        std::io::stderr().write_all(skipped.as_bytes()).unwrap();
        return;
    }
    let world = World::new();
    let folder = PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(world.folder.path(), folder).unwrap();
    let origin = Origin::echoing();
    let callers = "[caller.app]\nuids = [54321]\n[caller.ops]\ngids = [54399]\n\
         [caller.keyed]\nuids = [54322]\nkey = { file = 'grafana' }\n\
         [listener.callers]\naddress = 'unix:callers.sock'\nmode = '0666'\ncallers = ['app', 'ops', 'keyed']\n\
         [listener.users]\naddress = 'unix:users.sock'\nmode = '0666'\nuids = [54321]\n\
         [listener.ours]\naddress = 'unix:ours.sock'\nmode = '0666'\n";
    let proxy = proxied(&world, &origin, "", callers);
    let call = |socket: &str, uid: u32, gid: u32, lines: &[&str]| {
        let path = world.path(socket);
        let request = client::request("GET", "/x", lines, b"");
        // The kernel counts users by thread.
        let calling = thread::spawn(move || {
            use rustix::process::{Gid, Uid};
            rustix::thread::set_thread_groups(&[]).unwrap();
            let gid = Gid::from_raw(gid);
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            let uid = Uid::from_raw(uid);
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            let stream = UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(client::PATIENCE)).unwrap();
            client::exchange(stream, &request)
        });
        calling.join().unwrap()
    };
    let user = (403, Some("user".to_owned()));
    assert_eq!(call("callers.sock", 54321, 1, &[]).status, 200);
    assert_eq!(call("callers.sock", 1, 54399, &[]).status, 200);
    assert_eq!(refused(&call("callers.sock", 54399, 54321, &[])), user);
    assert_eq!(
        refused(&call("callers.sock", 0, 0, &[])),
        user,
        "not even ourselves"
    );
    let key = format!("X-Proxy-Key: {GRAFANA}");
    assert_eq!(refused(&call("callers.sock", 54322, 1, &[])).0, 401);
    assert_eq!(call("callers.sock", 54322, 1, &[&key]).status, 200);
    assert_eq!(refused(&call("callers.sock", 54323, 1, &[&key])), user);

    assert_eq!(call("users.sock", 54321, 1, &[]).status, 200);
    assert_eq!(refused(&call("users.sock", 0, 0, &[])), user);
    assert_eq!(refused(&call("ours.sock", 54321, 0, &[])), user);
    assert_eq!(call("ours.sock", 0, 0, &[]).status, 200);
    let us = std::process::id();
    let line = eventually("the line", || {
        let printed = proxy.printed();
        let mut lines = printed
            .lines()
            .filter(|line| line.contains("\"caller\":\"app\""));
        lines.next().map(str::to_owned)
    });
    assert!(
        line.contains(&format!("\"peer\":\"uid 54321 pid {us}\"")),
        "{line}"
    );
    end(&world, proxy);
}

#[test]
fn listeners_have_callers_and_routes_of_their_own() {
    let world = World::new();
    let origin = Origin::echoing();
    let listener = "callers = ['grafana']\nroutes = ['attaching']\n\
         [listener.other]\naddress = '127.0.0.1:0'\ncallers = ['batch']\nroutes = ['open']\n\
         [listener.free]\naddress = '127.0.0.1:0'";
    let proxy = proxied(&world, &origin, listener, KEYED);
    let status = |index: usize, target: &str, key: &str| {
        let line = format!("X-Proxy-Key: {key}");
        client::get(proxy.listeners[index], target, &[&line]).status
    };
    for (index, target, key, expected) in [
        (0, "/x", GRAFANA, 200),
        (0, "/x", BATCH, 401),
        // Without its route, the path goes where the listener's other one takes it.
        (0, "/open/x", GRAFANA, 200),
        (1, "/open/x", BATCH, 200),
        (1, "/open/x", GRAFANA, 401),
        (1, "/x", BATCH, 404),
        (2, "/x", WRONG, 200),
        (2, "/open/x", WRONG, 200),
    ] {
        assert_eq!(
            status(index, target, key),
            expected,
            "{index} {target} {key}"
        );
    }
    let came = origin.take_whole();
    assert_eq!(came.len(), 5);
    assert!(
        came.iter()
            .all(|message| message.all("x-proxy-key").is_empty()),
        "{came:?}"
    );
    end(&world, proxy);
}

#[test]
fn an_identity_is_logged_of_who_is_trusted_with_it_and_never_forwarded() {
    let world = World::new();
    let origin = Origin::echoing();
    let callers = "[caller.grafana]\nkey = { file = 'grafana' }\nidentity_header = 'X-Grafana-User'\n\
         [caller.batch]\nkey = { file = 'batch' }\n";
    let proxy = proxied(&world, &origin, "callers = ['grafana', 'batch']", callers);
    let identity = "X-Grafana-User: J\u{fc}rgen \u{9b}31m\u{202e}";
    for key in [GRAFANA, BATCH] {
        let lines = [
            &*format!("X-Proxy-Key: {key}"),
            identity,
            "X_Grafana-User: forged",
        ];
        assert_eq!(proxy.get("/open/x", &lines).status, 200);
        // Nor as a trailer.
        let mut stream = client::connect(proxy.address());
        let request = format!(
            "POST /open/x HTTP/1.1\r\nHost: localhost\r\nX-Proxy-Key: {key}\r\nTrailer: X-Grafana-User\r\n\
             Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\na\r\n0\r\nX-Grafana-User: forged\r\n\
             X-Proxy-Key: {key}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(client::exchange(stream, b"").status, 200);
    }
    let came = origin.take_whole();
    assert_eq!(came.len(), 4);
    for message in came {
        let fields = message.fields.iter().chain(&message.trailers);
        let names: Vec<_> = fields.map(|(name, _)| name.replace('_', "-")).collect();
        assert!(!names.contains(&"x-grafana-user".to_owned()), "{message:?}");
        assert!(!names.contains(&"x-proxy-key".to_owned()), "{message:?}");
    }
    let identities = eventually("four lines", || {
        let printed = proxy.printed();
        let lines = printed
            .lines()
            .filter(|line| line.contains("\"target\":\"access\""));
        let lines: Vec<serde_json::Value> = lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (lines.len() == 4).then(|| {
            lines
                .iter()
                .map(|line| line["identity"].clone())
                .collect::<Vec<_>>()
        })
    });
    assert_eq!(
        identities.iter().filter(|one| one.is_string()).count(),
        1,
        "{identities:?}"
    );
    assert!(
        identities.contains(&"Jürgen \\u{9b}31m\\u{202e}".into()),
        "{identities:?}"
    );
    end(&world, proxy);
}
