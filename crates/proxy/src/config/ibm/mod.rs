//! The configuration without a file, by IBM's own convention: the properties of a service, as IBM's SDK cores read them
//! from `ibm-credentials.env`, the environment or `VCAP_SERVICES`.

mod auth_type;
mod kinds;
mod look_up;
mod properties;

use std::sync::Arc;

use token_source::{Location, Origin, Trust, tls::Roots};

use self::{
    auth_type::{AUTH_TYPES, AuthType, Build},
    properties::Properties,
};
use super::{
    Config, Waiver, check, defaults,
    flags::{self, FlagForm, Flags},
    reading::Wrong,
    report::{self, Report},
    source::{Environment, Loaded, alone, conclude},
    wire::suggest,
};

/// The configuration that the properties of the service `name` stand for.
pub(super) fn check(
    form: &FlagForm,
    name: &str,
    strict: bool,
    environment: &Environment,
) -> Result<Loaded, Report> {
    let mut flags = Flags::new(environment);
    let address = flags.address(form.listen.as_deref());
    let admin = flags.admin(form.admin.as_deref());
    let roots = flags.roots(form);
    let found = service_name(name).and_then(|service| look_up::look_up(&service, environment));
    let (properties, mut mistakes) = match found {
        Ok(properties) => (properties, flags.mistakes),
        Err(mut report) => {
            flags.mistakes.append(&mut report.mistakes);
            return conclude(None, flags.mistakes, strict, String::new());
        }
    };
    let from = properties.from();
    let mut reading = Reading {
        properties,
        roots,
        plain_http: form.plain_http,
        service_origin: None,
        waivers: Vec::new(),
    };
    let config = reading.service().map(|(origin, kind)| {
        let name = Arc::from(reading.properties.service.to_ascii_lowercase());
        let attached = kind.as_ref().map(token_source::Kind::scheme);
        let routes = vec![flags::route(&name, attached)];
        Some(Config {
            workers: defaults::workers(),
            listeners: vec![flags::listener(address?)],
            admin: admin?,
            upstreams: vec![flags::upstream(&name, origin)],
            credentials: kind
                .into_iter()
                .map(|kind| flags::credential(&name, kind))
                .collect(),
            routes,
            callers: Vec::new(),
            poll: defaults::POLL,
            log: defaults::log(),
            state_dir: defaults::state_dir(environment),
            drain_delay: defaults::DRAIN_DELAY,
            drain_timeout: defaults::DRAIN_TIMEOUT,
            waivers: reading.waivers,
        })
    });
    mistakes.append(&mut reading.properties.told());
    conclude(config.flatten(), mistakes, strict, from)
}

/// The name as it begins the names of the properties: `watsonx-ai` is `WATSONX_AI`.
fn service_name(name: &str) -> Result<String, Report> {
    let is_known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b' ');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_known) {
        return Err(alone(
            report::Place::Flag(FLAG),
            "not the name of a service",
            "the part of WATSONX_URL and WATSONX_APIKEY before URL and APIKEY: --ibm-env WATSONX"
                .to_owned(),
        ));
    }
    Ok(name.to_ascii_uppercase().replace(['-', ' '], "_"))
}

/// A service's properties on the way to a configuration.
struct Reading {
    properties: Properties,
    roots: Roots,
    plain_http: bool,
    /// Where the service is, once that is known.
    service_origin: Option<Origin>,
    waivers: Vec<Waiver>,
}

/// The properties that name a server.
struct Keys {
    url: &'static str,
    /// Says to check nothing.
    waiver: &'static str,
    /// The `host[:port]` that is asked by plain HTTP without a waiver.
    plain_by_nature: Option<&'static str>,
}

impl Keys {
    const OF_SERVICE: Self = Self {
        url: "URL",
        waiver: "DISABLE_SSL",
        plain_by_nature: None,
    };
    const OF_LOGIN: Self = Self {
        url: "AUTH_URL",
        waiver: "AUTH_DISABLE_SSL",
        plain_by_nature: None,
    };
}

impl Reading {
    /// Where requests go, and what is attached, if anything.
    fn service(&mut self) -> Option<(Origin, Option<token_source::Kind>)> {
        let roots = self.roots.clone();
        let origin = match self.properties.text("URL") {
            Some(url) => self.origin(&Keys::OF_SERVICE, &url, roots),
            None => {
                let hint = "the base URL of the service: https://cpd-instance.apps.example.com";
                self.properties.missing("URL", hint);
                None
            }
        };
        self.service_origin.clone_from(&origin);
        let kind = self.auth_type().and_then(|auth_type| {
            let kind = match auth_type.build {
                Build::Nothing => Some(None),
                Build::Kind(_) if self.sends_what_is_not_its_own(auth_type) => None,
                Build::Kind(build) => build(self).map(Some),
            };
            self.properties.tell_the_rest(auth_type);
            kind
        });
        Some((origin?, kind?))
    }

    /// How to log in, by `AUTH_TYPE`; without it as IBM's cores guess.
    fn auth_type(&mut self) -> Option<&'static AuthType> {
        let written = self
            .properties
            .text("AUTH_TYPE")
            .or_else(|| self.properties.text("AUTHTYPE"));
        let name = match &written {
            Some(name) => name.as_str(),
            None if self.properties.has("APIKEY") => "iam",
            None => "container",
        };
        let found = AUTH_TYPES
            .iter()
            .find(|auth_type| auth_type.name.eq_ignore_ascii_case(name));
        if found.is_none() {
            let names = AUTH_TYPES.iter().map(|auth_type| auth_type.name);
            let hint = suggest(name, names, "it is one of");
            self.properties
                .wrong_type(Wrong::new("not a way to log in", hint));
        }
        found
    }

    /// A file that nobody named may say where its own secrets go, and not where those of this machine go.
    fn sends_what_is_not_its_own(&mut self, auth_type: &AuthType) -> bool {
        let is_of_machine = matches!(auth_type.name, "container" | "vpc");
        let refused = is_of_machine && self.properties.is_stumbled_upon;
        if refused {
            let what = format!("{} would send a token of this machine", auth_type.name);
            let hint = "a cloned repository must not choose where that goes; if the file is yours: \
                        IBM_CREDENTIALS_FILE=./ibm-credentials.env";
            self.properties.wrong_type(Wrong::new(what, hint));
        }
        refused
    }

    /// The server that a property names.
    fn origin(&mut self, keys: &Keys, url: &str, roots: Roots) -> Option<Origin> {
        let parsed = Origin::parse(url, Arc::default());
        let nature = keys.plain_by_nature;
        let is_plain = |origin: &Origin| !origin.tls && nature == Some(&origin.authority());
        if parsed.as_ref().is_ok_and(is_plain) {
            return parsed.ok();
        }
        let trust = self.trust(keys.waiver, roots);
        match parsed {
            Err(error) => self.properties.wrong(keys.url, check::origin_wrong(error)),
            Ok(origin) if !origin.tls && !self.plain_http => {
                let what = "your credential would cross the network in the clear";
                let hint = "write https://, or waive TLS by name: --plain-http";
                self.properties.wrong(keys.url, Wrong::new(what, hint))
            }
            Ok(mut origin) => {
                if !origin.tls {
                    self.waive("plain_http", keys.url);
                }
                origin.trust = trust.into();
                Some(origin)
            }
        }
    }

    fn trust(&mut self, waiver: &'static str, roots: Roots) -> Trust {
        let insecure = self.properties.boolean(waiver);
        if insecure {
            self.waive("insecure", waiver);
            if roots != Roots::System {
                let what = "says to check nothing, --ca says what to check";
                let wrong = Wrong::new(what, "leave out one of the two");
                self.properties.wrong::<()>(waiver, wrong);
            }
        }
        Trust {
            roots,
            insecure,
            ..Trust::default()
        }
    }

    fn waive(&mut self, kind: &'static str, property: &str) {
        let place = format!("{}_{property}", self.properties.service);
        self.waivers.push(Waiver { kind, place });
    }

    /// A property that the login cannot do without, as the place where it is read.
    fn required(&mut self, name: &'static str) -> Option<Location> {
        let place = self.properties.place(name);
        if place.is_none() {
            self.properties.missing(name, "this login needs it");
        }
        place
    }
}

const FLAG: &str = "--ibm-env";
