//! What a listener asks for it asks of everybody: no path, header or name of a client does without it, and no name leads
//! anywhere but where the routes say.

use crate::{
    origin::{Origin, assert_credential},
    proxy::{Proxy, World},
};

const KEY: &str = "canary-key-of-dave-0123456789";

/// What other proxies answer without asking who calls.
const OF_OTHERS: [&str; 12] = [
    "/livez",
    "/readyz",
    "/healthz",
    "/ping",
    "/metrics",
    "/status",
    "/status.json",
    "/admin",
    "/robots.txt",
    "/favicon.ico",
    "/oauth2/userinfo",
    "/.well-known/security.txt",
];

/// What other proxies take for a sign that the request is one of their own or of a friend.
const SIGNS: [&str; 16] = [
    "User-Agent: kube-probe/1.30",
    "User-Agent: GoogleHC/1.0",
    "User-Agent: ELB-HealthChecker/2.0",
    "User-Agent: Prometheus/2.50",
    "X-Forwarded-For: 127.0.0.1",
    "X-Real-IP: 127.0.0.1",
    "Forwarded: for=127.0.0.1;host=localhost",
    "X-Forwarded-Host: localhost",
    "X-Forwarded-Client-Cert: Hash=0;URI=spiffe://cluster.local/ns/a/sa/b",
    "X-Original-URL: /livez",
    "X-Forwarded-Uri: /livez",
    "X-Remote-User: dave",
    "X-Forwarded-User: dave",
    "X-Auth-Request-User: dave",
    "X-Forwarded-Access-Token: dave",
    "Sec-Fetch-Site: same-origin",
];

fn with_a_key(world: &World, origin: &Origin) -> Proxy {
    world.write("dave", KEY);
    let proxy = world.start_with(&format!(
        "workers = 1\nadmin = {{ address = '127.0.0.1:0' }}\n\
         [listener.local]\naddress = '127.0.0.1:0'\ncallers = ['dave']\n\
         [caller.dave]\nkey = {{ file = 'dave' }}\n\
         [upstream.raw]\nurl = 'http://{}'\nplain_http = true\n\
         [credential.raw.token]\nvalue = {{ file = 'license-token' }}\nupstream = 'raw'\n\
         [route.raw]\npath = '/'\nupstream = 'raw'\nattach = 'raw'\n",
        origin.address
    ));
    proxy.ready();
    proxy
}

#[test]
fn no_path_and_no_sign_does_without_the_key() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = with_a_key(&world, &origin);
    for path in OF_OTHERS {
        for method in ["GET", "HEAD", "OPTIONS", "POST"] {
            let answer = proxy.send(method, path, &[], b"");
            assert_eq!(answer.status, 401, "{method} {path}");
        }
    }
    for sign in SIGNS {
        let answer = proxy.get("/livez", &[sign]);
        assert_eq!(
            (answer.status, &*answer.code()),
            (401, "caller_not_allowed")
        );
    }
    assert!(origin.take().is_empty());

    // To who has it they are paths like any other: nothing of the proxy's own answers them.
    let key = format!("X-Proxy-Key: {KEY}");
    for path in OF_OTHERS {
        let answer = proxy.get(path, &[&key]);
        assert_eq!(answer.text(), format!("GET {path} HTTP/1.1"));
    }
    for message in origin.take_whole() {
        assert_credential(&message);
    }
    proxy.end([world.secrets(), vec![KEY.to_owned()]].concat());
}

/// Two upstreams by path and one by host, behind a listener that answers to their names, too.
fn with_three_routes(world: &World, origins: [&Origin; 3], listener: &str) -> Proxy {
    world.write("dave", KEY);
    let [first, second, named] = origins.map(|origin| origin.address);
    let proxy = world.start_with(&format!(
        "workers = 1\nadmin = {{ address = '127.0.0.1:0' }}\n\
         [listener.local]\naddress = '127.0.0.1:0'\n{listener}\n\
         [caller.dave]\nkey = {{ file = 'dave' }}\n\
         [upstream.first]\nurl = 'http://{first}'\nplain_http = true\n\
         [upstream.second]\nurl = 'http://{second}'\nplain_http = true\n\
         [upstream.named]\nurl = 'http://{named}'\nplain_http = true\n\
         [credential.first.token]\nvalue = {{ file = 'license-token' }}\nupstream = 'first'\n\
         [route.first]\npath = '/'\nupstream = 'first'\nattach = 'first'\n\
         [route.second]\npath = '/second'\nupstream = 'second'\n\
         [route.named]\npath = '/'\nhost = 'named.example'\nupstream = 'named'\n",
    ));
    proxy.ready();
    proxy
}

#[test]
fn the_name_of_another_upstream_leads_nowhere_else() {
    let world = World::new();
    let origins = [Origin::echoing(), Origin::echoing(), Origin::echoing()];
    let [first, second, named] = [&origins[0], &origins[1], &origins[2]];
    let key = format!("X-Proxy-Key: {KEY}");
    let proxy = with_three_routes(&world, [first, second, named], "callers = ['dave']");
    let other = format!("Host: {}", second.address);
    let asked = |lines: &[&str], path: &str| {
        let lines = [lines, &[&key]].concat();
        assert_eq!(proxy.get(path, &lines).status, 200, "{lines:?}");
        [first, second, named].map(|origin| origin.take_whole().len())
    };
    // Where any Host will do it chooses among the routes that name one, and nothing else.
    assert_eq!(asked(&[&other], "/x"), [1, 0, 0]);
    assert_eq!(asked(&["Host: named.example"], "/x"), [0, 0, 1]);
    assert_eq!(
        asked(&["Host: named.example.evil.example"], "/x"),
        [1, 0, 0]
    );
    assert_eq!(asked(&["Host: evil.named.example"], "/x"), [1, 0, 0]);
    assert_eq!(asked(&["X-Forwarded-Host: named.example"], "/x"), [1, 0, 0]);
    assert_eq!(asked(&[&other], "/second/x"), [0, 1, 0]);
    let absolute = format!("http://{}/x", second.address);
    assert_eq!(asked(&[&other], &absolute), [1, 0, 0]);
    proxy.end([world.secrets(), vec![KEY.to_owned()]].concat());

    // Where nothing else is asked for, only names that are this machine's or listed.
    let proxy = with_three_routes(&world, [first, second, named], "hosts = ['named.example']");
    for (host, status) in [
        ("platform.example", 403),
        ("named.example", 200),
        ("named.example.evil.example", 403),
    ] {
        let answer = proxy.get("/x", &[&format!("Host: {host}")]);
        assert_eq!(answer.status, status, "{host}");
    }
    assert_eq!(named.take_whole().len(), 1);
    assert!(first.take().is_empty() && second.take().is_empty());
    world.end(proxy);
}
