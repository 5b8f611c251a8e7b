//! A request that goes out once more after a 401 has the same body, whole, or does not go out.

use std::{
    io::{Read as _, Write as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    choosy::{Choosy, logged_in, logged_in_before, pass_freshness, short_lived, sized_body},
    client::{self, connect, eventually, pause, read_one},
    proxy::World,
    scripted::{head, scripted},
};

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
    for (sent_before, size) in [(10, 100), (0, 5000)] {
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
        pass_freshness();
        let body: Vec<u8> = (0..size).map(|at| b'a' + (at % 26) as u8).collect();
        let mut stream = connect(proxy.address());
        let head = format!("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body[..sent_before]).unwrap();
        eventually("the second sending", || {
            (choosy.requests() == 2).then_some(())
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
        world.end(proxy);
    }
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

#[test]
fn an_idempotent_one_whose_connection_was_closed_before_an_answer() {
    let world = World::new();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    // Each connection answers one request; the next one it takes whole, and closes.
    let address = scripted(move |stream, first| {
        let note = |stream: &mut _, head: &str| {
            let body = sized_body(stream, head);
            let line = head.lines().next().unwrap();
            let body = String::from_utf8(body).unwrap();
            seen.lock().unwrap().push(format!("{line} {body}"));
        };
        note(stream, &first);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ntaken")
            .unwrap();
        if let Some(second) = head(stream) {
            note(stream, &second);
        }
    });
    let proxy = logged_in_before(&world, address, "replay_limit = '1KiB'");
    let mut sent = 0;
    let mut send = |method: &str, size: usize| {
        sent += 1;
        let body = format!("{sent}").repeat(size);
        let answer = proxy.send(method, "/x", &[], body.as_bytes());
        let came = std::mem::take(&mut *asked.lock().unwrap());
        let expected = format!("{method} /x HTTP/1.1 {body}");
        assert!(came.iter().all(|one| *one == expected), "{came:?}");
        (answer.status, came.len())
    };
    assert_eq!(send("PUT", 10), (200, 1));
    assert_eq!(send("PUT", 10), (200, 2));
    assert_eq!(send("DELETE", 1024), (200, 2));
    assert_eq!(send("PUT", 1025), (502, 1), "not kept");
    assert_eq!(send("PUT", 1025), (200, 1), "on a new connection");
    assert_eq!(send("POST", 10), (502, 1), "may mean something else twice");
    world.end(proxy);
}
