//! What clients see when the token, its endpoint or its secret fails: as little as possible.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use simulator::{Garbage, Outage};

use crate::{
    client::{self, eventually, pause},
    proxy::World,
};

const SPECS: &str = "/ml/v1/foundation_model_specs?version=2025-02-01";

#[test]
fn short_tokens_are_renewed_before_a_request_notices() {
    let world = World::with(|options| options.token_lifetime = Duration::from_secs(10));
    let proxy = world.usual();
    proxy.ready();
    // So long that a request that waited for it would be seen in `overhead_seconds`.
    world.simulator.set_login_delay(Duration::from_millis(600));
    let enough = AtomicBool::new(false);
    let address = proxy.address();
    std::thread::scope(|scope| {
        let load: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut answered = 0;
                    while !enough.load(Ordering::Relaxed) {
                        let answer = client::get(address, SPECS, &[]);
                        assert_eq!(answer.status, 200, "after {answered}: {}", answer.text());
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        eventually("two renewals", || {
            (world.simulator.logins().authorize.granted >= 3).then_some(())
        });
        enough.store(true, Ordering::Relaxed);
        assert!(load.into_iter().all(|calls| calls.join().unwrap() > 0));
    });
    let overhead = "watsonx_auth_proxy_overhead_seconds";
    let quick = proxy.metric(&format!(
        "{overhead}_bucket{{le=\"0.5\",route=\"platform\"}}"
    ));
    let all = proxy.metric(&format!("{overhead}_count{{route=\"platform\"}}"));
    assert!(all > 0.0);
    // Each of them would have held up all four clients; a machine that stands still holds up a request of each worker.
    assert!(
        all - quick <= 3.0,
        "requests waited for a renewal: {quick} of {all} did not"
    );
    assert_eq!(
        proxy.metric("watsonx_auth_proxy_replays_total"),
        0.0,
        "an expired token was sent"
    );
    world.end(proxy);
}

#[test]
fn a_token_in_hand_outlives_an_outage_until_it_expires_and_no_longer() {
    for outage in [Outage::Unavailable, Outage::Closed] {
        let world = World::with(|options| options.token_lifetime = Duration::from_secs(5));
        let proxy = world.usual();
        proxy.ready();
        world.simulator.set_outage(Some(outage));
        let began = Instant::now();
        let mut answered = 0;
        let refused = loop {
            let answer = proxy.get(SPECS, &[]);
            match answer.status {
                200 => answered += 1,
                _ => break answer,
            }
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "an expired token is sent"
            );
        };
        assert!(answered > 0, "the token in hand was given up");
        assert_eq!(
            (refused.status, refused.code()),
            (503, "credential_unavailable".into())
        );
        assert!(
            refused
                .header("retry-after")
                .unwrap()
                .parse::<u64>()
                .unwrap()
                >= 1
        );
        assert!(
            refused
                .header("proxy-status")
                .unwrap()
                .contains("credential_unavailable")
        );
        assert!(
            world
                .got()
                .iter()
                .all(|request| request.header_values("authorization").len() == 1)
        );
        world.simulator.set_outage(None);
        eventually("healed", || {
            (proxy.get(SPECS, &[]).status == 200).then_some(())
        });
        world.end(proxy);
    }
}

#[test]
fn garbage_from_the_endpoint_is_no_token() {
    let world = World::new();
    for garbage in [
        Garbage::Html,
        Garbage::NoToken,
        Garbage::NullToken,
        Garbage::EmptyToken,
        Garbage::NumberToken,
        Garbage::TokenWithNewline,
    ] {
        world.simulator.set_garbage(Some(garbage));
        world.simulator.clear_requests();
        let proxy = world.usual();
        let answer = proxy.get(SPECS, &[]);
        assert_eq!(
            (answer.status, answer.code()),
            (503, "credential_unavailable".into()),
            "{garbage:?}"
        );
        assert!(world.got().is_empty(), "forwarded without a credential");
        world.end(proxy);
    }
}

#[test]
fn a_missing_secret_file_closes_its_route_only_and_heals() {
    let world = World::new();
    std::fs::remove_file(world.path("api-key")).unwrap();
    let proxy = world.usual();
    eventually("the license route", || {
        (proxy.get("/license/products", &[]).status == 200).then_some(())
    });
    let answer = proxy.get(SPECS, &[]);
    assert_eq!(
        (answer.status, answer.code()),
        (503, "credential_unavailable".into())
    );
    assert_eq!(world.simulator.logins().authorize.attempts, 0);
    world.write("api-key", &format!("{}\n", world.simulator.api_key()));
    eventually("healed", || {
        (proxy.get(SPECS, &[]).status == 200).then_some(())
    });
    world.end(proxy);
}

#[test]
fn a_wrong_key_is_tried_once_whatever_the_traffic_and_a_corrected_one_at_once() {
    let world = World::new();
    world.write("api-key", "canary-wrong-key");
    let proxy = world.usual();
    for _ in 0..20 {
        let answer = proxy.get(SPECS, &[]);
        assert_eq!(
            (answer.status, answer.code()),
            (503, "credential_unavailable".into()),
            "never the client's 401"
        );
    }
    assert_eq!(world.simulator.logins().authorize.attempts, 1);
    world.write("api-key", &world.simulator.api_key());
    eventually("healed", || {
        (proxy.get(SPECS, &[]).status == 200).then_some(())
    });
    assert_eq!(world.simulator.logins().authorize.attempts, 2);
    world.end(proxy);
}

#[test]
fn a_revoked_token_is_replaced_after_the_first_401() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    // A rejection counts only once the token has been in force for a moment.
    pause(Duration::from_millis(200));
    world.simulator.revoke_all();
    let first = proxy.get(SPECS, &[]);
    assert!(matches!(first.status, 200 | 401), "{}", first.status);
    eventually("a new token", || {
        (proxy.get(SPECS, &[]).status == 200).then_some(())
    });
    assert_eq!(world.simulator.logins().authorize.granted, 2);
    world.end(proxy);
}

#[test]
fn three_hundred_requests_on_a_cold_start_cost_one_login() {
    let world = World::new();
    world.simulator.set_login_delay(Duration::from_millis(500));
    let proxy = world.usual();
    let address = proxy.address();
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..300)
            .map(|_| scope.spawn(|| client::get(address, SPECS, &[]).status))
            .collect();
        assert!(
            asking
                .into_iter()
                .all(|status| status.join().unwrap() == 200)
        );
    });
    assert_eq!(world.simulator.logins().authorize.attempts, 1);
    world.end(proxy);
}

#[test]
fn an_endpoint_that_is_down_is_asked_about_a_dozen_times_in_15_s_and_healed_within_a_minute() {
    let world = World::with(|options| options.token_lifetime = Duration::from_secs(5));
    let proxy = world.usual();
    proxy.ready();
    let before = world.simulator.logins().authorize.attempts;
    world.simulator.set_outage(Some(Outage::Unavailable));
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(15) {
        let answer = proxy.get(SPECS, &[]);
        assert!(matches!(answer.status, 200 | 503), "{}", answer.status);
        pause(Duration::from_millis(50));
    }
    let attempts = world.simulator.logins().authorize.attempts - before;
    assert!((2..=13).contains(&attempts), "{attempts}");
    world.simulator.set_outage(None);
    let back = Instant::now();
    while proxy.get(SPECS, &[]).status != 200 {
        // The longest pause between two attempts, and what they take.
        assert!(back.elapsed() < Duration::from_secs(75));
        pause(Duration::from_millis(100));
    }
    world.end(proxy);
}
