//! IBM's ways to log in by their names, each with its properties and the kind of credential that it is here.

use token_source::{
    Kind, Location, Origin,
    credential::{Proof, Text},
};

use super::Reading;
use crate::config::{check::strip_authorize, reading::Wrong};

/// A value of `AUTH_TYPE`.
pub(super) struct AuthType {
    /// As IBM writes it; it is compared without regard to case.
    pub(super) name: &'static str,
    /// The properties that it reads.
    pub(super) properties: &'static [&'static str],
    pub(super) build: Build,
}

/// What it is here.
pub(super) enum Build {
    /// No credential at all.
    Nothing,
    /// A credential of some kind; `None` where a mistake was noted.
    Kind(fn(&mut Reading) -> Option<Kind>),
    /// A login of a later version.
    NotYet,
}

pub(super) const AUTH_TYPES: &[AuthType] = &[
    AuthType {
        name: "noAuth",
        properties: &[],
        build: Build::Nothing,
    },
    AuthType {
        name: "basic",
        properties: &["USERNAME", "PASSWORD"],
        build: Build::Kind(basic),
    },
    AuthType {
        name: "bearerToken",
        properties: &["BEARER_TOKEN"],
        build: Build::Kind(bearer_token),
    },
    AuthType {
        name: "cp4d",
        properties: &[
            "AUTH_URL",
            "AUTH_DISABLE_SSL",
            "USERNAME",
            "PASSWORD",
            "APIKEY",
            "CP4D_ACCOUNT_ID",
        ],
        build: Build::Kind(cp4d),
    },
    AuthType {
        name: "iam",
        properties: &[
            "AUTH_URL",
            "AUTH_DISABLE_SSL",
            "APIKEY",
            "CLIENT_ID",
            "CLIENT_SECRET",
            "SCOPE",
        ],
        build: Build::NotYet,
    },
    AuthType {
        name: "iamAssume",
        properties: &[
            "AUTH_URL",
            "AUTH_DISABLE_SSL",
            "APIKEY",
            "CLIENT_ID",
            "CLIENT_SECRET",
            "SCOPE",
            "IAM_PROFILE_CRN",
            "IAM_PROFILE_ID",
            "IAM_PROFILE_NAME",
            "IAM_ACCOUNT_ID",
        ],
        build: Build::NotYet,
    },
    AuthType {
        name: "container",
        properties: &[
            "AUTH_URL",
            "AUTH_DISABLE_SSL",
            "CR_TOKEN_FILENAME",
            "IAM_PROFILE_ID",
            "IAM_PROFILE_NAME",
            "CLIENT_ID",
            "CLIENT_SECRET",
            "SCOPE",
        ],
        build: Build::NotYet,
    },
    AuthType {
        name: "vpc",
        properties: &[
            "AUTH_URL",
            "IAM_PROFILE_CRN",
            "IAM_PROFILE_ID",
            "IAM_PROFILE_NAME",
            "VPC_IMS_VERSION",
        ],
        build: Build::NotYet,
    },
    AuthType {
        name: "mcsp",
        properties: &["AUTH_URL", "AUTH_DISABLE_SSL", "APIKEY"],
        build: Build::NotYet,
    },
    AuthType {
        name: "mcspv2",
        properties: &[
            "AUTH_URL",
            "AUTH_DISABLE_SSL",
            "APIKEY",
            "SCOPE_COLLECTION_TYPE",
            "SCOPE_ID",
            "INCLUDE_BUILTIN_ACTIONS",
            "INCLUDE_CUSTOM_ACTIONS",
            "INCLUDE_ROLES",
            "PREFIX_ROLES",
            "CALLER_EXT_CLAIM",
        ],
        build: Build::NotYet,
    },
];

fn basic(reading: &mut Reading) -> Option<Kind> {
    let username = username(reading);
    let secret = reading.required("PASSWORD");
    Some(Kind::Basic {
        username: username?,
        secret: secret?,
    })
}

fn bearer_token(reading: &mut Reading) -> Option<Kind> {
    let value = reading.required("BEARER_TOKEN")?;
    Some(Kind::Token { value })
}

fn cp4d(reading: &mut Reading) -> Option<Kind> {
    let origin = platform(reading);
    let username = username(reading);
    let proof = proof(reading);
    let account_id = reading.properties.place("CP4D_ACCOUNT_ID");
    Some(Kind::Cp4d {
        origin: origin?,
        username: username?,
        proof: proof?,
        account_id: account_id.map(Text::Location),
    })
}

/// `AUTH_URL`, with as much of the login's path as people write; else the server of the service.
fn platform(reading: &mut Reading) -> Option<Origin> {
    let roots = reading.roots.clone();
    let Some(url) = reading.properties.text("AUTH_URL") else {
        let trust = reading.trust("AUTH_DISABLE_SSL", roots);
        let mut origin = reading.service_origin.clone()?;
        origin.base_path.clear();
        origin.trust = trust.into();
        return Some(origin);
    };
    let mut origin = reading.origin("AUTH_URL", &url, "AUTH_DISABLE_SSL", roots)?;
    strip_authorize(&mut origin.base_path);
    Some(origin)
}

fn username(reading: &mut Reading) -> Option<Text> {
    reading.required("USERNAME").map(Text::Location)
}

/// Exactly one of the two, as IBM's cores want it.
fn proof(reading: &mut Reading) -> Option<Proof> {
    let properties = &mut reading.properties;
    let places: [Option<Location>; 2] = ["APIKEY", "PASSWORD"].map(|name| properties.place(name));
    match places {
        [Some(api_key), None] => Some(Proof::ApiKey(api_key)),
        [None, Some(password)] => Some(Proof::Password(password)),
        [None, None] => {
            properties.missing("APIKEY", "this login needs it, or PASSWORD");
            None
        }
        [Some(_), Some(_)] => properties.wrong(
            "PASSWORD",
            Wrong::new("there is an APIKEY as well", "keep one of the two"),
        ),
    }
}
