//! `token` prints a value that works, and nothing else where a script reads it.

use std::{fs::File, io::Read as _, process::Stdio, sync::mpsc, thread};

use rustix::process::{Pid, Signal, kill_process};
use simulator::Outage;

use crate::{
    client::{PATIENCE, eventually},
    proxy::{USUAL_ROUTES, World, assert_no_secret, command, run},
};

#[test]
fn a_fresh_token_and_nothing_else() {
    let world = World::new();
    world.write("proxy.toml", &world.config("", USUAL_ROUTES));
    let token = |more: &[&str]| {
        let arguments = [&["token", "--config", "proxy.toml"], more].concat();
        run(&arguments, world.folder.path(), "")
    };
    let (code, output, errors) = token(&["platform"]);
    let issued = world.simulator.tokens_issued();
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(output, format!("{}\n", issued.last().unwrap()));
    assert_eq!(world.simulator.logins().authorize.granted, 1);

    let (code, output, _) = token(&["license"]);
    assert_eq!(
        (code, output.trim_end()),
        (0, &*world.simulator.license_token())
    );
    let (code, output, _) = token(&["platform", "--header"]);
    let issued = world.simulator.tokens_issued();
    assert_eq!(code, 0);
    let header = format!("Authorization: Bearer {}\n", issued.last().unwrap());
    assert_eq!(output, header);

    // Which one, where there are two; and names that are none.
    for arguments in [&[][..], &["canary-typed-in-the-wrong-place"]] {
        let (code, output, errors) = token(arguments);
        assert_eq!((code, output.as_str()), (2, ""));
        assert!(
            errors.contains("license, platform") || errors.contains("platform, license"),
            "{errors}"
        );
        assert!(!errors.contains("canary"), "{errors}");
    }
}

#[test]
fn the_only_credential_needs_no_name_and_no_file() {
    let world = World::new();
    let arguments = |user| {
        vec![
            "token".to_owned(),
            "--upstream".into(),
            world.simulator.platform_url(),
            "--ca".into(),
            "ca.crt".into(),
            "--username".into(),
            user,
            "--api-key-file".into(),
            "api-key".into(),
        ]
    };
    let with = |user: &str| {
        let arguments = arguments(user.to_owned());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(&arguments, world.folder.path(), "")
    };
    let (code, output, errors) = with("canary-user");
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(output.trim_end(), world.simulator.tokens_issued()[0]);

    let (code, output, errors) = with("somebody-else");
    assert_eq!((code, output.as_str()), (1, ""));
    assert!(
        errors.contains("the login was refused") && errors.contains("401"),
        "{errors}"
    );
    assert_no_secret(&errors, &world.secrets());

    world.simulator.set_outage(Some(Outage::Unavailable));
    let (code, output, errors) = with("canary-user");
    assert_eq!((code, output.as_str()), (1, ""));
    assert!(errors.contains("503"), "{errors}");

    let (code, output, _) = run(&["token", "--config", "-"], world.folder.path(), "nonsense");
    assert_eq!((code, output.as_str()), (78, ""));
}

#[test]
fn a_command_ends_with_who_asked_for_its_value() {
    for (name, signal, code) in [
        ("token", Signal::TERM, 143),
        ("token", Signal::INT, 130),
        ("doctor", Signal::TERM, 143),
    ] {
        let world = World::new();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, world.path("pipe"), mode).unwrap();
        let config = format!(
            r#"
listener.local.address = "127.0.0.1:0"
[upstream.license]
url = "{}"
tls.ca = "ca.crt"
[credential.license.token]
value = {{ command = ["sh", "-c", "sleep 600 > pipe & wait"] }}
[route.license]
path = "/"
upstream = "license"
attach = "license"
"#,
            world.simulator.license_url()
        );
        world.write("proxy.toml", &config);
        let mut child = command(&[name, "--config", "proxy.toml"], world.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Opens when what the command started has opened its end, and ends when that is gone.
        let (told, heard) = mpsc::channel();
        let pipe = world.path("pipe");
        thread::spawn(move || {
            let mut pipe = File::open(pipe).unwrap();
            told.send(()).unwrap();
            pipe.read_to_end(&mut Vec::new()).unwrap();
            let _ = told.send(());
        });
        heard.recv_timeout(PATIENCE).expect("the command runs");
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = eventually("the end", || child.try_wait().unwrap());
        heard.recv_timeout(PATIENCE).expect("nothing of it is left");
        assert_eq!(status.code(), Some(code), "{name}");
    }
}
