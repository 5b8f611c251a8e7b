//! Requests, logins and `doctor` go through the egress proxy that the configuration or the environment names.

use std::{
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

#[test]
fn socks() {
    let world = World::new();
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut greeting = [0; 3];
                    stream.read_exact(&mut greeting).unwrap();
                    assert_eq!(greeting, [5, 1, 0]);
                    stream.write_all(&[5, 0]).unwrap();
                    let mut head = [0; 4];
                    stream.read_exact(&mut head).unwrap();
                    assert_eq!(head, [5, 1, 0, 1], "an address of four bytes");
                    let mut to = [0; 6];
                    stream.read_exact(&mut to).unwrap();
                    let port = u16::from_be_bytes([to[4], to[5]]);
                    let server =
                        TcpStream::connect(SocketAddr::from(([to[0], to[1], to[2], to[3]], port)))
                            .unwrap();
                    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
                    join(stream, server);
                });
            }
        });
        address
    };
    let proxy = world.start_with(&through(&world, &format!("\"socks5://{address}\"")));
    proxy.ready();
    assert_eq!(proxy.get(TARGET, &[]).status, 200);
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
