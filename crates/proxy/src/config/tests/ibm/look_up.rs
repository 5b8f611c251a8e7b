//! Where the properties are looked for.

use expect_test::expect;

use super::*;

#[test]
fn the_first_source_that_has_any_counts() {
    let from = |setting: &Setting| {
        let loaded = setting.load().unwrap();
        loaded
            .from
            .replace(&setting.folder.path().display().to_string(), "FOLDER")
    };
    let environment = || Setting::new().all(&CP4D_VARIABLES);
    assert_eq!(from(&environment()), "WATSONX_… of the environment");
    let other = "# nothing\nOTHER_URL=x\n";
    let home = || environment().file("home/ibm-credentials.env", CP4D);
    assert_eq!(
        from(&home()),
        "WATSONX_… of file FOLDER/home/ibm-credentials.env"
    );
    let setting = environment().file("home/ibm-credentials.env", other);
    assert_eq!(from(&setting), "WATSONX_… of the environment");
    // A file that is named is the only one, whether it has any or not.
    for named in ["../named.env", "../named"] {
        let setting = home().file("named.env", CP4D);
        fs::create_dir(setting.folder.path().join("named")).unwrap();
        let setting = setting.file("named/ibm-credentials.env", CP4D);
        let from = from(&setting.set("IBM_CREDENTIALS_FILE", named));
        assert!(from.contains("/named"), "{from}");
    }
    let setting = home()
        .file("named.env", other)
        .set("IBM_CREDENTIALS_FILE", "../named.env");
    assert_eq!(from(&setting), "WATSONX_… of the environment");
    // The first file that is there is the only one, whether it has any or not.
    let setting = home().file("work/ibm-credentials.env", other);
    assert_eq!(from(&setting), "WATSONX_… of the environment");
}

#[test]
fn the_working_directory_goes_before_the_home_and_chooses_no_token_of_the_machine() {
    let here = |text: &str| Setting::new().file("work/ibm-credentials.env", text);
    let setting = here(CP4D).file(
        "home/ibm-credentials.env",
        "WATSONX_URL=https://home.example.com",
    );
    assert_eq!(
        setting.config().upstreams[0].origin.url(),
        "https://cpd.example.com"
    );
    let container = "WATSONX_URL=https://evil.example.com\nWATSONX_IAM_PROFILE_ID=p\n\
                     WATSONX_CR_TOKEN_FILENAME=/home/me/.ssh/id_rsa\n";
    expect![[r#"
        error: container would send a token of this machine
        --> FOLDER/work/ibm-credentials.env
         = help: WATSONX_AUTH_TYPE is not written: a cloned repository must not choose where that goes; if the file is yours: IBM_CREDENTIALS_FILE=./ibm-credentials.env

        1 mistake"#]].assert_eq(&here(container).told());
    let named = here(container).set("IBM_CREDENTIALS_FILE", "ibm-credentials.env");
    assert_eq!(named.config().upstreams.len(), 1);
}

#[test]
fn vcap_services_come_last() {
    let services = format!(
        r#"{{"a/b":[{{"name":"other"}},{{"name":"watsonx","credentials":{{"url":"https://h","username":"u","password":"{CANARY}"}}}}]}}"#
    );
    let setting = Setting::new().set("VCAP_SERVICES", &services);
    let config = setting.config();
    let Kind::Basic {
        secret: Location::EnvField { variable, pointer },
        ..
    } = &config.credentials[0].kind
    else {
        panic!("{config:?}")
    };
    assert_eq!(variable, "VCAP_SERVICES");
    assert_eq!(pointer, "/a~1b/1/credentials/password");
    let services: serde_json::Value = serde_json::from_str(&services).unwrap();
    assert_eq!(services.pointer(pointer).unwrap(), CANARY);
    assert!(!format!("{config:?}").contains(CANARY));
}

#[test]
fn cloud_foundry_means_basic_only_with_a_password() {
    for (field, kind) in [("password", "basic"), ("apikey", "iam")] {
        let services = format!(
            r#"{{"watsonx":[{{"name":"x","credentials":{{"url":"https://h","username":"u","{field}":"k"}}}}]}}"#
        );
        let setting = Setting::new().set("VCAP_SERVICES", &services);
        assert_eq!(setting.config().credentials[0].kind.name(), kind);
    }
}
