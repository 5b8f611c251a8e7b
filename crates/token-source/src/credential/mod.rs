//! What a credential is: how it is configured ([`Settings`], [`Kind`]) and the value now in force ([`Token`]).

pub mod cloud;
pub mod steps;

use std::{sync::Arc, time::Duration};

use secrecy::SecretString;
use tokio::time::Instant;

use crate::{connect::Origin, secret::Location};

pub use cloud::{Container, Iam, IamAssume, Mcsp, McspV2, Vpc};
pub use steps::Steps;

/// A named credential as the operator configured it; one that exists is right.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name that logs, metrics and routes use.
    pub name: Arc<str>,
    /// How the value is obtained.
    pub kind: Kind,
    /// Lifetime of a token that does not tell its own. Default 10 minutes for exchanged tokens.
    pub lifetime: Option<Duration>,
    /// How long a request waits when there is no valid token. `None`: 5 s before the first token, 0 afterwards.
    pub wait_for_token: Option<Duration>,
    /// How often the places of its secrets are read again to notice a change. Default 5 s.
    pub poll: Duration,
}

/// One way to obtain a credential.
#[derive(Debug, Clone)]
pub enum Kind {
    /// `POST /icp4d-api/v1/authorize`, per IBM's API documentation of watsonx.
    Cp4d {
        /// The platform.
        origin: Origin,
        /// The user's name.
        username: Text,
        /// What proves it.
        proof: Proof,
        /// Tenant of a multi-tenant platform.
        account_id: Option<Text>,
    },
    /// `POST /idprovider/v1/auth/identitytoken`, then `GET /v1/preauth/validateAuth`, per IBM's API documentation of watsonx.
    Cp4dIam {
        /// The platform, which answers `validateAuth`.
        platform: Origin,
        /// The Identity Management Service, which answers `identitytoken`; often the same origin.
        identity: Origin,
        /// The user's name.
        username: Text,
        /// The user's password.
        password: Location,
        /// Tenant of a multi-tenant platform.
        account_id: Option<Text>,
    },
    /// `POST /v1/preauth/signin`, per IBM's API documentation of watsonx.
    Cp4dLdap {
        /// The platform.
        origin: Origin,
        /// The user's name.
        username: Text,
        /// The user's password.
        password: Location,
        /// Tenant of a multi-tenant platform.
        account_id: Option<Text>,
    },
    /// `ZenApiKey base64(username:api_key)`; no exchange.
    ZenApiKey {
        /// The user's name.
        username: Text,
        /// The user's API key (or password).
        secret: Location,
    },
    /// `Basic base64(username:password)`; no exchange.
    Basic {
        /// The user's name.
        username: Text,
        /// The user's password (or API key).
        secret: Location,
    },
    /// A token as it is, such as the License Service API token; read again when it changes.
    Token {
        /// Where the token is read.
        value: Location,
    },
    /// A projected Kubernetes service-account token; read again when the kubelet rotates it.
    ServiceAccount {
        /// Where the token is read.
        value: Location,
    },
    /// IBM Cloud: an API key for a token.
    Iam(Iam),
    /// IBM Cloud: an API key for the token of a trusted profile.
    IamAssume(IamAssume),
    /// IBM Cloud: the token of a container for that of a trusted profile.
    Container(Container),
    /// IBM Cloud: the token of a virtual machine.
    Vpc(Vpc),
    /// SaaS on AWS: an API key for a token.
    Mcsp(Mcsp),
    /// SaaS on AWS: an API key for a token of a scope.
    McspV2(McspV2),
    /// Any other login, as up to three requests.
    Steps(Steps),
}

/// What proves that a user is who they say: exactly one of the two.
#[derive(Debug, Clone)]
pub enum Proof {
    /// A platform API key.
    ApiKey(Location),
    /// A password.
    Password(Location),
}

/// A text that is either written in the configuration (a user name) or read from a place.
#[derive(Debug, Clone)]
pub enum Text {
    /// As written.
    Literal(String),
    /// Read at each exchange.
    Location(Location),
}

impl Kind {
    /// The name of the kind in the configuration: `cp4d`, `cp4d_iam`, …
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cp4d { .. } => "cp4d",
            Self::Cp4dIam { .. } => "cp4d_iam",
            Self::Cp4dLdap { .. } => "cp4d_ldap",
            Self::ZenApiKey { .. } => "zen_api_key",
            Self::Basic { .. } => "basic",
            Self::Token { .. } => "token",
            Self::ServiceAccount { .. } => "service_account",
            Self::Iam(_) => "iam",
            Self::IamAssume(_) => "iam_assume",
            Self::Container(_) => "container",
            Self::Vpc(_) => "vpc",
            Self::Mcsp(_) => "mcsp",
            Self::McspV2(_) => "mcsp_v2",
            Self::Steps(_) => "steps",
        }
    }

    /// The authentication scheme that goes before the value in a header, without the space.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::ZenApiKey { .. } => "ZenApiKey",
            Self::Basic { .. } => "Basic",
            _ => "Bearer",
        }
    }

    /// The servers that it is obtained from, in the order in which they are asked; none where nothing is exchanged.
    pub fn servers(&self) -> Vec<&Origin> {
        match self {
            Self::Cp4d { origin, .. } | Self::Cp4dLdap { origin, .. } => vec![origin],
            Self::Cp4dIam {
                platform, identity, ..
            } => vec![identity, platform],
            Self::Iam(Iam { origin, .. })
            | Self::IamAssume(IamAssume {
                login: Iam { origin, .. },
                ..
            })
            | Self::Container(Container { origin, .. })
            | Self::Vpc(Vpc { origin, .. })
            | Self::Mcsp(Mcsp { origin, .. })
            | Self::McspV2(McspV2 { origin, .. }) => vec![origin],
            Self::Steps(steps) => steps.steps.iter().map(|step| &step.origin).collect(),
            Self::ZenApiKey { .. }
            | Self::Basic { .. }
            | Self::Token { .. }
            | Self::ServiceAccount { .. } => Vec::new(),
        }
    }

    /// Every place that a value of this kind is read from, each under its key in the configuration.
    pub fn places(&self) -> Vec<Place<'_>> {
        match self {
            Self::Cp4d {
                username,
                proof,
                account_id,
                ..
            } => user_places(username, account_id.as_ref(), proof.place()),
            Self::Cp4dIam {
                username,
                password,
                account_id,
                ..
            }
            | Self::Cp4dLdap {
                username,
                password,
                account_id,
                ..
            } => user_places(username, account_id.as_ref(), (PASSWORD, password)),
            Self::ZenApiKey { username, secret } | Self::Basic { username, secret } => {
                user_places(username, None, (SECRET, secret))
            }
            Self::Token { value } | Self::ServiceAccount { value } => vec![(VALUE, value)],
            Self::Iam(iam) => iam.places(),
            Self::IamAssume(assume) => assume.places(),
            Self::Container(container) => container.places(),
            Self::Vpc(vpc) => vpc.places(),
            Self::Mcsp(mcsp) => vec![(cloud::APIKEY, &mcsp.apikey)],
            Self::McspV2(mcsp) => mcsp.places(),
            Self::Steps(steps) => steps.places(),
        }
    }
}

/// Where something is read, under its key in the configuration.
pub type Place<'a> = (&'static str, &'a Location);

fn user_places<'a>(
    username: &'a Text,
    account_id: Option<&'a Text>,
    secret: Place<'a>,
) -> Vec<Place<'a>> {
    let texts = [(USERNAME, Some(username)), (ACCOUNT_ID, account_id)];
    let places = texts
        .into_iter()
        .filter_map(|(key, text)| place_of(key, text));
    places.chain([secret]).collect()
}

fn place_of<'a>(key: &'static str, text: Option<&'a Text>) -> Option<Place<'a>> {
    Some((key, text?.place()?))
}

impl Proof {
    /// Where it is read, under its key in the configuration.
    pub(crate) fn place(&self) -> Place<'_> {
        match self {
            Self::ApiKey(place) => (API_KEY, place),
            Self::Password(place) => (PASSWORD, place),
        }
    }
}

impl Text {
    /// Where it is read from; `None` where it is written.
    pub fn place(&self) -> Option<&Location> {
        match self {
            Self::Literal(_) => None,
            Self::Location(place) => Some(place),
        }
    }
}

/// Counts the tokens that a credential has had; 0 is "none yet". A new value counts, and the same value with an
/// earlier end than it had, so that what was built from a token may be kept until its end while the generation stays.
/// The same value with a later end is the same token: who kept the old end looks again when it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

/// A value that was in force from `obtained` on; visible ASCII without spaces, so that it can stand in a header.
#[derive(Debug)]
pub struct Token {
    /// The value, without scheme.
    pub value: SecretString,
    /// Which value of this credential it is.
    pub generation: Generation,
    /// When it came into force, on the [`clock`](crate::clock) of tokens.
    pub obtained: Instant,
    /// When it ends, on the same clock; `None` where it does not (a License Service API token).
    pub expires: Option<Instant>,
}

impl Token {
    /// Whether it may still be sent at `now`, on the clock of tokens.
    pub fn is_valid_at(&self, now: Instant) -> bool {
        self.expires.is_none_or(|end| now < end)
    }
}

// Keys of the configuration, to name what is wrong by.

/// The key of who logs in, which is no secret.
pub const USERNAME: &str = "username";
pub(crate) const ACCOUNT_ID: &str = "account_id";
pub(crate) const API_KEY: &str = "api_key";
pub(crate) const PASSWORD: &str = "password";
pub(crate) const VALUE: &str = "value";
/// Where the kind does not tell which of the two it is.
pub(crate) const SECRET: &str = "api_key or password";
