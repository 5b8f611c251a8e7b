//! IBM's own properties: what they become; where they are looked for, and what is told of mistakes, in files of their own.

mod look_up;
mod mistakes;

use std::fs;

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
    // There is no TLS to give up.
    let setting = Setting::new().all(&base).set("WATSONX_AUTH_TYPE", "vpc");
    let setting = setting.set("WATSONX_AUTH_DISABLE_SSL", "true");
    assert!(setting.config().waivers.is_empty());
    let setting = Setting::new().all(&[
        ("WATSONX_URL", "http://169.254.169.254"),
        ("WATSONX_AUTH_TYPE", "vpc"),
    ]);
    assert!(setting.load().is_err());
}
