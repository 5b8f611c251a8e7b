//! A secret is read from the place that the configuration names, and again when that changes.

use std::{
    io::Write as _,
    sync::{Arc, Mutex},
};

use crate::{
    client::eventually,
    proxy::{Proxy, World, command},
    scripted::scripted,
};

#[test]
fn each_place_gives_its_secret() {
    let world = World::new();
    let got = Arc::new(Mutex::new(String::new()));
    let last = Arc::clone(&got);
    let upstream = scripted(move |stream, head| {
        *last.lock().unwrap() = head;
        let _ =
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    let mut config = format!(
        "workers = 1\npoll = '100ms'\nadmin.address = '127.0.0.1:0'\nlistener.local.address = '127.0.0.1:0'\n\
         [upstream.u]\nurl = 'http://{upstream}'\nplain_http = true\n"
    );
    for (name, place) in [
        ("file", "{ file = 'license-token' }"),
        ("field", "{ file = 'apikey.json', field = 'a.key' }"),
        ("env", "{ env = 'CANARY_TOKEN' }"),
        ("systemd", "{ systemd = 'token' }"),
        (
            "command",
            "{ command = ['printf', '%s%s\\n', 'canary-from-', 'command'] }",
        ),
    ] {
        config.push_str(&format!(
            "[credential.{name}.token]\nvalue = {place}\n\
             [route.{name}]\npath = '/{name}'\nupstream = 'u'\nattach = '{name}'\n"
        ));
    }
    world.write("proxy.toml", &config);
    world.write("apikey.json", r#"{"a":{"key":"canary-from-field"}}"#);
    std::fs::create_dir(world.path("credentials")).unwrap();
    world.write("credentials/token", "canary-from-systemd\n");
    let secrets = |name: &str| format!("canary-from-{name}");
    let mut command = command(&["serve", "--config", "proxy.toml"], world.folder.path());
    command
        .env("CANARY_TOKEN", "canary-from-env")
        .env("CREDENTIALS_DIRECTORY", world.path("credentials"));
    let names = ["field", "env", "systemd", "command", "later", "later-still"];
    let proxy = Proxy::start_command(command, names.map(secrets).into());
    proxy.ready();
    let sent = |name: &str| {
        assert_eq!(proxy.get(&format!("/{name}"), &[]).status, 200, "{name}");
        got.lock().unwrap().clone()
    };
    assert!(sent("file").contains(&world.simulator.license_token()));
    for name in ["field", "env", "systemd", "command"] {
        assert!(
            sent(name).contains(&format!("Bearer canary-from-{name}\r\n")),
            "{name}"
        );
    }
    for (file, text, name, value) in [
        (
            "credentials/token",
            "canary-from-later",
            "systemd",
            "later\r\n",
        ),
        (
            "apikey.json",
            r#"{"a":{"key":"canary-from-later-still"}}"#,
            "field",
            "later-still\r\n",
        ),
    ] {
        world.write(file, text);
        eventually("the changed secret", || {
            sent(name).contains(value).then_some(())
        });
    }
    world.end(proxy);
}
