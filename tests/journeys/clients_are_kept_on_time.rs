//! Idle connections are parked and lose nothing by it; slow clients are closed and disturb nobody.

use std::{io::Write as _, time::Duration};

use tokio::time::Instant;

use crate::{
    client::{self, pause, read_one},
    proxy::World,
    scripted::{in_front_of, scripted},
};

/// A listener whose time-outs are short.
const HASTY: &str = r#"
listener.local = { address = "127.0.0.1:0", head_timeout = "1s", keep_alive = "3s", stall_timeout = "1s" }
[route.platform]
path = "/"
upstream = "platform"
attach = "platform"
"#;

#[test]
fn a_parked_connection_answers_whole_split_and_pipelined_requests() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    let request = b"GET /simulator/status/204x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let request = &request[..];
    // Around the second after which a connection is parked, on either side of it.
    std::thread::scope(|scope| {
        for client in 0..24_u64 {
            let proxy = &proxy;
            scope.spawn(move || {
                let mut stream = client::connect(proxy.address());
                for round in 0..4_u64 {
                    pause(Duration::from_millis(
                        900 + (client * 37 + round * 101) % 500,
                    ));
                    match (client + round) % 3 {
                        0 => stream.write_all(request).unwrap(),
                        1 => {
                            stream.write_all(&request[..20]).unwrap();
                            pause(Duration::from_millis(1000 + client * 31));
                            stream.write_all(&request[20..]).unwrap();
                        }
                        _ => {
                            // One and a half: the half waits in the buffer of a connection that goes quiet.
                            stream
                                .write_all(&[request, &request[..30]].concat())
                                .unwrap();
                            read_one(&mut stream);
                            pause(Duration::from_millis(1000 + client * 31));
                            stream.write_all(&request[30..]).unwrap();
                        }
                    }
                    let answer = read_one(&mut stream);
                    assert!(answer.head.starts_with("HTTP/1.1 "), "{client} {round}");
                }
            });
        }
    });
    world.end(proxy);
}

#[test]
fn slow_heads_idle_and_stalled_clients_are_closed() {
    let world = World::new();
    let proxy = world.start(HASTY);
    proxy.ready();
    let closed_after = |began: Instant, stream: &mut std::net::TcpStream| {
        assert!(client::is_closed(stream));
        began.elapsed()
    };
    let between = |shortest: u64, took: Duration, what: &str| {
        let bounds = Duration::from_millis(shortest)..Duration::from_secs(20);
        assert!(bounds.contains(&took), "{what}: {took:?}");
    };

    let began = Instant::now();
    let mut slow_head = client::connect(proxy.address());
    slow_head.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    between(
        900,
        closed_after(began, &mut slow_head),
        "a head that does not end",
    );

    let mut idle = client::connect(proxy.address());
    let began = Instant::now();
    idle.write_all(b"GET /simulator/status/200 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    read_one(&mut idle);
    between(
        2900,
        closed_after(began, &mut idle),
        "a connection that is idle",
    );

    let began = Instant::now();
    let mut silent = client::connect(proxy.address());
    between(
        1900,
        closed_after(began, &mut silent),
        "a connection that never says anything",
    );

    let mut stalled = client::connect(proxy.address());
    let began = Instant::now();
    stalled
        .write_all(
            b"POST /simulator/mirror HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc",
        )
        .unwrap();
    while matches!(std::io::Read::read(&mut stalled, &mut [0; 4096]), Ok(size) if size > 0) {}
    between(900, began.elapsed(), "a body that does not go on");
    world.end(proxy);
}

#[test]
fn a_slow_answer_is_no_slow_client() {
    let world = World::new();
    let proxy = world.start(HASTY);
    proxy.ready();
    // Longer than each of the listener's time-outs.
    assert_eq!(proxy.get("/simulator/slow?ms=4500", &[]).status, 200);
    world.end(proxy);
}

#[test]
fn a_client_that_goes_away_ends_the_upstream_request() {
    let world = World::with(|options| options.frame_interval = Duration::from_millis(500));
    let proxy = world.usual();
    proxy.ready();
    let body = br#"{"model_id":"ibm/granite-3-3-8b-instruct","project_id":"3fd2a3b0-8a5c-4b8e-9d5f-0c2f6e1a7b11","messages":[{"role":"user","content":"one two three four five six seven"}]}"#;
    let mut stream = client::connect(proxy.address());
    stream
        .write_all(&client::request(
            "POST",
            "/ml/v1/text/chat_stream?version=2025-02-01",
            &["Content-Type: application/json"],
            body,
        ))
        .unwrap();
    client::read_some(&mut stream);
    drop(stream);
    client::eventually("the request to be gone", || {
        (proxy.metric("watsonx_auth_proxy_faults_total{route=\"platform\",code=\"client_gone\"}")
            >= 1.0)
            .then_some(())
    });
    assert!(proxy.metric("watsonx_auth_proxy_requests_in_flight{route=\"platform\"}") < 1.0);
    world.end(proxy);
}

#[test]
fn an_idle_connection_costs_next_to_nothing() {
    const COUNT: usize = 1000;
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    let open = || {
        let mut stream = client::connect(proxy.address());
        stream
            .write_all(b"GET /simulator/status/200 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        read_one(&mut stream);
        stream
    };
    drop(open());
    let before = proxy.resident();
    let connections: Vec<_> = (0..COUNT).map(|_| open()).collect();
    // An active one costs above 20 KiB, and a parked one 1.5 KiB; what else the process took meanwhile is in it too.
    client::eventually("parked connections", || {
        let grown = proxy.resident().saturating_sub(before);
        (grown < COUNT * (3 << 10)).then_some(())
    });
    assert_eq!(connections.len(), COUNT);
    // They are given back only when all of what is in them is.
    assert_eq!(proxy.in_huge_pages(), 0);
    world.end(proxy);
}

#[test]
fn slow_clients_in_numbers_end_on_time_and_keep_nobody_out() {
    let world = World::new();
    let proxy = world.start(HASTY);
    proxy.ready();
    let starts: [&[u8]; 3] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        b"POST /simulator/mirror HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nslow",
        b"POST /simulator/mirror HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4;slow",
    ];
    let mut slow: Vec<_> = (0..300).map(|_| client::connect(proxy.address())).collect();
    for (stream, start) in slow.iter_mut().zip(starts.iter().cycle()) {
        stream.write_all(start).unwrap();
    }
    assert_eq!(proxy.get("/simulator/status/200", &[]).status, 200);
    for mut stream in slow {
        // Whatever comes, the end comes; a read waits no longer than the test's patience.
        let mut rest = Vec::new();
        match std::io::Read::read_to_end(&mut stream, &mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    assert_eq!(proxy.get("/simulator/status/200", &[]).status, 200);
    world.end(proxy);
}

#[test]
fn a_client_that_never_reads_is_closed() {
    let world = World::new();
    let (ended, has_ended) = std::sync::mpsc::channel();
    let ended = std::sync::Mutex::new(ended);
    let address = scripted(move |stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let piece = [b"10000\r\n".as_slice(), &[b'x'; 1 << 16], b"\r\n"].concat();
        while stream.write_all(&piece).is_ok() {}
        ended.lock().unwrap().send(()).unwrap();
    });
    let proxy = in_front_of(&world, address, "", "stall_timeout = '1s'");
    let mut stream = client::connect(proxy.address());
    stream
        .write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    has_ended
        .recv_timeout(client::PATIENCE)
        .expect("the upstream's end");
    drop(stream);
    world.end(proxy);
}
