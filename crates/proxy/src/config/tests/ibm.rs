//! IBM's own properties: where they are looked for, what they become, and what is told of mistakes in them.

use std::fs;

use expect_test::expect;
use tempfile::TempDir;
use token_source::{Kind, Location, credential::Proof, tls::Roots};

use crate::config::{Config, Environment, FlagForm, Loaded, Place, Report, Source};

const CANARY: &str = "c4naryDEF0123456789";

/// A home and a working directory, and what the environment holds besides.
struct Setting {
    folder: TempDir,
    variables: Vec<(String, String)>,
    form: FlagForm,
}

impl Setting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["home", "work"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self {
            folder,
            variables: Vec::new(),
            form: FlagForm {
                ibm_env: Some("watsonx".into()),
                ..FlagForm::default()
            },
        }
    }

    fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.folder.path().join(name), text).unwrap();
        self
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn all(self, variables: &[(&str, &str)]) -> Self {
        variables
            .iter()
            .fold(self, |setting, (name, value)| setting.set(name, value))
    }

    fn load(&self) -> Result<Loaded, Report> {
        let home = self.folder.path().join("home");
        let mut variables = self.variables.clone();
        variables.push(("HOME".into(), home.display().to_string()));
        let environment = Environment::new(variables, self.folder.path().join("work"));
        Config::load(&Source::Flags(self.form.clone()), false, &environment)
    }

    /// The report, without the folder and never with a secret.
    fn told(&self) -> String {
        let report = match self.load() {
            Err(report) => report.to_string(),
            Ok(loaded) => loaded
                .warnings
                .iter()
                .map(|one| format!("{one}\n"))
                .collect(),
        };
        assert!(!report.contains(CANARY), "{report}");
        report.replace(&self.folder.path().display().to_string(), "FOLDER")
    }

    fn config(&self) -> Config {
        self.load()
            .unwrap_or_else(|report| panic!("{report}"))
            .config
    }
}

const CP4D: &str = "WATSONX_URL=https://cpd.example.com\nWATSONX_AUTH_TYPE=cp4d\nWATSONX_USERNAME=svc\nWATSONX_APIKEY=k\n";

const CP4D_VARIABLES: [(&str, &str); 4] = [
    ("WATSONX_URL", "https://cpd.example.com"),
    ("WATSONX_AUTH_TYPE", "cp4d"),
    ("WATSONX_USERNAME", "svc"),
    ("WATSONX_APIKEY", CANARY),
];

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
fn lines_that_say_nothing_are_told() {
    let text = format!(
        "\u{feff}WATSONX_URL=https://cpd.example.com\nWATSONX_AUTH_TYPE=noAuth\n{CANARY}\nexport WATSONX_APIKEY={CANARY}\n\
         export OTHER_URL=x\n# {CANARY}\n\n{CANARY}\nexport  WATSONX_USERNAME={CANARY}\n"
    );
    let setting = Setting::new().file("home/ibm-credentials.env", &text);
    expect![[r#"
        warning: passed over: lines 3, 8 without `=`
         --> FOLDER/home/ibm-credentials.env:3:1
          |
        3 | ***
          | ^^^
          |
          = help: WATSONX_NAME=VALUE; a comment begins with `#`
        warning: passed over: lines 4, 9 with `export`
         --> FOLDER/home/ibm-credentials.env:4:1
          |
        4 | ***
          | ^^^
          |
          = help: WATSONX_NAME=VALUE alone: IBM's SDKs do not read such a line either
    "#]]
    .assert_eq(&setting.told());

    let text = format!("export WATSONX_URL=x\n{CANARY}\n");
    let setting = Setting::new().file("home/ibm-credentials.env", &text);
    expect![[r#"
        error: --ibm-env: there is no property WATSONX_…
         |
         = help: looked for $IBM_CREDENTIALS_FILE, ./ibm-credentials.env, ~/ibm-credentials.env, environment variables, $VCAP_SERVICES: WATSONX_URL and WATSONX_AUTH_TYPE, for instance

        warning: passed over: line 2 without `=`
         --> FOLDER/home/ibm-credentials.env:2:1
          |
        2 | ***
          | ^^^
          |
          = help: WATSONX_NAME=VALUE; a comment begins with `#`

        warning: passed over: line 1 with `export`
         --> FOLDER/home/ibm-credentials.env:1:1
          |
        1 | ***
          | ^^^
          |
          = help: WATSONX_NAME=VALUE alone: IBM's SDKs do not read such a line either

        1 mistake, 2 warnings"#]].assert_eq(&setting.told());

    // Where the properties are elsewhere, it is not for this file to say them.
    let setting = setting.all(&CP4D_VARIABLES);
    assert_eq!(setting.told(), "");
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
fn a_file_stands_for_a_configuration() {
    let text = format!(
        "{CP4D}WATSONX_AUTH_URL=https://login.example.com/icp4d-api/\nWATSONX_APIKEY=new=key\n"
    );
    let setting = Setting::new().file("home/ibm-credentials.env", &text);
    let config = setting.config();
    assert_eq!(config.upstreams[0].origin.url(), "https://cpd.example.com");
    assert_eq!(&*config.credentials[0].name, "watsonx");
    assert!(config.waivers.is_empty());
    let Kind::Cp4d { origin, proof, .. } = &config.credentials[0].kind else {
        panic!("{config:?}")
    };
    assert_eq!(origin.url(), "https://login.example.com");
    let Proof::ApiKey(Location::Property { path, name }) = proof else {
        panic!("{proof:?}")
    };
    assert!(path.ends_with("home/ibm-credentials.env"));
    assert_eq!(name, "WATSONX_APIKEY");
    assert!(!format!("{config:?}").contains("new=key"));
}

#[test]
fn a_login_url_is_taken_as_people_write_it() {
    for (written, understood) in [
        ("https://host", "https://host"),
        ("https://host/", "https://host"),
        ("https://host/icp4d-api", "https://host"),
        ("https://host/icp4d-api/v1/authorize", "https://host"),
        ("https://host/v1/authorize", "https://host"),
        ("https://host/zen/icp4d-api", "https://host/zen"),
    ] {
        let setting = Setting::new()
            .all(&CP4D_VARIABLES)
            .set("WATSONX_AUTH_URL", written);
        let config = setting.config();
        assert_eq!(
            config.credentials[0].kind.servers()[0].url(),
            understood,
            "{written}"
        );
    }
    // Without one it is the server of the service.
    let setting = Setting::new()
        .all(&CP4D_VARIABLES)
        .set("WATSONX_URL", "https://cpd.example.com/some/path");
    let config = setting.config();
    assert_eq!(
        config.credentials[0].kind.servers()[0].url(),
        "https://cpd.example.com"
    );
    assert_eq!(config.upstreams[0].origin.base_path, "/some/path");
}

#[test]
fn each_login_becomes_its_kind() {
    let base = [
        ("WATSONX_URL", "https://h"),
        ("WATSONX_USERNAME", "u"),
        ("WATSONX_PASSWORD", "p"),
        ("WATSONX_BEARER_TOKEN", "t"),
        ("WATSONX_IAM_PROFILE_ID", "Profile-7"),
        ("WATSONX_SCOPE_COLLECTION_TYPE", "services"),
        ("WATSONX_SCOPE_ID", "7"),
        ("WATSONX_CALLER_EXT_CLAIM", r#"{"a":1}"#),
    ];
    for (auth_type, kind, scheme) in [
        ("Basic", "basic", "Basic"),
        ("BEARERTOKEN", "token", "Bearer"),
        ("cp4d", "cp4d", "Bearer"),
        ("iam", "iam", "Bearer"),
        ("iamAssume", "iam_assume", "Bearer"),
        ("CONTAINER", "container", "Bearer"),
        ("vpc", "vpc", "Bearer"),
        ("mcsp", "mcsp", "Bearer"),
        ("mcspV2", "mcsp_v2", "Bearer"),
    ] {
        let setting = Setting::new().all(&base);
        let setting = match auth_type {
            "iam" | "iamAssume" => setting.set("WATSONX_APIKEY", "k"),
            "mcsp" | "mcspV2" => setting
                .set("WATSONX_APIKEY", "k")
                .set("WATSONX_AUTH_URL", "https://login.example.com"),
            _ => setting,
        };
        let config = setting.set("WATSONX_AUTHTYPE", auth_type).config();
        assert_eq!(config.credentials[0].kind.name(), kind);
        let Place::Header {
            scheme: attached, ..
        } = &config.routes[0].attach[0].place
        else {
            panic!("not a header")
        };
        assert_eq!(attached, scheme);
    }
    let config = Setting::new()
        .all(&base)
        .set("WATSONX_AUTH_TYPE", "noauth")
        .config();
    assert!(config.credentials.is_empty() && config.routes[0].attach.is_empty());
}

#[test]
fn waivers_are_named_by_their_properties() {
    let mut setting = Setting::new()
        .all(&CP4D_VARIABLES)
        .set("WATSONX_DISABLE_SSL", "True")
        .set("WATSONX_AUTH_DISABLE_SSL", "true")
        .set("WATSONX_AUTH_URL", "http://login");
    assert!(setting.told().contains("--plain-http"));
    setting.form.plain_http = true;
    let config = setting.config();
    let waivers: Vec<_> = config
        .waivers
        .iter()
        .map(|waiver| (waiver.kind, waiver.place.as_str()))
        .collect();
    assert_eq!(
        waivers,
        [
            ("insecure", "WATSONX_DISABLE_SSL"),
            ("insecure", "WATSONX_AUTH_DISABLE_SSL"),
            ("plain_http", "WATSONX_AUTH_URL"),
        ]
    );
    setting.form.ca = Some("ca.crt".into());
    assert!(setting.told().contains("--ca says what to check"));

    let mut setting = Setting::new().all(&CP4D_VARIABLES);
    setting.form.ca = Some("ca.crt".into());
    let config = setting.config();
    for origin in [
        &config.upstreams[0].origin,
        config.credentials[0].kind.servers()[0],
    ] {
        assert!(matches!(origin.trust.roots, Roots::Bundle(_)));
    }
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
fn every_mistake_is_told_at_once() {
    let text = format!(
        "WATSONX_URL=https://{CANARY}@host\n\
         # WATSONX_APIKEY={CANARY}\n\
         WATSONX_AUTH_TYPE=CP4D\n\
         WATSONX_USERNAM={CANARY}\n\
         WATSONX_PASSWORD=\"{CANARY}\"\n\
         WATSONX_APIKEY={CANARY}\n\
         WATSONX_SCOPE=x\n\
         WATSONX_ENABLE_GZIP=true\n\
         WATSONX_PROJECT_ID={CANARY}\n\
         WATSONX_APIKEY{CANARY}==\n\
         WATSONX_AUTH_DISABLE_SSL={CANARY}\n"
    );
    let setting = Setting::new().file("home/ibm-credentials.env", &text);
    expect![[r#"
        error: WATSONX_USERNAME is missing
        --> FOLDER/home/ibm-credentials.env
         = help: this login needs it

        error: a URL must not carry a user or password
         --> FOLDER/home/ibm-credentials.env:1:1
          |
        1 | WATSONX_URL=***
          | ^^^^^^^^^^^
          |
          = help: leave out `user:password@`; a [credential.…] table says who the proxy is

        error: not a property of IBM's SDKs
         --> FOLDER/home/ibm-credentials.env:4:1
          |
        4 | WATSONX_USERNAM=***
          | ^^^^^^^^^^^^^^^
          |
          = help: did you mean `WATSONX_USERNAME`?

        warning: the quotes are part of the value
         --> FOLDER/home/ibm-credentials.env:5:1
          |
        5 | WATSONX_PASSWORD=***
          | ^^^^^^^^^^^^^^^^
          |
          = help: leave them out, unless they belong to it

        error: there is an APIKEY as well
         --> FOLDER/home/ibm-credentials.env:5:1
          |
        5 | WATSONX_PASSWORD=***
          | ^^^^^^^^^^^^^^^^
          |
          = help: keep one of the two

        warning: the login cp4d does not use it
         --> FOLDER/home/ibm-credentials.env:7:1
          |
        7 | WATSONX_SCOPE=***
          | ^^^^^^^^^^^^^
          |
          = help: it uses AUTH_URL, AUTH_DISABLE_SSL, USERNAME, PASSWORD, APIKEY, CP4D_ACCOUNT_ID

        warning: it means nothing to a proxy
         --> FOLDER/home/ibm-credentials.env:8:1
          |
        8 | WATSONX_ENABLE_GZIP=***
          | ^^^^^^^^^^^^^^^^^^^
          |
          = help: it stays with the clients

        warning: not a property of IBM's SDKs
         --> FOLDER/home/ibm-credentials.env:9:1
          |
        9 | WATSONX_PROJECT_ID=***
          | ^^^^^^^^^^^^^^^^^^
          |
          = help: it is not used; other programs may know it

        warning: not a property of IBM's SDKs
          --> FOLDER/home/ibm-credentials.env:10:1
           |
        10 | WATSONX_…=***
           | ^^^^^^^^^
           |
           = help: it is not used; other programs may know it

        error: neither true nor false
          --> FOLDER/home/ibm-credentials.env:11:1
           |
        11 | WATSONX_AUTH_DISABLE_SSL=***
           | ^^^^^^^^^^^^^^^^^^^^^^^^
           |
           = help: true or false

        5 mistakes, 5 warnings"#]]
    .assert_eq(&setting.told());
}

#[test]
fn what_is_not_there_is_told() {
    expect![[r#"
        error: --ibm-env: there is no property WATSONX_…
         |
         = help: looked for $IBM_CREDENTIALS_FILE, ./ibm-credentials.env, ~/ibm-credentials.env, environment variables, $VCAP_SERVICES: WATSONX_URL and WATSONX_AUTH_TYPE, for instance

        1 mistake"#]].assert_eq(&Setting::new().told());
    let only_url = Setting::new().set("WATSONX_URL", "https://h");
    expect![[r#"
        error: --ibm-env: WATSONX_IAM_PROFILE_ID is missing
         |
         = help: this login needs it, or IAM_PROFILE_NAME

        1 mistake"#]]
    .assert_eq(&only_url.told());
    let mut nameless = Setting::new();
    nameless.form.ibm_env = Some(format!("{CANARY}="));
    nameless.form.listen = Some("0.0.0.0:1".into());
    expect![[r#"
        error: --listen: anyone who reaches this address would act with your credential
         |
         = help: 127.0.0.1:8080; for others to use it write a file, with anyone = true and a preset

        error: --ibm-env: not the name of a service
         |
         = help: the part of WATSONX_URL and WATSONX_APIKEY before URL and APIKEY: --ibm-env WATSONX

        2 mistakes"#]]
    .assert_eq(&nameless.told());
    let unreadable = Setting::new().set("IBM_CREDENTIALS_FILE", "/no/such/file");
    expect![[r#"
        error: the configuration cannot be read
        --> /no/such/file
         = help: there is no such file

        1 mistake"#]]
    .assert_eq(&unreadable.told());
    let near = Setting::new()
        .all(&CP4D_VARIABLES)
        .set("WATSONX_AUTH_TYPE", "cpd4");
    expect![[r#"
        error: $WATSONX_AUTH_TYPE: not a way to log in
         |
         = help: did you mean `cp4d`?

        1 mistake"#]]
    .assert_eq(&near.told());
}

#[test]
fn only_the_metadata_login_speaks_plain_http_to_the_metadata_service() {
    let base = [
        ("WATSONX_URL", "https://h"),
        ("WATSONX_AUTH_URL", "http://169.254.169.254"),
        ("WATSONX_APIKEY", CANARY),
    ];
    for (auth_type, is_right) in [("vpc", true), ("iam", false), ("mcsp", false)] {
        let setting = Setting::new().all(&base);
        let setting = setting.set("WATSONX_AUTH_TYPE", auth_type);
        assert_eq!(setting.load().is_ok(), is_right, "{}", setting.told());
    }
    let setting = Setting::new().all(&[
        ("WATSONX_URL", "http://169.254.169.254"),
        ("WATSONX_AUTH_TYPE", "vpc"),
    ]);
    assert!(setting.load().is_err());
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
