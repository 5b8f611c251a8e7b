//! The configuration without a file: one platform, one user, one listener, from the flags of the command line. What
//! `--ibm-env` names is read in `ibm`.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use http::header::AUTHORIZATION;
use token_source::{
    Kind, Location, Origin, Settings, Trust,
    credential::{Proof, Text},
    tls::Roots,
};

use super::{
    Admin, Attachment, Config, Forwarded, ListenAddress, Listener, Place, Protocol, Route,
    TokenEndpoints, Upstream, Waiver, check, defaults, ibm,
    reading::Wrong,
    report::{self, Mistake, Report, Severity},
    source::{Environment, Loaded, conclude},
};

/// The flags of `serve` that stand for a file, as given; what is missing or wrong is told by
/// [`Config::load`](super::Config::load).
#[derive(Clone, Default)]
pub struct FlagForm {
    /// `--upstream`: base URL of the platform.
    pub upstream: Option<String>,
    /// `--ibm-env`: the service whose properties take the place of the flags for platform and user.
    pub ibm_env: Option<String>,
    /// `--username`.
    pub username: Option<String>,
    /// `--api-key-file`.
    pub api_key_file: Option<PathBuf>,
    /// `--password-file`.
    pub password_file: Option<PathBuf>,
    /// `--listen`; default `127.0.0.1:8080`.
    pub listen: Option<String>,
    /// `--ca`: PEM file that replaces the system's roots.
    pub ca: Option<PathBuf>,
    /// `--admin`; default `127.0.0.1:9090`.
    pub admin: Option<String>,
    /// `--plain-http`: waives TLS for an `http://` upstream.
    pub plain_http: bool,
}

/// Without the URL, which may have a password in it until it is checked.
impl fmt::Debug for FlagForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlagForm")
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// The configuration that the flags stand for.
pub(super) fn check(
    form: &FlagForm,
    strict: bool,
    environment: &Environment,
) -> Result<Loaded, Report> {
    if let Some(service) = &form.ibm_env {
        return ibm::check(form, service, strict, environment);
    }
    let mut flags = Flags::new(environment);
    let address = flags.address(form.listen.as_deref());
    let admin = flags.admin(form.admin.as_deref());
    let origin = flags.origin(form);
    let username = flags.username(form.username.as_deref());
    let proof = flags.proof(form);
    let config = || {
        let name = Arc::from(PLATFORM);
        let origin = origin?;
        let waiver = Waiver {
            kind: "plain_http",
            place: "--upstream".to_owned(),
        };
        let waivers = if origin.tls { Vec::new() } else { vec![waiver] };
        let login = Origin {
            base_path: String::new(),
            ..origin.clone()
        };
        let kind = Kind::Cp4d {
            origin: login,
            username: username?,
            proof: proof?,
            account_id: None,
        };
        Some(Config {
            workers: defaults::workers(),
            listeners: vec![listener(address?)],
            admin: admin?,
            upstreams: vec![upstream(&name, origin)],
            routes: vec![route(&name, Some(kind.scheme()))],
            callers: Vec::new(),
            poll: defaults::POLL,
            credentials: vec![credential(&name, kind)],
            log: defaults::log(),
            state_dir: defaults::state_dir(environment),
            drain_delay: defaults::DRAIN_DELAY,
            drain_timeout: defaults::DRAIN_TIMEOUT,
            waivers,
        })
    };
    let config = config();
    conclude(
        config,
        flags.mistakes,
        strict,
        "the command line".to_owned(),
    )
}

/// What the flags say, and what is wrong with them.
pub(super) struct Flags<'a> {
    environment: &'a Environment,
    pub(super) mistakes: Vec<Mistake>,
}

impl<'a> Flags<'a> {
    pub(super) fn new(environment: &'a Environment) -> Self {
        Self {
            environment,
            mistakes: Vec::new(),
        }
    }

    pub(super) fn address(&mut self, listen: Option<&str>) -> Option<ListenAddress> {
        let address = match listen.map(check::listen_address) {
            None => ListenAddress::Tcp(vec![defaults::LISTEN_ADDRESS]),
            Some(Ok(check::Written::Tcp(addresses))) => ListenAddress::Tcp(addresses),
            Some(Ok(check::Written::Unix(path))) => ListenAddress::Unix {
                path: self.resolve(Path::new(&path)),
                mode: defaults::SOCKET_MODE,
                uids: Vec::new(),
                gids: Vec::new(),
            },
            Some(Err(wrong)) => return self.wrong("--listen", wrong),
        };
        if address.is_local() {
            return Some(address);
        }
        let wrong = Wrong::new(
            "anyone who reaches this address would act with your credential",
            "127.0.0.1:8080; for others to use it write a file, with anyone = true and a preset",
        );
        self.wrong("--listen", wrong)
    }

    pub(super) fn admin(&mut self, admin: Option<&str>) -> Option<Admin> {
        let address = match admin.map(check::loopback_address) {
            None => defaults::ADMIN_ADDRESS,
            Some(Ok(address)) => address,
            Some(Err(wrong)) => return self.wrong("--admin", wrong),
        };
        Some(Admin {
            address,
            address_is_default: admin.is_none(),
            probes: None,
        })
    }

    pub(super) fn roots(&mut self, form: &FlagForm) -> Roots {
        match &form.ca {
            Some(path) => Roots::Bundle(Location::File {
                path: self.file("--ca", path),
                field: None,
            }),
            None => Roots::System,
        }
    }

    fn origin(&mut self, form: &FlagForm) -> Option<Origin> {
        let roots = self.roots(form);
        let Some(url) = &form.upstream else {
            let hint = "--upstream https://cpd-instance.apps.example.com";
            return self.wrong("--upstream", Wrong::new("missing", hint));
        };
        let trust = Trust {
            roots,
            ..Trust::default()
        };
        match Origin::parse(url, Arc::new(trust)) {
            Err(error) => self.wrong("--upstream", check::origin_wrong(error)),
            Ok(origin) if !origin.tls && !form.plain_http => {
                let what = "your credential would cross the network in the clear";
                let hint = "write https://, or waive TLS by name: --plain-http";
                self.wrong("--upstream", Wrong::new(what, hint))
            }
            Ok(origin) => Some(origin),
        }
    }

    fn username(&mut self, username: Option<&str>) -> Option<Text> {
        match username {
            Some(name) if !name.is_empty() && !name.chars().any(char::is_control) => {
                Some(Text::Literal(name.to_owned()))
            }
            _ => {
                let wrong = Wrong::new("missing or empty", "the user of the platform");
                self.wrong("--username", wrong)
            }
        }
    }

    fn proof(&mut self, form: &FlagForm) -> Option<Proof> {
        let hint = "one of --api-key-file FILE and --password-file FILE";
        match (&form.api_key_file, &form.password_file) {
            (Some(path), None) => {
                let path = self.file("--api-key-file", path);
                Some(Proof::ApiKey(Location::File { path, field: None }))
            }
            (None, Some(path)) => {
                let path = self.file("--password-file", path);
                Some(Proof::Password(Location::File { path, field: None }))
            }
            (None, None) => self.wrong("--api-key-file", Wrong::new("missing", hint)),
            (Some(_), Some(_)) => self.wrong(
                "--password-file",
                Wrong::new("there is an API key as well", hint),
            ),
        }
    }

    /// A file that should be there; the shell has expanded `~`.
    fn file(&mut self, flag: &'static str, path: &Path) -> PathBuf {
        let path = self.resolve(path);
        if let Some(wrong) = check::warn_if_not_there(&path) {
            self.note(Severity::Warning, flag, wrong);
        }
        path
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        self.environment.working_directory().join(path)
    }

    fn wrong<T>(&mut self, flag: &'static str, wrong: Wrong) -> Option<T> {
        self.note(Severity::Error, flag, wrong);
        None
    }

    fn note(&mut self, severity: Severity, flag: &'static str, wrong: Wrong) {
        self.mistakes.push(Mistake {
            severity,
            place: report::Place::Flag(flag),
            what: wrong.what.into_owned(),
            hint: wrong.hint.into_owned(),
        });
    }
}

pub(super) fn listener(address: ListenAddress) -> Listener {
    Listener {
        name: Arc::from("local"),
        address,
        tls: None,
        client_ca: None,
        callers: Vec::new(),
        hosts: Vec::new(),
        origins: Vec::new(),
        head_timeout: defaults::HEAD_TIMEOUT,
        keep_alive: defaults::KEEP_ALIVE,
        stall_timeout: defaults::STALL_TIMEOUT,
        max_head_size: defaults::MAX_HEAD_SIZE,
        max_connections: defaults::MAX_CONNECTIONS,
        routes: vec![0],
    }
}

pub(super) fn upstream(name: &Arc<str>, origin: Origin) -> Upstream {
    Upstream {
        name: Arc::clone(name),
        origin,
        protocol: Protocol::Http1,
        connect_timeout: defaults::CONNECT_TIMEOUT,
        first_byte_timeout: defaults::FIRST_BYTE_TIMEOUT,
        idle_timeout: defaults::IDLE_TIMEOUT,
    }
}

pub(super) fn credential(name: &Arc<str>, kind: Kind) -> Settings {
    Settings {
        name: Arc::clone(name),
        kind,
        lifetime: None,
        wait_for_token: None,
        poll: defaults::POLL,
    }
}

/// Everything passes but the token endpoints: on one's own machine any path of the platform should work. Logins get
/// decoys, since only this machine can call. `scheme` is that of the credential, if there is one.
pub(super) fn route(name: &Arc<str>, scheme: Option<&str>) -> Route {
    let attachment = |scheme: &str| Attachment {
        credential: 0,
        place: Place::Header {
            name: AUTHORIZATION,
            scheme: scheme.to_owned(),
        },
    };
    Route {
        name: Arc::clone(name),
        prefix: Vec::new(),
        host: None,
        upstream: 0,
        attach: scheme.map(attachment).into_iter().collect(),
        strip_prefix: false,
        allow: None,
        deny: Vec::new(),
        warn: false,
        public: Vec::new(),
        token_endpoints: match scheme {
            Some(_) => TokenEndpoints::Decoy,
            None => TokenEndpoints::Deny,
        },
        pass_cookies: false,
        scrub_body: false,
        set_headers: Vec::new(),
        default_query: Vec::new(),
        drop_query: Vec::new(),
        max_body: None,
        max_in_flight: None,
        rate_limit: None,
        replay_limit: defaults::REPLAY_LIMIT,
        forwarded: Forwarded::Remove,
    }
}

const PLATFORM: &str = "platform";
