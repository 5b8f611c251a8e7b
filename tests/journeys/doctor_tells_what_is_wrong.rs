//! `doctor` walks every credential and upstream, says what is wrong and what to do, and never a secret.

use std::io::Write as _;

use expect_test::expect;
use simulator::{Options, Simulator};

use crate::{
    proxy::{USUAL_ROUTES, World, assert_no_secret, run},
    scripted::{Nobody, scripted, tls_server},
};

/// The end, what was printed with what differs from run to run masked, and proof that no secret is in it.
fn doctor(world: &World, config: &str, more: &[&str]) -> (i32, String) {
    world.write("proxy.toml", config);
    let arguments = [&["doctor", "--config", "proxy.toml"], more].concat();
    let (code, output, errors) = run(&arguments, world.folder.path(), "");
    assert_eq!(errors, "", "{output}");
    assert_no_secret(&output, &world.secrets());
    (code, steady(world, &output))
}

fn steady(world: &World, output: &str) -> String {
    let folder = world.folder.path().display().to_string();
    let mut text = output.replace(&folder, "FOLDER");
    for (url, name) in [
        (world.simulator.platform_url(), "PLATFORM"),
        (world.simulator.license_url(), "LICENSE"),
    ] {
        let port = url.rsplit(':').next().unwrap();
        text = text.replace(&format!(":{port}"), &format!(":{name}"));
    }
    steady_lines(&text)
}

fn steady_lines(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = between(line, " in ", " ms", "N");
        let line = between(&line, "credential   ", " left", "TIME");
        let line = between(&line, "uid ", ",", "UID");
        let line = match line.split_once(", iat ") {
            Some((before, _)) => format!("{before}, iat TIME, exp TIME"),
            None => line,
        };
        between(&line, "sha256:", "\"", "PIN") + "\n"
    });
    lines.collect()
}

/// What the document for operators shows is what they will see.
fn assert_documented(output: &str) {
    let page = include_str!("../../docs/operations.md");
    let page = page
        .replace(":8443", ":PLATFORM")
        .replace("/etc/watsonx-auth-proxy/", "")
        .replace("/run/secrets/watsonx", "FOLDER")
        .replace("svc-watsonx", "canary-user");
    assert!(steady_lines(&page).contains(output), "{output}");
}

/// Replaces what stands between two texts.
fn between(line: &str, start: &str, end: &str, name: &str) -> String {
    let Some(from) = line.rfind(start).map(|at| at + start.len()) else {
        return line.to_owned();
    };
    match line[from..].find(end) {
        Some(length) => format!("{}{name}{}", &line[..from], &line[from + length..]),
        None => line.to_owned(),
    }
}

#[test]
fn a_healthy_world() {
    let world = World::new();
    let config = world.config("", USUAL_ROUTES);
    let (code, output) = doctor(
        &world,
        &config,
        &[
            "platform",
            "--path",
            "/ml/v1/foundation_model_specs?version=2025-02-01",
        ],
    );
    expect![[r#"
        configuration
          ok    source       proxy.toml

        server https://127.0.0.1:PLATFORM (upstream platform, credential platform)
          ok    name         127.0.0.1
          ok    connection   127.0.0.1:PLATFORM in N ms
          ok    TLS          TLS 1.3; the server is trusted
                certificate  CN=simulator; signed by CN=simulator ingress-operator; 1975-01-01 to 4096-01-01; for localhost, 127.0.0.1, ::1

        credential platform (cp4d)
          ok    secret       api_key: file FOLDER/api-key
          ok    login        POST /icp4d-api/v1/authorize: 200 in N ms
          ok    clock        within 5 s of ours
          ok    credential   TIME left
                attached     authorization: Bearer …, by route platform
                claims       username canary-user, sub canary-user, uid UID, iss KNOXSSO, aud DSX, iat TIME, exp TIME

        route platform (upstream platform)
          ok    request      GET /ml/v1/foundation_model_specs: 200 in N ms
          ok    clock        within 5 s of ours

        nothing failed
    "#]].assert_eq(&output);
    assert_eq!(code, 0);
    assert_documented(&output);

    let (code, output) = doctor(&world, &config, &[]);
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("credential license (token)"), "{output}");
    assert_eq!(world.got().len(), 1, "only --path asks an upstream");

    let (code, _, errors) = run(
        &["doctor", "--config", "proxy.toml", "nobody"],
        world.folder.path(),
        "",
    );
    assert_eq!(code, 2);
    assert!(errors.contains("platform"), "{errors}");
    for path in ["/usermgmt/v1/user/apiKey", "//x", "no-slash"] {
        let (code, _, errors) = run(
            &["doctor", "--config", "proxy.toml", "--path", path],
            world.folder.path(),
            "",
        );
        assert_eq!(code, 2, "{errors}");
    }
}

#[test]
fn an_authority_that_is_not_known() {
    let world = World::new();
    let config = world
        .config("", USUAL_ROUTES)
        .replace("tls = { ca = \"ca.crt\" }", "");
    let (code, output) = doctor(&world, &config, &["platform"]);
    expect![[r#"
        configuration
          ok    source       proxy.toml

        server https://127.0.0.1:PLATFORM (upstream platform, credential platform)
          ok    name         127.0.0.1
          ok    connection   127.0.0.1:PLATFORM in N ms
          FAIL  TLS          not trusted: no authority that is trusted has signed it
                certificate  CN=simulator; signed by CN=simulator ingress-operator; 1975-01-01 to 4096-01-01; for localhost, 127.0.0.1, ::1
                to do        upstream platform: tls = { ca = "FILE" } with the certificate of that authority (--ca FILE without a configuration file)

        credential platform (cp4d)
          ok    secret       api_key: file FOLDER/api-key
          FAIL  login        not tried: see server https://127.0.0.1:PLATFORM above

        something failed
    "#]].assert_eq(&output);
    assert_eq!(code, 1);
    assert_eq!(world.simulator.requests().len(), 0, "something was sent");
    assert_documented(&output);

    // The pin of the wrong key, and what to write instead.
    let other = Simulator::start(Options::default()).unwrap();
    other.write_ca(world.path("ca.crt")).unwrap();
    let (code, output) = doctor(&world, &world.config("", USUAL_ROUTES), &["platform"]);
    assert_eq!(code, 1);
    assert!(output.contains("FAIL  TLS"), "{output}");
    assert_eq!(world.simulator.requests().len(), 0, "something was sent");
}

#[test]
fn a_certificate_that_signs_itself_is_pinned_as_told() {
    let world = World::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    let address = hangs_up(certificate.der().clone(), &key);
    let config = |tls: &str| {
        format!(
            "listener.local = {{ address = '127.0.0.1:0' }}\n[upstream.own]\nurl = 'https://localhost:{}'\n{tls}\n\
             [credential.own.token]\nvalue = {{ file = 'license-token' }}\n\
             [route.own]\npath = '/'\nupstream = 'own'\nattach = 'own'\n",
            address.port()
        )
    };
    world.write("proxy.toml", &config(""));
    let (code, output, _) = run(
        &["doctor", "--config", "proxy.toml"],
        world.folder.path(),
        "",
    );
    assert_eq!(code, 1);
    let start = output.find("pin = [").unwrap_or_else(|| panic!("{output}"));
    let pin = &output[start..=start + output[start..].find(']').unwrap()];
    world.write("proxy.toml", &config(&format!("tls = {{ {pin} }}")));
    let (code, output, _) = run(
        &["doctor", "--config", "proxy.toml"],
        world.folder.path(),
        "",
    );
    assert_eq!(code, 0, "{output}");
}

#[test]
fn a_dead_server_a_wrong_name_and_a_wrong_key() {
    let world = World::new();
    let config = world.config("", USUAL_ROUTES);
    let nobody = Nobody::new();
    let dead = format!("https://{}", nobody.address());
    let (code, output) = doctor(
        &world,
        &config.replace(&world.simulator.platform_url(), &dead),
        &["platform"],
    );
    assert_eq!(code, 1);
    assert!(output.contains("FAIL  connection"), "{output}");
    assert!(output.contains("not tried: see server"), "{output}");

    let wrong = config.replace(
        "tls = { ca = \"ca.crt\" }",
        "tls = { ca = \"ca.crt\", server_name = \"elsewhere.example\" }",
    );
    let (code, output) = doctor(&world, &wrong, &["platform"]);
    assert_eq!(code, 1);
    assert!(
        output.contains("the certificate is for other names"),
        "{output}"
    );
    assert!(output.contains("server_name = \"localhost\""), "{output}");

    let nowhere = config.replace(
        &world.simulator.platform_url(),
        "https://no-such-host.invalid",
    );
    let (code, output) = doctor(&world, &nowhere, &["platform"]);
    assert_eq!(code, 1);
    assert!(output.contains("FAIL  name"), "{output}");

    world.write("api-key", "canary-wrong-key");
    let (code, output) = doctor(&world, &config, &["platform"]);
    assert_eq!(code, 1);
    expect![[r#"
        configuration
          ok    source       proxy.toml

        server https://127.0.0.1:PLATFORM (upstream platform, credential platform)
          ok    name         127.0.0.1
          ok    connection   127.0.0.1:PLATFORM in N ms
          ok    TLS          TLS 1.3; the server is trusted
                certificate  CN=simulator; signed by CN=simulator ingress-operator; 1975-01-01 to 4096-01-01; for localhost, 127.0.0.1, ::1

        credential platform (cp4d)
          ok    secret       api_key: file FOLDER/api-key
          FAIL  login        POST /icp4d-api/v1/authorize: 401 in N ms; it says: User unauthorized to invoke this endpoint.
          ok    clock        within 5 s of ours
          FAIL  credential   the login was refused: /icp4d-api/v1/authorize answered 401 Unauthorized
                to do        check user and secret; with single sign-on only API keys work; it is not tried again here, because accounts are locked

        something failed
    "#]].assert_eq(&output);
    assert_eq!(world.simulator.logins().authorize.refused, 1, "tried once");

    std::fs::remove_file(world.path("api-key")).unwrap();
    let (code, output) = doctor(&world, &config, &["platform"]);
    assert_eq!(code, 1);
    assert!(
        output.contains("api_key: file FOLDER/… does not exist"),
        "{output}"
    );
}

#[test]
fn a_clock_that_is_wrong() {
    let world = World::new();
    world.simulator.set_clock_skew(3600);
    let config = world.config("", USUAL_ROUTES);
    let (code, output) = doctor(&world, &config, &["platform"]);
    assert_eq!(code, 1, "{output}");
    assert!(
        output.contains("FAIL  clock        the server's is 36")
            && output.contains("ahead of ours"),
        "{output}"
    );

    // By its Date, where the token tells nothing.
    let address = scripted(|stream, _| {
        let body = r#"{"token":"canary-opaque"}"#;
        let answer = format!(
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let _ = stream.write_all(answer.as_bytes());
    });
    let config = format!(
        "listener.local = {{ address = '127.0.0.1:0' }}\n[upstream.odd]\nurl = 'http://{address}'\nplain_http = true\n\
         [credential.odd.cp4d]\nupstream = 'odd'\nusername = 'canary-user'\napi_key = {{ file = 'api-key' }}\n\
         [route.odd]\npath = '/'\nupstream = 'odd'\nattach = 'odd'\n"
    );
    let (code, output) = doctor(&world, &config, &[]);
    assert_eq!(code, 1);
    assert!(
        output.contains("s behind ours") && !output.contains("canary-opaque"),
        "{output}"
    );
    assert!(
        output.contains("warn  waived       plain_http at upstream.odd"),
        "{output}"
    );
}

#[test]
fn a_license_service_that_takes_no_token_by_its_url() {
    let world = World::with(|options| options.url_based_enabled = false);
    let config = world.config("", USUAL_ROUTES);
    let (code, output) = doctor(&world, &config, &["license", "--path", "/products"]);
    assert_eq!(code, 1);
    assert!(
        output.contains("urlBasedEnabled") && output.contains("service_account"),
        "{output}"
    );
    assert!(output.contains("it says: "), "{output}");
    assert!(world.got_one().path().starts_with("/products"));
}

/// A server that shakes hands with whoever trusts it, and hangs up.
fn hangs_up(
    certificate: rustls::pki_types::CertificateDer<'static>,
    key: &rcgen::KeyPair,
) -> std::net::SocketAddr {
    tls_server(certificate, key, |mut connection, mut stream| {
        while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
    })
}
