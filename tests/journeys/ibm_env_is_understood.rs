//! `--ibm-env`: IBM's own properties, from the sources in which IBM's SDKs look for them.

use std::process::Command;

use crate::proxy::{Proxy, World, assert_no_secret, command, run_to_end};

fn properties(world: &World, name: &str) -> String {
    format!(
        "# for the SDKs\n{name}_URL={url}\n{name}_AUTH_TYPE=CP4D\n{name}_AUTH_URL={url}/icp4d-api\n\
         {name}_USERNAME=canary-user\n{name}_APIKEY={key}\n{name}_ENABLE_RETRIES=true\n",
        url = world.simulator.platform_url(),
        key = world.simulator.api_key(),
    )
}

fn ended(command: Command) -> (i32, String, String) {
    run_to_end(command, "")
}

#[test]
fn a_credentials_file_serves_and_is_read_again() {
    let world = World::new();
    std::fs::create_dir(world.path("elsewhere")).unwrap();
    let right = properties(&world, "MY_SVC");
    let wrong = right.replace(&world.simulator.api_key(), "canary-wrong-key");
    world.write("elsewhere/ibm-credentials.env", &wrong);
    let arguments = [
        "serve",
        "--ibm-env",
        "my-svc",
        "--ca",
        "ca.crt",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ];
    let mut command = command(&arguments, world.folder.path());
    command.env("HOME", world.path("elsewhere"));
    let proxy = Proxy::start_command(command, world.secrets());
    let printed = proxy.printed();
    assert!(printed.contains("MY_SVC_… of file "), "{printed}");
    assert!(printed.contains("it means nothing to a proxy"), "{printed}");
    crate::client::eventually("a refusal", || {
        (world.simulator.logins().authorize.refused > 0).then_some(())
    });

    // A refused key is not tried again for minutes, unless the file changes.
    world.write("elsewhere/ibm-credentials.env", &right);
    proxy.ready();
    let path = "/ml/v1/foundation_model_specs?version=2025-02-01";
    assert_eq!(proxy.get(path, &[]).status, 200);
    world.end(proxy);
}

#[test]
fn the_environment_and_its_mistakes() {
    let world = World::new();
    let set = |more: &[(&str, &str)]| {
        let mut command = command(
            &["token", "--ibm-env", "watsonx", "--ca", "ca.crt"],
            world.folder.path(),
        );
        command
            .env("WATSONX_URL", world.simulator.platform_url())
            .env("WATSONX_AUTH_TYPE", "cp4d")
            .env("WATSONX_USERNAME", "canary-user")
            .env("WATSONX_PASSWORD", world.simulator.password())
            .env("WATSONX_AUTH_PROXY_CONFIG", "/nobody/reads/this");
        command.envs(more.iter().copied());
        command
    };
    let (code, output, errors) = ended(set(&[]));
    assert_eq!(code, 0, "{errors}");
    assert_eq!(output.trim_end(), world.simulator.tokens_issued()[0]);

    let (code, _, errors) = ended(set(&[
        ("WATSONX_AUTH_TYPE", "cp5d"),
        ("WATSONX_AUTH_DISABLE_SSL", "canary-yes"),
        ("WATSONX_URL", "https://u:canary@host"),
    ]));
    assert_eq!(code, 78);
    for part in ["did you mean `cp4d`", "$WATSONX_URL", "2 mistakes"] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    assert!(!errors.contains("canary"), "{errors}");
    assert_no_secret(&errors, &world.secrets());
}

#[test]
fn properties_and_the_flags_for_a_user_do_not_mix() {
    let world = World::new();
    for more in [
        &["--username", "u"][..],
        &["--api-key-file", "api-key"],
        &["--upstream", "https://h"],
        &["--config", "proxy.toml"],
    ] {
        let arguments = [&["check", "--ibm-env", "WATSONX"], more].concat();
        let (code, _, errors) = ended(command(&arguments, world.folder.path()));
        assert_eq!(code, 2, "{errors}");
    }
}

#[test]
fn a_file_of_the_working_directory_sends_no_token_of_the_machine_unless_it_is_named() {
    let world = World::new();
    let folder = world.path("cloned");
    std::fs::create_dir(&folder).unwrap();
    let container = "WATSONX_URL=https://evil.example.com\nWATSONX_AUTH_TYPE=container\n\
                     WATSONX_IAM_PROFILE_ID=p\nWATSONX_CR_TOKEN_FILENAME=/etc/hostname\n";
    world.write("cloned/ibm-credentials.env", container);
    let check = || {
        let mut command = command(&["check", "--ibm-env", "WATSONX"], &folder);
        command.env("HOME", world.folder.path());
        command
    };
    let (code, _, errors) = ended(check());
    assert_eq!(code, 78);
    assert!(
        errors.contains("IBM_CREDENTIALS_FILE=./ibm-credentials.env"),
        "{errors}"
    );
    let mut named = check();
    named.env("IBM_CREDENTIALS_FILE", "./ibm-credentials.env");
    let (code, output, errors) = ended(named);
    assert_eq!(code, 0, "{output}{errors}");
    // Its own secrets it may send where it likes.
    world.write("cloned/ibm-credentials.env", &properties(&world, "WATSONX"));
    let (code, output, errors) = ended(check());
    assert_eq!(code, 0, "{output}{errors}");
}

#[test]
fn a_pipe_is_not_waited_for() {
    let world = World::new();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, world.path("pipe"), mode).unwrap();
    let mut command = command(&["check", "--ibm-env", "watsonx"], world.folder.path());
    command.env("IBM_CREDENTIALS_FILE", "pipe");
    let (code, _, errors) = ended(command);
    assert_eq!(code, 78, "{errors}");
    assert!(errors.contains("not a plain file"), "{errors}");
}
