//! IBM's ways to log in by their names, each with its properties and the kind of credential that it is here.

use token_source::Kind;

use super::{Reading, kinds};

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
        build: Build::Kind(kinds::basic),
    },
    AuthType {
        name: "bearerToken",
        properties: &["BEARER_TOKEN"],
        build: Build::Kind(kinds::bearer_token),
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
        build: Build::Kind(kinds::cp4d),
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
        build: Build::Kind(kinds::iam),
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
        build: Build::Kind(kinds::iam_assume),
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
        build: Build::Kind(kinds::container),
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
        build: Build::Kind(kinds::vpc),
    },
    AuthType {
        name: "mcsp",
        properties: &["AUTH_URL", "AUTH_DISABLE_SSL", "APIKEY"],
        build: Build::Kind(kinds::mcsp),
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
        build: Build::Kind(kinds::mcsp_v2),
    },
];
