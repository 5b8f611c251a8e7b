//! A 401 for a token that can be replaced never reaches a client: the request goes out once more with another.

use std::{
    io::{Read as _, Write as _},
    thread,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    choosy::{Choosy, logged_in_before, pass_freshness, replays, short_lived},
    client::{self, Answer, connect, eventually, pause},
    proxy::World,
    scripted::{self, scripted},
    websocket,
};

const SPECS: &str = "/ml/v1/foundation_model_specs?version=2025-02-01";
const CHAT: &str = "/ml/v1/text/tokenization?version=2025-02-01";
const QUESTION: &[u8] =
    br#"{"model_id":"ibm/granite-3-3-8b-instruct","project_id":"3fd2a3b0-8a5c-4b8e-9d5f-0c2f6e1a7b11","input":"Hello"}"#;

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
    let began = Instant::now();
    // The next 401 would count after 20 s.
    while began.elapsed() < Duration::from_secs(6) {
        assert_eq!(proxy.get("/simulator/status/401", &[]).status, 401);
        assert_eq!(proxy.get(SPECS, &[]).status, 200);
        pause(Duration::from_millis(20));
    }
    assert_eq!(replays(&proxy, "rejected_again"), 1.0);
    // One login at start, one for the rejection, and one renewal in time if the machine is slow.
    assert!(world.simulator.logins().authorize.attempts <= 3);
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
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(proxy.get("/x", &[]).status, 401);
    }
    // The pauses between attempts go on.
    let usual = 2 + began.elapsed().as_secs();
    assert!(world.simulator.logins().authorize.attempts <= attempts + usual);
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
    world.simulator.set_login_delay(Duration::from_secs(4));
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
