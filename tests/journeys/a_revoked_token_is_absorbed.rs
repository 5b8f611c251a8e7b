//! A 401 for a token that can be replaced never reaches a client: the request goes out once more with another.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    client::{self, Answer, connect, eventually, pause, read_one},
    proxy::{Proxy, World},
    scripted::{self, scripted},
    websocket,
};

const SPECS: &str = "/ml/v1/foundation_model_specs?version=2025-02-01";
const CHAT: &str = "/ml/v1/text/tokenization?version=2025-02-01";
const QUESTION: &[u8] =
    br#"{"model_id":"ibm/granite-3-3-8b-instruct","project_id":"3fd2a3b0-8a5c-4b8e-9d5f-0c2f6e1a7b11","input":"Hello"}"#;

/// Tokens of 20 s: a 401 counts once they are 4 s old, and they are renewed after 14 s at the earliest.
const LIFETIME: Duration = Duration::from_secs(20);

fn pass_freshness() {
    pause(LIFETIME / 5);
}

fn short_lived() -> World {
    World::with(|options| options.token_lifetime = LIFETIME)
}

fn replays(proxy: &Proxy, outcome: &str) -> f64 {
    let name = "watsonx_auth_proxy_replays_total";
    let lines = proxy.admin("/metrics").text();
    let ours = |line: &&str| line.starts_with(name) && line.contains(&format!("\"{outcome}\""));
    let counts = lines.lines().filter(ours);
    counts
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

#[test]
fn a_hundred_concurrent_posts_on_a_revoked_token_cost_one_login() {
    let world = short_lived();
    let proxy = world.usual();
    proxy.ready();
    pass_freshness();
    world.simulator.revoke_all();
    world.simulator.set_login_delay(Duration::from_millis(500));
    let address = proxy.address();
    let answers: Vec<Answer> = thread::scope(|scope| {
        let asking: Vec<_> = (0..100)
            .map(|_| {
                let json = &["Content-Type: application/json"];
                scope.spawn(move || client::send(address, "POST", CHAT, json, QUESTION))
            })
            .collect();
        asking
            .into_iter()
            .map(|answer| answer.join().unwrap())
            .collect()
    });
    for answer in &answers {
        assert_eq!(answer.status, 200, "{} {}", answer.head, answer.text());
    }
    assert_eq!(world.simulator.logins().authorize.attempts, 2);
    let replayed: Vec<_> = answers
        .iter()
        .filter_map(|answer| answer.header("proxy-status"))
        .collect();
    assert!(!replayed.is_empty());
    for status in &replayed {
        assert_eq!(
            *status,
            "watsonx-auth-proxy; received-status=401; details=\"helped\""
        );
    }
    assert_eq!(replays(&proxy, "helped"), replayed.len() as f64);
    let posts = world
        .got()
        .into_iter()
        .filter(|request| request.method == "POST");
    for post in posts {
        assert_eq!(post.body, QUESTION);
        assert_eq!(post.header_values("authorization").len(), 1);
    }
    world.end(proxy);
}

#[test]
fn a_401_on_a_fresh_token_is_the_upstreams_own() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    let answer = proxy.get("/simulator/status/401", &[]);
    assert_eq!(answer.status, 401);
    let status = "watsonx-auth-proxy; received-status=401; details=\"no_other_value\"";
    assert_eq!(answer.header("proxy-status"), Some(status));
    assert_eq!(
        (
            world.got().len(),
            world.simulator.logins().authorize.attempts
        ),
        (1, 1)
    );
    assert_eq!(replays(&proxy, "no_other_value"), 1.0);
    world.end(proxy);
}

#[test]
fn a_path_that_always_answers_401_causes_no_login_storm() {
    let world = short_lived();
    let proxy = world.usual();
    proxy.ready();
    pass_freshness();
    for _ in 0..200 {
        assert_eq!(proxy.get("/simulator/status/401", &[]).status, 401);
        assert_eq!(proxy.get(SPECS, &[]).status, 200);
        pause(Duration::from_millis(20));
    }
    assert_eq!(replays(&proxy, "rejected_again"), 1.0);
    // One login at start, one for the rejection, and one renewal in time if the machine is slow.
    assert!(world.simulator.logins().authorize.attempts <= 3);
    world.end(proxy);
}

/// A server that takes any token but the first that it saw, and notes what it got.
#[derive(Clone, Default)]
struct Choosy(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    refused: Option<String>,
    bodies: Vec<Vec<u8>>,
    heads: Vec<String>,
}

impl Choosy {
    /// Whether a request with this head is to be taken.
    fn takes(&self, head: &str) -> bool {
        let token = head
            .lines()
            .find_map(|line| line.strip_prefix("authorization: Bearer "))
            .expect("a token")
            .to_owned();
        let mut seen = self.0.lock().unwrap();
        seen.heads.push(head.to_owned());
        *seen.refused.get_or_insert_with(|| token.clone()) != token
    }

    fn note(&self, body: Vec<u8>) {
        self.0.lock().unwrap().bodies.push(body);
    }

    fn answer(&self, stream: &mut TcpStream, takes: bool) {
        let answer: &[u8] = match takes {
            true => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ntaken",
            false => b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 7\r\n\r\nrefused",
        };
        stream.write_all(answer).unwrap();
    }

    fn bodies(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().bodies.clone()
    }

    fn requests(&self) -> usize {
        self.0.lock().unwrap().heads.len()
    }
}

/// A proxy in front of one plain server, with a login at the simulator and these keys of the route.
fn logged_in_before(world: &World, address: SocketAddr, route: &str) -> Proxy {
    let proxy = world.start_with(&logged_in(world, address, route));
    proxy.ready();
    proxy
}

fn logged_in(world: &World, address: SocketAddr, route: &str) -> String {
    format!(
        "workers = 1\nadmin = {{ address = '127.0.0.1:0' }}\n[listener.local]\naddress = '127.0.0.1:0'\n\
         [upstream.odd]\nurl = 'http://{address}'\nplain_http = true\n\
         [credential.odd.cp4d]\nurl = '{}'\ntls = {{ ca = 'ca.crt' }}\nupstream = 'odd'\n\
         username = 'canary-user'\napi_key = {{ file = 'api-key' }}\n\
         [route.odd]\npath = '/'\nupstream = 'odd'\nattach = 'odd'\n{route}\n",
        world.simulator.platform_url(),
    )
}

fn sized_body(stream: &mut TcpStream, head: &str) -> Vec<u8> {
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.expect("a length").parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    body
}

#[test]
fn a_streamed_body_is_sent_once_more_whole() {
    let world = short_lived();
    let choosy = Choosy::default();
    let server = choosy.clone();
    let address = scripted(move |stream, head| {
        let takes = server.takes(&head);
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        let mut body = Vec::new();
        while client::find(&body, b"\r\n0\r\n\r\n").is_none() {
            body.extend(client::read_some(stream));
        }
        server.note(body);
        server.answer(stream, takes);
    });
    let proxy = logged_in_before(&world, address, "");
    pass_freshness();
    let mut stream = connect(proxy.address());
    stream
        .write_all(
            b"PUT /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n",
        )
        .unwrap();
    pause(Duration::from_millis(200));
    stream.write_all(b"3\r\ntwo\r\n").unwrap();
    pause(Duration::from_millis(200));
    stream.write_all(b"0\r\n\r\n").unwrap();
    let answer = read_one(&mut stream);
    assert_eq!((answer.status, answer.text().as_str()), (200, "taken"));
    let bodies = choosy.bodies();
    assert_eq!(bodies[0], b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n");
    assert_eq!(bodies[1], b"6\r\nonetwo\r\n0\r\n\r\n");
    // The client's connection is in order.
    stream.write_all(b"PUT /y HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nend\r\n0\r\n\r\n").unwrap();
    assert_eq!(read_one(&mut stream).status, 200);
    world.end(proxy);
}

#[test]
fn a_401_before_the_body_has_come_is_absorbed_too() {
    let world = short_lived();
    let choosy = Choosy::default();
    let server = choosy.clone();
    let address = scripted(move |stream, head| {
        let takes = server.takes(&head);
        if takes {
            let body = sized_body(stream, &head);
            server.note(body);
        }
        server.answer(stream, takes);
        // The connection stays open, as if the rest of the body were welcome.
        pause(Duration::from_secs(2));
    });
    let proxy = logged_in_before(&world, address, "replay_limit = '1KiB'");
    for (sent_before, size) in [(10, 100), (0, 5000)] {
        pass_freshness();
        choosy.0.lock().unwrap().refused = None;
        let body: Vec<u8> = (0..size).map(|at| b'a' + (at % 26) as u8).collect();
        let before = choosy.requests();
        let mut stream = connect(proxy.address());
        let head = format!("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body[..sent_before]).unwrap();
        eventually("the second sending", || {
            (choosy.requests() == before + 2).then_some(())
        });
        pause(Duration::from_millis(500));
        stream.write_all(&body[sent_before..]).unwrap();
        let answer = read_one(&mut stream);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "taken"),
            "{size}"
        );
        assert_eq!(choosy.bodies().last(), Some(&body));
        // The wait between two rejections.
        pause(Duration::from_secs(7));
    }
    world.end(proxy);
}

#[test]
fn a_body_that_is_larger_than_what_is_kept_is_not_sent_once_more() {
    let world = short_lived();
    let choosy = Choosy::default();
    let server = choosy.clone();
    let address = scripted(move |stream, head| {
        let takes = server.takes(&head);
        server.note(sized_body(stream, &head));
        server.answer(stream, takes);
    });
    let proxy = logged_in_before(&world, address, "replay_limit = '1KiB'");
    pass_freshness();
    let large = vec![b'x'; 1025];
    let answer = proxy.send("POST", "/x", &[], &large);
    assert_eq!((answer.status, answer.text().as_str()), (401, "refused"));
    let status = "watsonx-auth-proxy; received-status=401; details=\"not_kept\"";
    assert_eq!(answer.header("proxy-status"), Some(status));
    assert_eq!(choosy.requests(), 1);
    // But those that follow have another token.
    eventually("another token", || {
        let answer = proxy.send("POST", "/x", &[], &large);
        (answer.status == 200).then_some(())
    });
    world.end(proxy);
}

#[test]
fn the_answer_to_the_second_sending_is_the_answer_whatever_it_is() {
    let world = short_lived();
    let choosy = Choosy::default();
    let server = choosy.clone();
    let address = scripted(move |stream, head| {
        server.takes(&head);
        server.note(Vec::new());
        match server.requests() {
            1 => server.answer(stream, false),
            2 => stream
                .write_all(b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n")
                .unwrap(),
            _ => {}
        }
    });
    let proxy = logged_in_before(&world, address, "");
    pass_freshness();
    assert_eq!(proxy.get("/x", &[]).status, 418);
    assert_eq!(choosy.requests(), 2);
    world.end(proxy);
}

#[test]
fn a_websocket_handshake_is_sent_once_more() {
    let world = short_lived();
    let choosy = Choosy::default();
    let server = choosy.clone();
    let address = scripted(move |stream, head| match server.takes(&head) {
        false => server.answer(stream, false),
        true => {
            stream.write_all(websocket::SWITCH).unwrap();
            let mut said = [0; 5];
            stream.read_exact(&mut said).unwrap();
            stream.write_all(&said).unwrap();
        }
    });
    let proxy = logged_in_before(&world, address, "");
    pass_freshness();
    let mut client = connect(proxy.address());
    let handshake = websocket::handshake("/chat", &[]);
    client
        .write_all(&[&handshake[..], b"early"].concat())
        .unwrap();
    let head = scripted::head(&mut client).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("details=\"helped\""), "{head}");
    let mut echoed = [0; 5];
    client.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"early");
    drop(client);
    assert_eq!(choosy.requests(), 2);
    assert_eq!(replays(&proxy, "helped"), 1.0);
    world.end(proxy);
}

#[test]
fn without_another_token_the_401_is_passed_on_whole() {
    let world = short_lived();
    let choosy = Choosy::default();
    let address = scripted(move |stream, head| {
        let takes = choosy.takes(&head);
        choosy.answer(stream, takes);
    });
    let proxy = logged_in_before(&world, address, "");
    pass_freshness();
    world
        .simulator
        .set_outage(Some(simulator::Outage::Unavailable));
    let answer = proxy.get("/x", &[]);
    assert_eq!((answer.status, answer.text().as_str()), (401, "refused"));
    let attempts = world.simulator.logins().authorize.attempts;
    for _ in 0..20 {
        assert_eq!(proxy.get("/x", &[]).status, 401);
    }
    assert!(world.simulator.logins().authorize.attempts <= attempts + 2);
    world.end(proxy);
}

#[test]
fn a_client_that_goes_away_meanwhile_is_not_served_any_more() {
    let world = short_lived();
    let choosy = Choosy::default();
    let server = choosy.clone();
    let address = scripted(move |stream, head| {
        let takes = server.takes(&head);
        server.answer(stream, takes);
    });
    let proxy = logged_in_before(&world, address, "");
    pass_freshness();
    world.simulator.set_login_delay(Duration::from_secs(2));
    let mut stream = connect(proxy.address());
    stream
        .write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    eventually("the 401", || (choosy.requests() == 1).then_some(()));
    drop(stream);
    eventually("the login", || {
        (world.simulator.logins().authorize.granted == 2).then_some(())
    });
    eventually("the end of the request", || {
        (proxy.metric("watsonx_auth_proxy_requests_in_flight{route=\"odd\"}") == 0.0).then_some(())
    });
    assert_eq!(choosy.requests(), 1);
    world.end(proxy);
}

#[test]
fn a_body_that_breaks_off_never_goes_out_once_more_as_a_whole_one() {
    let world = short_lived();
    let choosy = Choosy::default();
    let server = choosy.clone();
    let may_refuse = Arc::new(AtomicBool::new(false));
    let refuses = Arc::clone(&may_refuse);
    let address = scripted(move |stream, head| {
        if !server.takes(&head) {
            stream.read_exact(&mut [0; 907]).unwrap();
            while !refuses.load(Ordering::Relaxed) {
                pause(Duration::from_millis(5));
            }
            server.answer(stream, false);
            return pause(Duration::from_secs(3));
        }
        let mut body = Vec::new();
        let mut piece = [0; 4096];
        while client::find(&body, b"\r\n0\r\n\r\n").is_none() {
            match stream.read(&mut piece) {
                Ok(size) if size > 0 => body.extend(&piece[..size]),
                _ => return,
            }
        }
        server.note(body);
        server.answer(stream, true);
    });
    let proxy = logged_in_before(&world, address, "max_body = 1000");
    pass_freshness();
    let chunk = |size: usize| {
        [
            format!("{size:x}\r\n").into_bytes(),
            vec![b'x'; size],
            b"\r\n".to_vec(),
        ]
        .concat()
    };
    let start = || {
        let mut stream = connect(proxy.address());
        stream
            .write_all(b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap();
        stream.write_all(&chunk(900)).unwrap();
        stream
    };
    let mut clients = [start(), start(), start()];
    eventually("all heads", || (choosy.requests() == 3).then_some(()));
    pause(Duration::from_millis(300));
    // The end of the body and the 401 are there at the same moment.
    proxy.signal(Signal::STOP);
    clients[0].write_all(b"no size\r\n").unwrap();
    // More than max_body, and then some that would fit.
    clients[1].write_all(&chunk(500)).unwrap();
    clients[2].shutdown(std::net::Shutdown::Write).unwrap();
    pause(Duration::from_millis(100));
    may_refuse.store(true, Ordering::Relaxed);
    pause(Duration::from_millis(200));
    proxy.signal(Signal::CONT);
    pause(Duration::from_millis(200));
    let _ = clients[1].write_all(&[chunk(50), b"0\r\n\r\n".to_vec()].concat());
    for client in &mut clients {
        client
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(choosy.bodies(), Vec::<Vec<u8>>::new());
    world.end(proxy);
}

#[test]
fn a_client_is_not_cut_off_for_the_time_that_the_proxy_takes() {
    let world = short_lived();
    let choosy = Choosy::default();
    let address = scripted(move |stream, head| {
        let takes = choosy.takes(&head);
        if takes {
            sized_body(stream, &head);
        }
        choosy.answer(stream, takes);
        pause(Duration::from_secs(5));
    });
    let proxy = world.start_with(
        &logged_in(&world, address, "").replace("0'\n[up", "0'\nstall_timeout = '1s'\n[up"),
    );
    proxy.ready();
    pass_freshness();
    world.simulator.set_login_delay(Duration::from_secs(3));
    let mut stream = connect(proxy.address());
    stream
        .write_all(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nhe")
        .unwrap();
    pause(Duration::from_millis(500));
    stream.write_all(b"re").unwrap();
    assert_eq!(read_one(&mut stream).status, 200);
    world.end(proxy);
}
