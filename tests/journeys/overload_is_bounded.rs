//! Too much of something is told at once, or waited for, and passes.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::{
    client::{self, eventually, pause},
    proxy::{USUAL_ROUTES, World},
    scripted::scripted,
};

#[test]
fn max_in_flight_counts_over_all_workers() {
    let world = World::new();
    let barrier = Arc::new(Barrier::new(5));
    let gate = Arc::clone(&barrier);
    let address = scripted(move |stream, _| {
        gate.wait();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let tables = format!(
        "listener.local = {{ address = '127.0.0.1:0' }}\n\
         [upstream.slow]\nurl = 'http://{address}'\nplain_http = true\n\
         [route.slow]\npath = '/'\nupstream = 'slow'\nmax_in_flight = 4\n"
    );
    let proxy = world.start(&tables);
    let under_way: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = client::connect(proxy.address());
            stream
                .write_all(&client::request("GET", "/", &[], b""))
                .unwrap();
            stream
        })
        .collect();
    eventually("four under way", || {
        (proxy.metric("watsonx_auth_proxy_requests_in_flight{route=\"slow\"}") >= 4.0).then_some(())
    });
    // Whichever worker they come to.
    for _ in 0..8 {
        let refused = proxy.get("/", &[]);
        assert_eq!((refused.status, &*refused.code()), (503, "overloaded"));
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    barrier.wait();
    for mut stream in under_way {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(client::parse(&all).status, 200);
    }
    let again = thread::spawn({
        let address = proxy.address();
        move || {
            (0..4)
                .map(|_| thread::spawn(move || client::get(address, "/", &[]).status))
                .collect::<Vec<_>>()
        }
    });
    let again = again.join().unwrap();
    barrier.wait();
    assert!(again.into_iter().all(|one| one.join().unwrap() == 200));
    world.end(proxy);
}

fn processor_time(proxy: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{proxy}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn descriptors_run_out_and_come_back() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    assert_eq!(
        proxy
            .get("/ml/v1/foundation_model_specs?version=2025-02-01", &[])
            .status,
        200
    );
    let pid = proxy.id();
    let in_use = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count() as u64;
    let limit = Rlimit {
        current: Some(in_use + 8),
        maximum: Some(in_use + 8),
    };
    prlimit(Pid::from_raw(pid.cast_signed()), Resource::Nofile, limit).unwrap();
    let mut many: Vec<TcpStream> = (0..60).map(|_| client::connect(proxy.address())).collect();
    eventually("told", || {
        proxy.printed().contains("cannot accept").then_some(())
    });
    let began = processor_time(pid);
    pause(Duration::from_secs(2));
    let spent = processor_time(pid) - began;
    assert!(
        spent < 100,
        "busy while nothing can be done: {spent} ticks of 200"
    );
    // A new connection to an upstream is not to be had either, at first; each answer gives descriptors back, and whoever
    // waited in the accept queue gets in.
    let ask = client::request("GET", "/license/version", &[], b"");
    for stream in &mut many {
        stream.write_all(&ask).unwrap();
    }
    let told: Vec<_> = many
        .into_iter()
        .map(|stream| client::exchange(stream, b""))
        .collect();
    assert!(
        told.iter()
            .any(|told| told.status == 502 && told.code() == "upstream_unreachable")
    );
    assert!(told.iter().all(|told| [200, 502].contains(&told.status)));
    let target = "/ml/v1/foundation_model_specs?version=2025-02-01";
    eventually("recovers", || {
        (proxy.get(target, &[]).status == 200).then_some(())
    });
    assert_eq!(proxy.get("/license/version", &[]).status, 200);
    world.end(proxy);
}

#[test]
fn a_thousand_dribbled_heads_do_not_touch_others() {
    let world = World::new();
    let proxy = world.start(&USUAL_ROUTES.replace(
        "\"127.0.0.1:0\" }",
        "\"127.0.0.1:0\", head_timeout = \"20s\" }",
    ));
    proxy.ready();
    let mut slow: Vec<TcpStream> = (0..1000)
        .map(|_| client::connect(proxy.address()))
        .collect();
    for byte in b"GET / HT" {
        for stream in &mut slow {
            stream.write_all(&[*byte]).unwrap();
        }
        let told = proxy.get("/ml/v1/foundation_model_specs?version=2025-02-01", &[]);
        assert_eq!(told.status, 200);
    }
    drop(slow);
    world.end(proxy);
}
