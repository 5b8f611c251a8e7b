//! A running proxy opens the files that its configuration names and no others, writes nothing it has no reason to, and
//! needs no rights for any of it.

#![cfg(target_os = "linux")]
#![expect(
    clippy::print_stderr,
    reason = "what could not be tested is said aloud"
)]

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    client::eventually,
    proxy::{Proxy, USUAL_ROUTES, World, command, run_to_end},
};

const SPECS: &str = "/ml/v1/foundation_model_specs?version=2025-02-01";
const NOBODY: u32 = 65_534;

/// The shared tables, with the key in a folder as Kubernetes mounts a Secret.
fn mounted(world: &World) -> String {
    fs::create_dir_all(world.path("mounted/..1")).unwrap();
    world.write("mounted/..1/api-key", &world.simulator.api_key());
    symlink("..1", world.path("mounted/..data")).unwrap();
    symlink("..data/api-key", world.path("mounted/api-key")).unwrap();
    let config = format!("poll = \"100ms\"\n{}", world.config("", USUAL_ROUTES));
    config.replace("{ file = \"api-key\" }", "{ file = \"mounted/api-key\" }")
}

/// Puts another folder in the place of the one that is mounted, as Kubernetes does.
fn mount(world: &World, target: &Path) {
    symlink(target, world.path("mounted/..data.new")).unwrap();
    fs::rename(
        world.path("mounted/..data.new"),
        world.path("mounted/..data"),
    )
    .unwrap();
}

fn can_be_confined(proxy: &Proxy) -> bool {
    let can = !proxy.printed().contains("this kernel has no Landlock");
    if !can {
        eprintln!("NOT TESTED: this kernel has no Landlock");
    }
    can
}

#[test]
fn a_secret_that_moves_outside_is_not_read_and_one_that_rotates_is() {
    let world = World::new();
    let proxy = world.start_with(&mounted(&world));
    proxy.ready();
    if !can_be_confined(&proxy) {
        return;
    }

    // Another file of whoever the proxy runs as.
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("api-key"), "canary-of-somebody-else").unwrap();
    mount(&world, outside.path());
    eventually("it is not read", || {
        let printed = proxy.printed();
        let told = printed
            .lines()
            .find(|line| line.contains("cannot be read"))?;
        assert!(told.contains("api_key"), "{told}");
        Some(())
    });
    assert_eq!(
        proxy.get(SPECS, &[]).status,
        200,
        "the token in hand serves"
    );
    let logins = world.simulator.logins();

    world.simulator.set_api_key("canary-api-key-rotated");
    fs::create_dir(world.path("mounted/..2")).unwrap();
    world.write("mounted/..2/api-key", "canary-api-key-rotated");
    mount(&world, Path::new("..2"));
    eventually("the new key is used", || {
        (world.simulator.logins() != logins).then_some(())
    });
    let mut secrets = world.secrets();
    secrets.push("canary-of-somebody-else".to_owned());
    proxy.end(secrets);
}

#[test]
fn a_key_of_a_caller_that_moves_outside_no_longer_opens() {
    const KEY: &str = "canary-key-of-alice-0123";
    let world = World::new();
    fs::create_dir_all(world.path("mounted/..1")).unwrap();
    world.write("mounted/..1/key", KEY);
    symlink("..1", world.path("mounted/..data")).unwrap();
    symlink("..data/key", world.path("mounted/key")).unwrap();
    let proxy = world.start_with(&world.config(
        "poll = \"100ms\"\n",
        r#"
listener.local = { address = "127.0.0.1:0", callers = ["alice"] }
caller.alice = { key = { file = "mounted/key" } }
route.platform = { path = "/", upstream = "platform", attach = "platform" }
"#,
    ));
    proxy.ready();
    if !can_be_confined(&proxy) {
        return;
    }
    let status = || proxy.get(SPECS, &[&format!("X-Proxy-Key: {KEY}")]).status;
    assert_eq!(status(), 200);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("key"), KEY).unwrap();
    mount(&world, outside.path());
    eventually("it is withdrawn", || (status() == 401).then_some(()));
    eventually("it is told", || {
        let printed = proxy.printed();
        let told = printed.lines().find(|line| line.contains("is withdrawn"))?;
        assert!(told.contains("restart"), "{told}");
        Some(())
    });
    proxy.end([world.secrets(), vec![KEY.to_owned()]].concat());
}

#[test]
fn nobody_serves_from_a_system_that_cannot_be_written() {
    let world = World::new();
    // Known to this file alone: the look-up reads it after the files are confined.
    fs::write(world.path("hosts"), "127.0.0.1 platform.of.this.test\n").unwrap();
    let url = world.simulator.platform_url();
    let named = url.replace("127.0.0.1", "platform.of.this.test");
    assert_ne!(named, url);
    let config = (world.config("", USUAL_ROUTES))
        .replace(
            "tls = { ca = \"ca.crt\" }",
            "tls = { ca = \"ca.crt\", server_name = \"localhost\" }",
        )
        .replace(&url, &named);
    world.write("proxy.toml", &config);
    fs::write(world.path("program"), "").unwrap();
    fs::set_permissions(world.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let before = listing(world.folder.path());

    let program = env!("CARGO_BIN_EXE_watsonx-auth-proxy");
    let mut command = in_a_namespace(&world, &[program]);
    if !command
        .arg("true")
        .status()
        .is_ok_and(|status| status.success())
    {
        eprintln!("NOT TESTED: no mount namespace may be made here");
        return;
    }
    let mut command = in_a_namespace(&world, &[program]);
    command.args(["./program", "serve", "--config"]);
    command.arg(world.path("proxy.toml"));
    let proxy = Proxy::start_command(command, world.secrets());
    proxy.ready();
    assert_eq!(proxy.get(SPECS, &[]).status, 200);
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.id())).unwrap();
    for line in ["Uid:\t65534", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    let core = fs::read_to_string(format!("/proc/{}/limits", proxy.id())).unwrap();
    let core = core.lines().find(|line| line.starts_with("Max core file"));
    let core: Vec<_> = core.unwrap().split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"]);
    world.end(proxy);
    assert_eq!(listing(world.folder.path()), before);
}

/// A command that sees a root which cannot be written, and `hosts` of the folder as the system's; run as nobody,
/// without any right, in the folder.
fn in_a_namespace(world: &World, program: &[&str]) -> Command {
    let script = r#"mount --bind hosts /etc/hosts && mount --bind "$1" program \
        && mount -o remount,ro,bind / && shift \
        && cd . && exec setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all "$@""#;
    let mut namespace = Command::new("unshare");
    namespace
        .args(["-m", "sh", "-c", script, "sh"])
        .args(program);
    namespace.current_dir(world.folder.path());
    for (name, value) in command(&[], world.folder.path()).get_envs() {
        match value {
            Some(value) => namespace.env(name, value),
            None => namespace.env_remove(name),
        };
    }
    namespace
}

#[test]
fn its_environment_cannot_be_read_by_others_of_the_same_user() {
    let world = World::new();
    world.write(
        "proxy.toml",
        &world
            .config("", USUAL_ROUTES)
            .replace("{ file = \"api-key\" }", "{ env = \"CANARY_KEY\" }"),
    );
    fs::set_permissions(world.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut served = command(&["serve", "--config", "proxy.toml"], world.folder.path());
    served
        .env("CANARY_KEY", world.simulator.api_key())
        .uid(NOBODY);
    let mut other = Command::new("sleep");
    let other = other.arg("60").env("CANARY_KEY", "x").uid(NOBODY).spawn();
    let Ok(mut other) = other else {
        eprintln!("NOT TESTED: only root can run programs as somebody else");
        return;
    };
    let proxy = Proxy::start_command(served, world.secrets());
    proxy.ready();
    let read = |id: u32, file: &str| {
        let mut cat = Command::new("cat");
        cat.arg(format!("/proc/{id}/{file}")).uid(NOBODY);
        run_to_end(cat, "")
    };
    let (code, seen, _) = read(other.id(), "environ");
    assert!(
        code == 0 && seen.contains("CANARY_KEY=x"),
        "of any other it can"
    );
    for file in ["environ", "maps"] {
        let (code, seen, _) = read(proxy.id(), file);
        assert!(code != 0 && seen.is_empty(), "{file}: {seen}");
    }
    let (_, line, _) = read(proxy.id(), "cmdline");
    assert!(
        line.contains("serve") && !line.contains("canary-api-key"),
        "{line}"
    );
    let _ = other.kill();
    let _ = other.wait();
    world.end(proxy);
}

/// What is in a folder, and what is in it.
fn listing(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(&path).unwrap_or_default()))
        .collect();
    files.sort();
    files
}
