//! Readiness names what is missing, metrics count what happened, and only this machine may ask.

use std::io::Write as _;

use simulator::Outage;

use crate::{
    client::{self, eventually},
    proxy::{USUAL_ROUTES, World},
};

#[test]
fn readiness() {
    let world = World::new();
    world.simulator.set_outage(Some(Outage::Unavailable));
    std::fs::remove_file(world.path("license-token")).unwrap();
    let proxy = world.usual();
    assert_eq!(proxy.admin("/livez").status, 200);
    // Tried, but no route can be served.
    let answer = eventually("tried", || {
        Some(proxy.admin("/readyz")).filter(|answer| !answer.text().contains("not tried"))
    });
    assert_eq!(answer.status, 503);
    assert!(
        answer.text().contains("route license") && answer.text().contains("route platform"),
        "{}",
        answer.text()
    );
    // One route can be served: ready, but not for those who require all.
    world.write("license-token", &world.simulator.license_token());
    eventually("ready", || {
        (proxy.admin("/readyz").status == 200).then_some(())
    });
    let strict = proxy.admin("/readyz?require=all");
    assert_eq!(strict.status, 503);
    assert!(
        strict.text().contains("credential platform"),
        "{}",
        strict.text()
    );
    assert_eq!(proxy.admin("/readyz?require=platform").status, 503);
    assert_eq!(proxy.admin("/readyz?require=license").status, 200);
    assert_eq!(proxy.admin("/readyz?require=nobody").status, 503);
    world.simulator.set_outage(None);
    proxy.ready();
    world.end(proxy);
}

#[test]
fn metrics() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    for _ in 0..3 {
        proxy.get("/ml/v1/foundation_model_specs?version=2025-02-01", &[]);
    }
    proxy.send("BREW", "/simulator/status/200", &[], b"");
    proxy.get("/nothing", &["Host: evil.example"]);
    let page = proxy.admin("/metrics");
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    let has = |line: &str| {
        assert!(
            page.text().contains(line),
            "{line} is not in\n{}",
            page.text()
        )
    };
    has(
        "watsonx_auth_proxy_requests_total{route=\"platform\",method=\"GET\",status=\"200\",caller=\"\"} 3",
    );
    has("watsonx_auth_proxy_requests_total{route=\"platform\",method=\"other\",status=");
    has("watsonx_auth_proxy_faults_total{route=\"none\",code=\"caller_not_allowed\"} 1");
    has("watsonx_auth_proxy_request_duration_seconds_bucket{le=\"+Inf\",route=\"platform\"} 4");
    has("watsonx_auth_proxy_overhead_seconds_count{route=\"platform\"} 4");
    has("watsonx_auth_proxy_requests_in_flight{route=\"platform\"} 0");
    has("watsonx_auth_proxy_credential_exchanges_total{credential=\"platform\",outcome=\"ok\"} 1");
    has("watsonx_auth_proxy_credential_expiry_timestamp_seconds{credential=\"platform\"} ");
    has("watsonx_auth_proxy_connections{listener=\"local\"}");
    has("watsonx_auth_proxy_upstream_connections_opened_total{upstream=\"platform\"}");
    has("watsonx_auth_proxy_build_info{version=\"");
    assert!(page.text().ends_with("# EOF\n"));
    world.end(proxy);
}

#[test]
fn who_says_nothing_keeps_nobody_from_asking() {
    let world = World::new();
    let proxy = world.start(USUAL_ROUTES);
    let mut asking = client::connect(proxy.admin);
    let ask = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    asking.write_all(ask).unwrap();
    assert_eq!(client::read_one(&mut asking).status, 200);
    let mut silent: Vec<_> = (0..300).map(|_| client::connect(proxy.admin)).collect();
    assert_eq!(proxy.admin("/livez").status, 200);
    // The oldest have been closed for the others, and not who asks.
    assert!(client::is_closed(&mut silent[0]));
    asking.write_all(ask).unwrap();
    assert_eq!(client::read_one(&mut asking).status, 200);
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", proxy.id())).unwrap();
    assert!(descriptors.count() < 200);
    world.end(proxy);
}

#[test]
fn only_this_machine_may_ask_but_probes_may_come_by_any_name() {
    let world = World::new();
    let probes = "admin.probes = '127.0.0.1:0'\n";
    let proxy = world.start_with(&world.config(probes, USUAL_ROUTES));
    let evil = &["Host: evil.example"][..];
    assert_eq!(client::get(proxy.admin, "/metrics", evil).status, 403);
    let probes = eventually("the probes' address", || {
        let printed = proxy.printed();
        let line = printed
            .lines()
            .find(|line| line.contains("\"probes_only\":true"))?;
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line["at"].as_str()?.parse().ok()
    });
    assert_eq!(client::get(probes, "/livez", evil).status, 200);
    assert_eq!(client::get(probes, "/metrics", evil).status, 200);
    assert_eq!(client::get(probes, "/status", evil).status, 404);
    assert_eq!(client::send(probes, "POST", "/livez", &[], b"").status, 405);
    world.end(proxy);
}
