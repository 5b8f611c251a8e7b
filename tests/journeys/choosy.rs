//! A server that refuses a token that it has seen before any other, and a proxy that logs in for another.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{
    client::pause,
    proxy::{Proxy, World},
};

/// Tokens of 20 s: a 401 counts once they are 4 s old, and they are renewed after 14 s at the earliest.
pub(crate) const LIFETIME: Duration = Duration::from_secs(20);

pub(crate) fn pass_freshness() {
    pause(LIFETIME / 5);
}

pub(crate) fn short_lived() -> World {
    World::with(|options| options.token_lifetime = LIFETIME)
}

pub(crate) fn replays(proxy: &Proxy, outcome: &str) -> f64 {
    let name = "watsonx_auth_proxy_replays_total";
    let lines = proxy.admin("/metrics").text();
    let ours = |line: &&str| line.starts_with(name) && line.contains(&format!("\"{outcome}\""));
    let counts = lines.lines().filter(ours);
    counts
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// A server that takes any token but the first that it saw, and notes what it got.
#[derive(Clone, Default)]
pub(crate) struct Choosy(Arc<Mutex<Seen>>);

#[derive(Default)]
pub(crate) struct Seen {
    refused: Option<String>,
    bodies: Vec<Vec<u8>>,
    heads: Vec<String>,
}

impl Choosy {
    /// Whether a request with this head is to be taken.
    pub(crate) fn takes(&self, head: &str) -> bool {
        let token = head
            .lines()
            .find_map(|line| line.strip_prefix("authorization: Bearer "))
            .expect("a token")
            .to_owned();
        let mut seen = self.0.lock().unwrap();
        seen.heads.push(head.to_owned());
        *seen.refused.get_or_insert_with(|| token.clone()) != token
    }

    pub(crate) fn note(&self, body: Vec<u8>) {
        self.0.lock().unwrap().bodies.push(body);
    }

    pub(crate) fn answer(&self, stream: &mut TcpStream, takes: bool) {
        let answer: &[u8] = match takes {
            // Its connection ends with it; where that were not said, the next request could meet the end.
            true => b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\ntaken",
            false => b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 7\r\n\r\nrefused",
        };
        stream.write_all(answer).unwrap();
    }

    pub(crate) fn bodies(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().bodies.clone()
    }

    pub(crate) fn requests(&self) -> usize {
        self.0.lock().unwrap().heads.len()
    }
}

/// A proxy in front of one plain server, with a login at the simulator and these keys of the route.
pub(crate) fn logged_in_before(world: &World, address: SocketAddr, route: &str) -> Proxy {
    let proxy = world.start_with(&logged_in(world, address, route));
    proxy.ready();
    proxy
}

pub(crate) fn logged_in(world: &World, address: SocketAddr, route: &str) -> String {
    format!(
        "workers = 1\nadmin = {{ address = '127.0.0.1:0' }}\n[listener.local]\naddress = '127.0.0.1:0'\n\
         [upstream.odd]\nurl = 'http://{address}'\nplain_http = true\n\
         [credential.odd.cp4d]\nurl = '{}'\ntls = {{ ca = 'ca.crt' }}\nupstream = 'odd'\n\
         username = 'canary-user'\napi_key = {{ file = 'api-key' }}\n\
         [route.odd]\npath = '/'\nupstream = 'odd'\nattach = 'odd'\n{route}\n",
        world.simulator.platform_url(),
    )
}

pub(crate) fn sized_body(stream: &mut TcpStream, head: &str) -> Vec<u8> {
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.expect("a length").parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    body
}
