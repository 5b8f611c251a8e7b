//! A wrong configuration: every mistake at once, with its place and a hint, exit code 78, and never a secret.

use std::process::Stdio;

use crate::proxy::{USUAL_ROUTES, World, command, run};

#[test]
fn every_mistake_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = r#"
[listener.local]
adress = "127.0.0.1:8080"

[upstream.platform]
url = "http://platform.example"

[credential.platform.cp4d]
upstream = "platfrom"
username = "me"
api_key = "canary-secret-in-the-file"

[route.platform]
path = "/a//b"
upstream = "platform"
attach = "platform"
"#;
    std::fs::write(folder.path().join("proxy.toml"), config).unwrap();
    for arguments in [
        ["check", "--config", "proxy.toml"],
        ["serve", "--config", "proxy.toml"],
        ["--config", "proxy.toml", "check"],
    ] {
        let (code, output, errors) = run(&arguments, folder.path(), "");
        assert_eq!(code, 78, "{errors}");
        for part in [
            "proxy.toml:3:1",
            "did you mean",
            "plain_http",
            "proxy.toml:9:12",
            "proxy.toml:11:11",
            "^",
            "empty segment",
            "mistakes",
        ] {
            assert!(errors.contains(part), "{part:?} is not in\n{errors}");
        }
        assert!(!errors.contains("canary") && output.is_empty(), "{errors}");
    }
    let (code, _, errors) = run(
        &["check", "--config", "-"],
        folder.path(),
        "api_key = \"canary-unterminated",
    );
    assert_eq!(code, 78);
    assert!(!errors.contains("canary"), "{errors}");
}

#[test]
fn files_that_are_not_there_are_warnings_unless_strict() {
    let world = World::new();
    let config = world.config("", USUAL_ROUTES);
    std::fs::remove_file(world.path("api-key")).unwrap();
    let (code, output, errors) = run(&["check", "--config", "-"], world.folder.path(), &config);
    assert_eq!(code, 0, "{errors}");
    assert!(
        output.contains("1 warnings") && errors.contains("api_key"),
        "{output}{errors}"
    );
    let (code, _, errors) = run(
        &["check", "--strict", "--config", "-"],
        world.folder.path(),
        &config,
    );
    assert_eq!(code, 78, "{errors}");
}

/// Where nobody reads what is said, the exit code still says it.
#[test]
fn an_exit_code_needs_no_reader() {
    let world = World::new();
    let folder = world.folder.path();
    world.write("right.toml", &world.config("", USUAL_ROUTES));
    world.write("wrong.toml", "[listener.a]\naddress = 1\n");
    let full = || {
        std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    for (file, at, code) in [
        ("wrong.toml", "stderr", 78),
        ("right.toml", "stderr", 0),
        ("right.toml", "stdout", 1),
    ] {
        for name in ["check", "serve"] {
            if (name, file) == ("serve", "right.toml") {
                continue;
            }
            let mut command = command(&[name, "--config", file], folder);
            match at {
                "stderr" => command.stderr(full()),
                _ => command.stdout(full()),
            };
            let status = command.stdin(Stdio::null()).status().unwrap();
            assert_eq!(status.code(), Some(code), "{name} {file} {at}");
        }
    }
}

#[test]
fn usage_look_up_order_and_a_port_in_use() {
    let world = World::new();
    let folder = world.folder.path();
    assert_eq!(run(&["serv"], folder, "").0, 2);
    assert_eq!(
        run(
            &["serve", "--upstream", "https://x", "--config", "y"],
            folder,
            ""
        )
        .0,
        2
    );
    let (code, _, errors) = run(&["check"], folder, "");
    assert_eq!(code, 78);
    assert!(
        errors.contains("watsonx-auth-proxy/proxy.toml") && errors.contains("--upstream"),
        "{errors}"
    );

    let proxy = world.usual();
    let taken = USUAL_ROUTES.replace("127.0.0.1:0", &proxy.address().to_string());
    std::fs::create_dir(folder.join("watsonx-auth-proxy")).unwrap();
    std::fs::write(
        folder.join("watsonx-auth-proxy/proxy.toml"),
        world.config("", &taken),
    )
    .unwrap();
    // A file in the working directory is never read.
    std::fs::write(folder.join("proxy.toml"), "nonsense").unwrap();
    let (code, _, errors) = run(&["serve"], folder, "");
    assert_eq!(code, 1, "{errors}");
    assert!(
        errors.contains("listener.local") && errors.contains("in use"),
        "{errors}"
    );
}
