//! What a token was, and what it was obtained with, is nowhere in the process once it is over. The memory is read as
//! root, whom nothing keeps out.

#![cfg(target_os = "linux")]
#![expect(
    clippy::print_stderr,
    reason = "what could not be tested is said aloud"
)]

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Write as _,
    net::TcpListener,
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use memchr::memmem::Finder;
use rustix::process::Signal;

use crate::{
    client::{connect, eventually, pause, read_one},
    proxy::{Proxy, World},
    scripted::head,
};

/// Renewed after 7 s at the earliest.
const LIFETIME: Duration = Duration::from_secs(10);

/// A few ticks of the sweeper, and a renewal that is still on its way.
const SETTLED: Duration = Duration::from_secs(3);

const CLIENTS: usize = 6;

const PAGE: u64 = 4096;

/// Copies of the token in force: one with the feed; with each of two workers the header, and the text that is looked
/// for in answers; and for each request what is being written of its head.
const MOST_IN_FORCE: usize = 1 + 2 * 2 + CLIENTS;

#[test]
fn a_retired_token_is_gone_within_seconds_and_the_key_at_once() {
    let world = World::with(|options| options.token_lifetime = LIFETIME);
    let proxy = world.usual();
    proxy.ready();
    if !can_be_read(&proxy) {
        return;
    }
    // What was used and is left alone: nothing writes over it but who means to.
    let used = AtomicBool::new(true);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| ask(&proxy, &used, 50));
        }
    });
    await_renewal(&world);
    assert_clean(&world, &proxy, 1);

    // And what is in use all the time.
    let goes_on = AtomicBool::new(true);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| ask(&proxy, &goes_on, usize::MAX));
        }
        let stop = Stop(&goes_on);
        await_renewal(&world);
        assert_clean(&world, &proxy, MOST_IN_FORCE);
        drop(stop);
    });
    world.end(proxy);
}

/// Whatever an upstream writes of a credential into its answers, where nobody looks for it.
#[test]
fn an_answer_is_gone_while_the_next_is_awaited() {
    const BODY: &str = "canary-of-a-body-91";
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = upstream.local_addr().unwrap();
    let world = World::new();
    let proxy = world.start_with(&format!(
        "workers = 1\nadmin = {{ address = '127.0.0.1:0' }}\nlistener.local = {{ address = '127.0.0.1:0' }}\n\
         [upstream.telling]\nurl = 'http://{at}'\nplain_http = true\n\
         [credential.raw.token]\nvalue = {{ file = 'license-token' }}\nupstream = 'telling'\n\
         [route.telling]\npath = '/'\nupstream = 'telling'\nattach = 'raw'\n"
    ));
    proxy.ready();
    if !can_be_read(&proxy) {
        return;
    }
    let token = world.simulator.license_token();
    let mut client = connect(proxy.address());
    client.write_all(REQUEST).unwrap();
    let (mut upstream, _) = upstream.accept().unwrap();
    head(&mut upstream).unwrap();
    pause(SETTLED);
    let before = Memory::at_rest(&proxy).places(&token).len();
    assert!(before > 0);
    let body = BODY.repeat(100);
    let length = body.len();
    let told = format!("HTTP/1.1 200 OK\r\nServer: {token}\r\nContent-Length: {length}\r\n\r\n");
    write!(upstream, "{told}{body}").unwrap();
    assert_eq!(read_one(&mut client).text(), body);

    // The connection to the upstream is in use again at once, and nothing comes.
    client.write_all(REQUEST).unwrap();
    head(&mut upstream).unwrap();
    pause(SETTLED);
    let memory = Memory::at_rest(&proxy);
    assert_eq!(memory.places(BODY), Vec::<String>::new());
    assert_eq!(memory.places(&token).len(), before);
}

/// Ends the asking, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Asks over one connection, again and again.
fn ask(proxy: &Proxy, goes_on: &AtomicBool, times: usize) {
    let mut stream = connect(proxy.address());
    for _ in 0..times {
        if !goes_on.load(Ordering::Relaxed) {
            return;
        }
        stream.write_all(REQUEST).unwrap();
        assert_eq!(read_one(&mut stream).status, 200);
    }
}

fn await_renewal(world: &World) {
    let before = world.simulator.tokens_issued().len();
    eventually("a renewal", || {
        (world.simulator.tokens_issued().len() > before).then_some(())
    });
    pause(SETTLED);
}

fn assert_clean(world: &World, proxy: &Proxy, most: usize) {
    let memory = Memory::at_rest(proxy);
    let issued = world.simulator.tokens_issued();
    let (in_force, retired) = issued.split_last().unwrap();
    assert!(!retired.is_empty());
    let places = memory.places(in_force);
    assert!((1..=most).contains(&places.len()), "in force: {places:#?}");
    for secret in retired.iter().chain([&world.simulator.api_key()]) {
        assert_eq!(memory.places(secret), Vec::<String>::new());
    }
}

fn can_be_read(proxy: &Proxy) -> bool {
    let is_open = File::open(format!("/proc/{}/mem", proxy.id())).is_ok();
    if !is_open {
        eprintln!("NOT TESTED: only root can read the memory of the process");
    }
    is_open
}

/// All that the process can write, as it was at one moment: pieces, each with its address.
struct Memory(Vec<(u64, Vec<u8>)>);

impl Memory {
    fn at_rest(proxy: &Proxy) -> Self {
        proxy.signal(Signal::STOP);
        let memory = Self::of(proxy);
        proxy.signal(Signal::CONT);
        memory
    }

    fn of(proxy: &Proxy) -> Self {
        let open = |name| File::open(format!("/proc/{}/{name}", proxy.id())).unwrap();
        let (memory, pages) = (open("mem"), open("pagemap"));
        let maps = fs::read_to_string(format!("/proc/{}/maps", proxy.id())).unwrap();
        let mut pieces: Vec<(u64, Vec<u8>)> = Vec::new();
        for line in maps.lines() {
            let mut words = line.split(' ');
            let (start, end) = words.next().unwrap().split_once('-').unwrap();
            let number = |text| u64::from_str_radix(text, 16).unwrap();
            if !words.next().unwrap().starts_with("rw") {
                continue;
            }
            for page in number(start) / PAGE..number(end) / PAGE {
                let mut entry = [0; 8];
                pages.read_exact_at(&mut entry, page * 8).unwrap();
                // In memory, or in swap: of what the allocator has reserved, most is neither.
                if u64::from_ne_bytes(entry) >> 62 == 0 {
                    continue;
                }
                let mut content = [0; PAGE as usize];
                if memory.read_exact_at(&mut content, page * PAGE).is_err() {
                    continue;
                }
                match pieces.last_mut() {
                    Some((at, piece)) if *at + piece.len() as u64 == page * PAGE => {
                        piece.extend(content);
                    }
                    _ => pieces.push((page * PAGE, content.to_vec())),
                }
            }
        }
        Self(pieces)
    }

    /// Where a text stands, as it is, escaped as in JSON, or in base64, and what stands before it.
    fn places(&self, text: &str) -> Vec<String> {
        let mut places = Vec::new();
        for form in forms(text) {
            let finder = Finder::new(&form);
            for (start, content) in &self.0 {
                for at in finder.find_iter(content) {
                    let before = String::from_utf8_lossy(&content[at.saturating_sub(40)..at]);
                    places.push(format!("{:x} behind {before:?}", start + at as u64));
                }
            }
        }
        places
    }
}

/// The ways in which a text may stand in memory; base64 at each of the three places in a group of its letters.
fn forms(text: &str) -> HashSet<Vec<u8>> {
    let json = serde_json::to_string(text).unwrap();
    let mut forms = HashSet::from([
        text.as_bytes().to_vec(),
        json.as_bytes()[1..json.len() - 1].to_vec(),
    ]);
    for shift in 0..3 {
        let padded = [&b"\0\0"[..shift], text.as_bytes()].concat();
        let encoded = BASE64_STANDARD_NO_PAD.encode(padded);
        // Letters in which something beside the text has a part are left out.
        let whole = &encoded[[0, 2, 3][shift]..encoded.len() - 3];
        forms.insert(whole.as_bytes().to_vec());
    }
    forms
}

const REQUEST: &[u8] =
    b"GET /ml/v1/foundation_model_specs?version=2025-02-01 HTTP/1.1\r\nHost: localhost\r\n\r\n";
