//! Where the configuration comes from: the look-up order, files, and flags.

use std::{fs, path::Path};

use expect_test::expect;
use token_source::{Kind, credential::Proof};

use super::nothing;
use crate::config::{Config, Environment, FlagForm, ListenAddress, Source, TokenEndpoints};

#[test]
fn the_first_place_named_wins() {
    let folder = tempfile::tempdir().unwrap();
    let user = folder.path().join("watsonx-auth-proxy/proxy.toml");
    fs::create_dir_all(user.parent().unwrap()).unwrap();
    fs::write(&user, "").unwrap();
    let xdg = ("XDG_CONFIG_HOME", folder.path().as_os_str());
    let variable = ("WATSONX_AUTH_PROXY_CONFIG", "/from/variable".as_ref());
    let find = |explicit: Option<&str>, variables: &[(&str, &std::ffi::OsStr)]| {
        let environment = Environment::new(variables.iter().copied(), "/");
        let source = Source::find(explicit.map(Path::new), &environment).unwrap();
        source.file().map(Path::to_owned)
    };
    assert_eq!(
        find(Some("/explicit"), &[variable, xdg]).as_deref(),
        Some(Path::new("/explicit"))
    );
    assert_eq!(find(Some("-"), &[variable, xdg]), None);
    assert_eq!(
        find(None, &[variable, xdg]).as_deref(),
        Some(Path::new("/from/variable"))
    );
    assert_eq!(find(None, &[xdg]), Some(user));
}

#[test]
fn no_file_anywhere_lists_the_places() {
    let environment = Environment::new([("HOME", "/no/such/home")], "/");
    let report = Source::find(None, &environment).unwrap_err();
    expect![[r#"
        error: there is no configuration
         |
         = help: looked for --config, $WATSONX_AUTH_PROXY_CONFIG, /no/such/home/.config/watsonx-auth-proxy/proxy.toml, /etc/watsonx-auth-proxy/proxy.toml; without a file: serve --upstream URL --username USER --api-key-file FILE, or serve --ibm-env NAME

        1 mistake"#]].assert_eq(&report.to_string());
}

#[test]
fn paths_are_relative_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    fs::write(
        &file,
        super::with("state_dir = \"state\"").replace("/no/such/key", "key"),
    )
    .unwrap();
    fs::write(folder.path().join("key"), "k").unwrap();
    let loaded = Config::load(&Source::File(file), true, &nothing()).unwrap();
    assert_eq!(loaded.config.state_dir, folder.path().join("state"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let load = |name: &str| {
        let path = folder.path().join(name);
        let report = Config::load(&Source::File(path), false, &nothing()).unwrap_err();
        (
            report.mistakes[0].what.clone(),
            report.mistakes[0].hint.clone(),
        )
    };
    fs::write(folder.path().join("latin"), b"a = 1\nb = \"\xe9\"").unwrap();
    fs::write(folder.path().join("huge"), vec![b'\n'; 1024 * 1024 + 1]).unwrap();
    assert_eq!(load("none").1, "there is no such file");
    assert_eq!(
        load("latin").1,
        "the first byte that is not UTF-8 is in line 2"
    );
    assert_eq!(load("huge").0, "larger than 1 MiB");
}

fn flags(form: FlagForm) -> Result<crate::config::Loaded, crate::config::Report> {
    Config::load(&Source::Flags(form), false, &nothing())
}

#[test]
fn flags_stand_for_a_file() {
    let form = FlagForm {
        upstream: Some("https://cpd.example.com".into()),
        username: Some("me".into()),
        api_key_file: Some("key".into()),
        ..FlagForm::default()
    };
    let config = flags(form.clone()).unwrap().config;
    assert_eq!(
        config.listeners[0].address,
        ListenAddress::Tcp(vec!["127.0.0.1:8080".parse().unwrap()])
    );
    assert!(matches!(
        &config.credentials[0].kind,
        Kind::Cp4d {
            proof: Proof::ApiKey(_),
            ..
        }
    ));
    assert!(config.routes[0].allow.is_none() && config.waivers.is_empty());
    assert_eq!(config.routes[0].token_endpoints, TokenEndpoints::Decoy);

    let plain = FlagForm {
        upstream: Some("http://cpd".into()),
        plain_http: true,
        ..form
    };
    assert_eq!(flags(plain).unwrap().config.waivers[0].kind, "plain_http");
}

#[test]
fn mistakes_in_flags_name_the_flag() {
    let form = FlagForm {
        upstream: Some("http://cpd.example.com".into()),
        listen: Some("0.0.0.0:80".into()),
        admin: Some("9090".into()),
        ..FlagForm::default()
    };
    expect![[r#"
        error: --listen: anyone who reaches this address would act with your credential
         |
         = help: 127.0.0.1:8080; for others to use it write a file, with anyone = true and a preset

        error: --admin: not an address and port
         |
         = help: an IP address and a port, such as "127.0.0.1:8080" or "[::1]:8080"

        error: --upstream: your credential would cross the network in the clear
         |
         = help: write https://, or waive TLS by name: --plain-http

        error: --username: missing or empty
         |
         = help: the user of the platform

        error: --api-key-file: missing
         |
         = help: one of --api-key-file FILE and --password-file FILE

        5 mistakes"#]]
    .assert_eq(&flags(form).unwrap_err().to_string());
}

#[test]
fn debug_of_the_environment_and_flags_has_names_only() {
    let environment = Environment::new([("KEY", "hunter2")], "/");
    let flags = FlagForm {
        upstream: Some("https://u:hunter2@a".into()),
        ..FlagForm::default()
    };
    let text = format!("{environment:?} {flags:?}");
    assert!(text.contains("KEY") && !text.contains("hunter2"), "{text}");
}
