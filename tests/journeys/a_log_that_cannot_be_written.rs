//! A log that nobody takes, or that has no room, stops no request.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    os::unix::net::UnixStream,
    process::{Child, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    client::{self, eventually},
    proxy::{World, command},
};

/// A proxy that writes its log to `log`, and listens on a unix socket.
fn logging_to(world: &World, log: Stdio) -> Child {
    world.write(
        "proxy.toml",
        &world.config(
            "",
            "[listener.local]\naddress = 'unix:proxy.sock'\n\
             [route.platform]\npath = '/'\nupstream = 'platform'\nattach = 'platform'\n",
        ),
    );
    command(&["serve", "--config", "proxy.toml"], world.folder.path())
        .env("RUST_LOG", "trace")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn serves(world: &World, mut proxy: Child) {
    let connect = || UnixStream::connect(world.path("proxy.sock")).ok();
    eventually("the listener", connect);
    for _ in 0..50 {
        let stream = connect().unwrap();
        let request = client::request("GET", "/simulator/status/200", &[], b"");
        let answer = client::exchange(stream, &request);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    kill_process(Pid::from_child(&proxy), Signal::TERM).unwrap();
    let status = eventually("the end of the process", || proxy.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn one_on_a_full_disk() {
    let world = World::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let proxy = logging_to(&world, full.into());
    serves(&world, proxy);
}

#[test]
fn one_whose_reader_has_gone() {
    let world = World::new();
    let mut proxy = logging_to(&world, Stdio::piped());
    // It is read until the proxy serves, and then no more.
    let mut reader = BufReader::new(proxy.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("admin listens") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "it has ended");
    }
    drop(reader);
    serves(&world, proxy);
}
