//! Requests, logins and `doctor` go through the egress proxy that the configuration or the environment names.

use std::{
    collections::BTreeSet,
    io,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    client::eventually,
    proxy::{Proxy, USUAL_ROUTES, World, assert_no_secret, command, run, run_to_end},
    scripted::{in_front_of, scripted},
};

const LOGIN: &str = "canary-egress-login";

/// A proxy that makes tunnels for `user:canary-egress-login`; what it was asked.
fn egress() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&asked);
    let address = scripted(move |stream, head| {
        heads.lock().unwrap().push(head.clone());
        // base64 of the login
        if !head.contains("Basic dXNlcjpjYW5hcnktZWdyZXNzLWxvZ2lu")
            && !head.contains("proxy-authorization: Basic dXNlcjpjYW5hcnktZWdyZXNzLWxvZ2lu")
        {
            let refusal =
                b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 3\r\n\r\nno\n";
            let _ = stream.write_all(refusal);
            return;
        }
        let target = head.split(' ').nth(1).unwrap();
        let server = TcpStream::connect(target).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .unwrap();
        join(stream.try_clone().unwrap(), server);
    });
    (address, asked)
}

fn join(mut one: TcpStream, mut other: TcpStream) {
    let (mut from, mut to) = (other.try_clone().unwrap(), one.try_clone().unwrap());
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
    let _ = io::copy(&mut one, &mut other);
    let _ = other.shutdown(std::net::Shutdown::Both);
}

/// The usual configuration, with this `proxy` of the platform.
fn through(world: &World, proxy: &str) -> String {
    world.config("", USUAL_ROUTES).replace(
        "[upstream.platform]",
        &format!("[upstream.platform]\nproxy = {proxy}"),
    )
}

const TARGET: &str = "/ml/v1/foundation_model_specs?version=2025-02-01";

#[test]
fn connect_with_a_login_from_a_file() {
    let world = World::new();
    let (address, asked) = egress();
    world.write("egress", LOGIN);
    let config = through(
        &world,
        &format!(
            "{{ url = \"http://{address}\", username = \"user\", password = {{ file = \"egress\" }} }}"
        ),
    );
    let proxy = world.start_with(&config);
    proxy.ready();
    assert_eq!(proxy.get(TARGET, &[]).status, 200);
    eventually("told at start", || {
        let told = "reached through an egress proxy";
        proxy.printed().contains(told).then_some(())
    });
    let heads = asked.lock().unwrap().clone();
    let platform = world.simulator.platform_url();
    let authority = platform.strip_prefix("https://").unwrap();
    // A login and a request, at least.
    assert!(heads.len() >= 2, "{heads:?}");
    assert!(
        heads
            .iter()
            .all(|head| head.starts_with(&format!("CONNECT {authority} HTTP/1.1")))
    );
    assert_no_secret(&heads.concat(), &world.secrets());
    assert_no_secret(
        &proxy.printed(),
        &[LOGIN.to_owned(), format!("user:{LOGIN}")],
    );
    world.end(proxy);

    let (_, told, _) = run(
        &["doctor", "--config", "proxy.toml", "platform"],
        world.folder.path(),
        "",
    );
    assert!(
        told.contains(&format!("the way leads through http://{address}")),
        "{told}"
    );
    assert!(told.contains("the server is trusted"), "{told}");
}

#[test]
fn a_proxy_that_refuses() {
    let world = World::new();
    let (address, _) = egress();
    let proxy = world.start_with(&through(&world, &format!("\"http://{address}\"")));
    eventually("the login is told of", || {
        proxy
            .printed()
            .contains("the egress proxy wants another login (407)")
            .then_some(())
    });
    world.end(proxy);
    let (code, told, _) = run(
        &["doctor", "--config", "proxy.toml", "platform"],
        world.folder.path(),
        "",
    );
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("407"), "{told}");

    // And a request: without a credential, so that it comes so far.
    let tables = format!(
        "listener.local = {{ address = '127.0.0.1:0' }}\n\
         [upstream.far]\nurl = 'https://far.example.com'\nproxy = 'http://{address}'\n\
         [route.far]\npath = '/'\nupstream = 'far'\n"
    );
    let proxy = world.start(&tables);
    let told = proxy.get("/", &[]);
    assert_eq!((told.status, &*told.code()), (502, "upstream_unreachable"));
    eventually("the reason is logged", || {
        let told = "the proxy wants another login (407)";
        proxy.printed().contains(told).then_some(())
    });
    world.end(proxy);
}

#[test]
fn the_environment_names_it_and_loopback_is_never_behind_it() {
    let world = World::new();
    let (address, asked) = egress();
    let tables = "[upstream.far]\nurl = 'http://far.example.com'\nplain_http = true\n\
         [route.far]\npath = '/far'\nupstream = 'far'\n";
    world.write(
        "proxy.toml",
        &world.config("", &format!("{USUAL_ROUTES}{tables}")),
    );
    let mut command = command(&["serve", "--config", "proxy.toml"], world.folder.path());
    let url = format!("http://user:wrong-{LOGIN}@{address}");
    command.env("https_proxy", &url).env("HTTP_PROXY", &url);
    let proxy = Proxy::start_command(command, vec![LOGIN.to_owned()]);
    proxy.ready();
    assert_eq!(proxy.get(TARGET, &[]).status, 200);
    assert!(asked.lock().unwrap().is_empty(), "loopback");
    assert_eq!(proxy.get("/far", &[]).code(), "upstream_unreachable");
    let heads = asked.lock().unwrap().concat();
    assert!(
        heads.starts_with("CONNECT far.example.com:80 HTTP/1.1"),
        "{heads}"
    );
    assert!(heads.contains("Basic "), "{heads}");
    world.end(proxy);
}

/// A SOCKS 5 proxy that lets anyone through, or only this user with this password.
fn socks_server(login: Option<(&'static str, &'static str)>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let [_, count] = exactly(&mut stream);
                let mut methods = vec![0; count.into()];
                stream.read_exact(&mut methods).unwrap();
                let method = if login.is_some() { 2 } else { 0 };
                assert!(methods.contains(&method), "{methods:?}");
                stream.write_all(&[5, method]).unwrap();
                if let Some((user, password)) = login {
                    let [version, size] = exactly(&mut stream);
                    assert_eq!(version, 1);
                    let mut told = vec![vec![0; size.into()]];
                    stream.read_exact(&mut told[0]).unwrap();
                    let [size] = exactly(&mut stream);
                    told.push(vec![0; size.into()]);
                    stream.read_exact(&mut told[1]).unwrap();
                    let is_right = told == [user.as_bytes(), password.as_bytes()];
                    stream.write_all(&[1, u8::from(!is_right)]).unwrap();
                    if !is_right {
                        return;
                    }
                }
                let head = exactly(&mut stream);
                assert_eq!(head, [5, 1, 0, 1], "an address of four bytes");
                let [a, b, c, d, high, low] = exactly(&mut stream);
                let port = u16::from_be_bytes([high, low]);
                let server = TcpStream::connect(SocketAddr::from(([a, b, c, d], port))).unwrap();
                stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
                join(stream, server);
            });
        }
    });
    address
}

fn exactly<const SIZE: usize>(stream: &mut TcpStream) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn socks() {
    let world = World::new();
    let address = socks_server(None);
    let proxy = world.start_with(&through(&world, &format!("\"socks5://{address}\"")));
    proxy.ready();
    assert_eq!(proxy.get(TARGET, &[]).status, 200);
    world.end(proxy);
}

#[test]
fn socks_with_a_login() {
    let world = World::new();
    let address = socks_server(Some(("user", LOGIN)));
    let login = |file: &str| {
        format!(
            "{{ url = \"socks5://{address}\", username = \"user\", password = {{ file = \"{file}\" }} }}"
        )
    };
    world.write("egress", LOGIN);
    let proxy = world.start_with(&through(&world, &login("egress")));
    proxy.ready();
    assert_eq!(proxy.get(TARGET, &[]).status, 200);
    assert_no_secret(&proxy.printed(), &[LOGIN.to_owned()]);
    world.end(proxy);

    world.write("wrong", "canary-wrong-login");
    let proxy = world.start_with(&through(&world, &login("wrong")));
    eventually("the refusal is told of", || {
        let told = "no way through the egress proxy to the token endpoint";
        proxy.printed().contains(told).then_some(())
    });
    assert_eq!(proxy.get(TARGET, &[]).code(), "credential_unavailable");
    assert_no_secret(&proxy.printed(), &["canary-wrong-login".to_owned()]);
    world.end(proxy);
}

/// Where the tunnels led that a proxy was asked for.
fn targets(asked: &Mutex<Vec<String>>) -> BTreeSet<String> {
    let asked = asked.lock().unwrap();
    let target = |head: &String| head.split(' ').nth(1).map(str::to_owned);
    asked.iter().filter_map(target).collect()
}

#[test]
fn both_servers_of_a_login_are_behind_its_proxy() {
    let world = World::new();
    let (address, asked) = egress();
    world.write("egress", LOGIN);
    let platform = world.simulator.platform_url();
    let identity = platform.replace("127.0.0.1", "localhost");
    assert_ne!(platform, identity);
    let proxy = world.start(&format!(
        r#"
listener.local = {{ address = "127.0.0.1:0" }}
[credential.identity.cp4d_iam]
upstream = "direct"
url = "{platform}"
identity_url = "{identity}"
tls = {{ ca = "ca.crt" }}
identity_tls = {{ ca = "ca.crt" }}
proxy = {{ url = "http://{address}", username = "user", password = {{ file = "egress" }} }}
username = "canary-user"
password = {{ file = "password" }}
[upstream.direct]
url = "{platform}"
tls = {{ ca = "ca.crt" }}
[route.direct]
path = "/"
upstream = "direct"
attach = "identity"
[route.license]
path = "/license"
upstream = "license"
attach = "license"
[route.platform]
path = "/other"
upstream = "platform"
attach = "platform"
"#
    ));
    proxy.ready();
    assert_eq!(proxy.get(TARGET, &[]).status, 200);
    let behind = [platform, identity].map(|url| url.replace("https://", ""));
    assert_eq!(targets(&asked), BTreeSet::from(behind));
    world.end(proxy);
}

/// The table of an upstream that only a proxy leads to.
const FAR: &str = "listener.local = { address = '127.0.0.1:0' }\n\
     [upstream.far]\nurl = 'https://far.example.com'\n[route.far]\npath = '/'\nupstream = 'far'\n";

#[test]
fn a_variable_that_is_not_understood_is_not_passed_over() {
    let world = World::new();
    world.write("proxy.toml", &world.config("", FAR));
    for (name, value, said) in [
        ("ALL_PROXY", "socks://127.0.0.1:9", "not supported"),
        (
            "all_proxy",
            "garbage canary-value",
            "not the URL of a proxy",
        ),
        (
            "HTTPS_PROXY",
            "http://127.0.0.1:99999",
            "not the URL of a proxy",
        ),
        ("https_proxy", "http://user:canary pw@127.0.0.1:9", "%20"),
        ("HTTPS_PROXY", "http://user:aa@canary/bb@127.0.0.1:9", "%2F"),
        ("HTTPS_PROXY", "http://user:canary@pw@127.0.0.1:9", "%40"),
    ] {
        for subcommand in ["serve", "check", "doctor"] {
            let mut command = command(&[subcommand, "--config", "proxy.toml"], world.folder.path());
            command.env(name, value);
            let (code, out, told) = run_to_end(command, "");
            assert_eq!(code, 78, "{subcommand} {name}={value}: {told}");
            assert!(told.contains(name) && told.contains(said), "{told}");
            assert!(told.contains("upstream far"), "{told}");
            let all = format!("{out}{told}");
            assert!(
                !all.contains("canary") && !all.contains("127.0.0.1:9"),
                "{all}"
            );
        }
        // Where nothing goes by it, it is somebody else's.
        let mut command = command(&["check", "--config", "proxy.toml"], world.folder.path());
        command.env(name, value).env("NO_PROXY", "example.com");
        assert_eq!(run_to_end(command, "").0, 0);
    }
}

#[test]
fn an_answer_to_connect_that_opens_nothing_is_told_at_once() {
    let world = World::new();
    let address = scripted(|stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        // It keeps the connection.
        let _ = stream.read(&mut [0]);
    });
    let tables = format!(
        "listener.local = {{ address = '127.0.0.1:0' }}\n\
         [upstream.far]\nurl = 'https://far.example.com'\nproxy = 'http://{address}'\nconnect_timeout = '25s'\n\
         [route.far]\npath = '/'\nupstream = 'far'\n"
    );
    let proxy = world.start(&tables);
    let began = Instant::now();
    let told = proxy.get("/", &[]);
    assert_eq!((told.status, &*told.code()), (502, "upstream_unreachable"));
    assert!(began.elapsed() < Duration::from_secs(20));
    eventually("the reason is logged", || {
        let told = "the proxy answered 204 No Content to CONNECT";
        proxy.printed().contains(told).then_some(())
    });
    world.end(proxy);
}

#[test]
fn each_step_of_a_login_goes_its_own_way() {
    let world = World::new();
    let (address, asked) = egress();
    world.write("egress", LOGIN);
    let platform = world.simulator.platform_url();
    let first = platform.replace("127.0.0.1", "localhost");
    let proxy = world.start(&format!(
        r#"
listener.local = {{ address = "127.0.0.1:0" }}
[credential.own.steps]
upstream = ["platform"]
inputs = {{ user = "canary-user", password = {{ file = "password" }} }}
[[credential.own.steps.step]]
url = "{first}/idprovider/v1/auth/identitytoken"
tls = {{ ca = "ca.crt" }}
proxy = {{ url = "http://{address}", username = "user", password = {{ file = "egress" }} }}
form = {{ grant_type = "password", username = "{{user}}", password = "{{password}}", scope = "openid" }}
take = {{ iam = "access_token" }}
[[credential.own.steps.step]]
url = "{platform}/v1/preauth/validateAuth"
tls = {{ ca = "ca.crt" }}
headers = {{ username = "{{user}}", iam-token = "{{iam}}" }}
[route.own]
path = "/"
upstream = "platform"
attach = "own"
[route.platform]
path = "/idle"
upstream = "platform"
attach = "platform"
[route.license]
path = "/license"
upstream = "license"
attach = "license"
"#
    ));
    proxy.ready();
    assert_eq!(proxy.get(TARGET, &[]).status, 200);
    let behind = first.replace("https://", "");
    assert_eq!(targets(&asked), BTreeSet::from([behind]));
    world.end(proxy);
}

#[test]
fn a_login_that_is_too_long_for_socks_is_told() {
    let world = World::new();
    let address = scripted(|_, _| ());
    let password = format!("canary{}", "p".repeat(240));
    world.write("egress", &password);
    let proxy = in_front_of(
        &world,
        address,
        &format!(
            "proxy = {{ url = 'socks5://{address}', username = 'service-user', password = {{ file = 'egress' }} }}"
        ),
        "",
    );
    assert_eq!(proxy.get("/", &[]).code(), "upstream_unreachable");
    eventually("the reason is logged", || {
        let told = "too long for SOCKS";
        proxy.printed().contains(told).then_some(())
    });
    assert_no_secret(&proxy.printed(), &[password]);
    world.end(proxy);
}
