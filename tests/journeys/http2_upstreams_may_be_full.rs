//! An HTTP/2 upstream that takes no request for a moment, or no connection, is waited for or given up, and never connected to
//! again and again.

use std::{
    io::{Read, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    client,
    proxy::{Proxy, World},
    scripted::in_front_of,
    streams::{ok, pause, respond, upstream},
};

const HTTP2: &str = "protocol = 'http2'\nfirst_byte_timeout = '2s'";

const OPENED: &str = "watsonx_auth_proxy_upstream_connections_opened_total{upstream=\"odd\"}";

/// SETTINGS without any.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// SETTINGS that let nobody open a stream.
const NO_STREAMS: [u8; 15] = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0];

/// GOAWAY that says that nothing was processed.
const GO_AWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Says that it goes away as soon as somebody comes.
fn send_away(mut stream: TcpStream) {
    let _ = stream.write_all(&[&SETTINGS[..], &GO_AWAY].concat());
    // What is on its way is read, so that nothing is lost to a reset.
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Does with each connection, by its number, what `treat` says.
fn listening(treat: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let treat = Arc::new(treat);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (stream, treat) = (stream.unwrap(), Arc::clone(&treat));
            thread::spawn(move || treat(number, stream));
        }
    });
    address
}

/// Copies from one to the other until `stops`.
fn copy(mut from: TcpStream, mut to: TcpStream, stops: impl Fn() -> bool) {
    let mut piece = [0; 16 << 10];
    while let Ok(size) = from.read(&mut piece) {
        if size == 0 || stops() || to.write_all(&piece[..size]).is_err() {
            return;
        }
    }
}

fn assert_few_opened(proxy: &Proxy, most: f64) {
    let opened = proxy.metric(OPENED);
    assert!(opened < most + 0.5, "{opened} connections");
}

#[test]
fn one_without_room_from_the_start_is_waited_for() {
    let world = World::new();
    let none: u32 = 0;
    let address = upstream(none, |_, _, mut answer| {
        Box::pin(async move { respond(&mut answer, ok(), "not for you") })
    });
    let proxy = in_front_of(&world, address, HTTP2, "");
    for _ in 0..2 {
        let answer = proxy.get("/", &[]);
        assert_eq!((answer.status, &*answer.code()), (504, "upstream_timeout"));
    }
    assert_few_opened(&proxy, 4.0);
    world.end(proxy);
}

#[test]
fn one_that_ends_each_connection_at_once_is_given_up() {
    let world = World::new();
    let address = listening(|_, stream| send_away(stream));
    let proxy = in_front_of(&world, address, HTTP2, "");
    for _ in 0..10 {
        let answer = proxy.get("/", &[]);
        assert_eq!((answer.status, &*answer.code()), (502, "upstream_protocol"));
    }
    assert_few_opened(&proxy, 100.0);
    world.end(proxy);
}

#[test]
fn one_that_takes_no_second_connection_is_given_up_while_the_first_is_busy() {
    let world = World::new();
    let inner = upstream(1, |_, _, mut answer| {
        Box::pin(async move {
            pause(Duration::from_secs(60)).await;
            respond(&mut answer, ok(), "late");
        })
    });
    let address = listening(move |number, stream| match number {
        0 => {
            let far = TcpStream::connect(inner).unwrap();
            let (back, there) = (far.try_clone().unwrap(), stream.try_clone().unwrap());
            thread::spawn(move || copy(back, there, || false));
            copy(stream, far, || false);
        }
        _ => send_away(stream),
    });
    let keys = "protocol = 'http2'\nfirst_byte_timeout = '60s'";
    let proxy = in_front_of(&world, address, keys, "");
    let mut busy = client::connect(proxy.address());
    busy.write_all(&client::request("GET", "/", &[], b""))
        .unwrap();
    client::eventually("the first connection", || {
        (proxy.metric(OPENED) > 0.5).then_some(())
    });
    for _ in 0..5 {
        let answer = proxy.get("/", &[]);
        assert_eq!((answer.status, &*answer.code()), (502, "upstream_protocol"));
    }
    assert_few_opened(&proxy, 51.0);
    drop(busy);
    world.end(proxy);
}

#[test]
fn a_connection_that_takes_no_more_streams_does_not_keep_others_from_a_new_one() {
    let world = World::new();
    let inner = upstream(100, |_, _, mut answer| {
        Box::pin(async move { respond(&mut answer, ok(), "ok") })
    });
    let (is_closed, is_known) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let (closed, known) = (Arc::clone(&is_closed), Arc::clone(&is_known));
    let address = listening(move |number, stream| {
        let far = TcpStream::connect(inner).unwrap();
        let (back, mut there) = (far.try_clone().unwrap(), stream.try_clone().unwrap());
        let to_client = there.try_clone().unwrap();
        thread::spawn(move || copy(back, to_client, || false));
        if number == 0 {
            let closing = Arc::clone(&closed);
            thread::spawn(move || {
                while !closing.load(Ordering::Relaxed) {
                    client::pause(Duration::from_millis(20));
                }
                let _ = there.write_all(&NO_STREAMS);
            });
        }
        let (closed, known) = (Arc::clone(&closed), Arc::clone(&known));
        // What comes next is the acknowledgement.
        copy(stream, far, move || {
            let stops = number == 0 && closed.load(Ordering::Relaxed);
            known.fetch_or(stops, Ordering::Relaxed);
            stops
        });
        // It stays open, and nobody listens any more.
        client::pause(Duration::from_secs(60));
    });
    let proxy = in_front_of(&world, address, HTTP2, "");
    assert_eq!(proxy.get("/", &[]).text(), "ok");
    // So that the connection is not one that was opened just now.
    client::pause(Duration::from_millis(1500));
    is_closed.store(true, Ordering::Relaxed);
    client::eventually("the acknowledgement", || {
        is_known.load(Ordering::Relaxed).then_some(())
    });
    for _ in 0..3 {
        assert_eq!(proxy.get("/", &[]).text(), "ok");
    }
    assert_few_opened(&proxy, 2.0);
    world.end(proxy);
}
