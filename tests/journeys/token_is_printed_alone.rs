//! `token` prints a value that works, and nothing else where a script reads it.

use simulator::Outage;

use crate::proxy::{USUAL_ROUTES, World, assert_no_secret, run};

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
