//! The kinds of IBM Cloud and of the SaaS on AWS: what IBM's SDKs call `iam`, `iamAssume`, `container`, `vpc`, `mcsp`
//! and `mcspv2`, under the names of their properties.

use super::{Place, Text, place_of};
use crate::{connect::Origin, secret::Location};

/// An API key for a token, by `POST /identity/token`.
#[derive(Debug, Clone)]
pub struct Iam {
    /// The IAM server; [`IAM_URL`] as a rule.
    pub origin: Origin,
    /// The API key of a user or a service id.
    pub apikey: Location,
    /// Who asks, where IAM is to know it.
    pub client: Option<Client>,
    /// What the token is to be good for; none: everything.
    pub scope: Option<Text>,
}

/// A client that is registered at IAM; goes as HTTP Basic.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its name; without a colon.
    pub id: Text,
    /// Its secret.
    pub secret: Location,
}

/// The token of an [`Iam`] login for that of a trusted profile, by a second `POST /identity/token`.
#[derive(Debug, Clone)]
pub struct IamAssume {
    /// The first step.
    pub login: Iam,
    /// Whose identity is assumed.
    pub profile: Profile,
}

/// A trusted profile of IAM, by one of its names.
#[derive(Debug, Clone)]
pub enum Profile {
    /// Cloud resource name.
    Crn(Text),
    /// Id.
    Id(Text),
    /// Name within an account.
    Name {
        /// The profile's name.
        name: Text,
        /// The account's id.
        account: Text,
    },
}

/// The token that a container finds in a file for an IAM token, by `POST /identity/token`.
#[derive(Debug, Clone)]
pub struct Container {
    /// The IAM server; [`IAM_URL`] as a rule.
    pub origin: Origin,
    /// Where the compute-resource token is; the first of [`CR_TOKEN_FILES`] as a rule.
    pub cr_token: Location,
    /// Id of the trusted profile; this or `profile_name`, or both.
    pub profile_id: Option<Text>,
    /// Name of the trusted profile.
    pub profile_name: Option<Text>,
    /// Who asks, where IAM is to know it.
    pub client: Option<Client>,
    /// What the token is to be good for; none: everything.
    pub scope: Option<Text>,
}

/// A token of the virtual machine that this runs on, by its metadata service.
#[derive(Debug, Clone)]
pub struct Vpc {
    /// The metadata service; [`VPC_URL`] as a rule.
    pub origin: Origin,
    /// How it is spoken to.
    pub version: ImsVersion,
    /// Which trusted profile; none: the one that the machine was given.
    pub profile: Option<VpcProfile>,
}

/// A version of the instance metadata service; the paths differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ImsVersion {
    /// `2022-03-01`, below `/instance_identity/`.
    #[default]
    V20220301,
    /// `2025-08-26`, below `/identity/`.
    V20250826,
}

/// A trusted profile as the metadata service knows it, by one of its names.
#[derive(Debug, Clone)]
pub enum VpcProfile {
    /// Cloud resource name.
    Crn(Text),
    /// Id.
    Id(Text),
    /// Name.
    Name(Text),
}

/// An API key for a token, by `POST /siusermgr/api/1.0/apikeys/token`.
#[derive(Debug, Clone)]
pub struct Mcsp {
    /// The token service; has no default.
    pub origin: Origin,
    /// The API key.
    pub apikey: Location,
}

/// An API key for a token of a scope, by `POST /api/2.0/{collection}/{id}/apikeys/token`.
#[derive(Debug, Clone)]
pub struct McspV2 {
    /// The token service; has no default.
    pub origin: Origin,
    /// The API key.
    pub apikey: Location,
    /// Of what the scope is one.
    pub collection: ScopeCollection,
    /// Which of them.
    pub scope_id: Text,
    /// Whether the claim `actions` names built-in actions; default false.
    pub include_builtin_actions: bool,
    /// Whether the claim `actions` names custom actions; default false.
    pub include_custom_actions: bool,
    /// Whether there is a claim `roles`; default true.
    pub include_roles: bool,
    /// Whether the roles tell where they are defined; default false.
    pub prefix_roles: bool,
    /// What becomes the claim `callerExt`.
    pub caller_ext_claim: Option<CallerExtClaim>,
}

/// What a scope is one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeCollection {
    /// `accounts`
    Accounts,
    /// `subscriptions`
    Subscriptions,
    /// `services`
    Services,
}

/// A JSON object that goes into a token.
#[derive(Debug, Clone, PartialEq)]
pub struct CallerExtClaim(pub(crate) serde_json::Map<String, serde_json::Value>);

impl ImsVersion {
    /// Each version under the name that IBM gives it.
    pub const NAMES: [(&str, Self); 2] = [
        ("2022-03-01", Self::V20220301),
        ("2025-08-26", Self::V20250826),
    ];
}

impl ScopeCollection {
    /// Each under the name that IBM gives it.
    pub const NAMES: [(&str, Self); 3] = [
        ("accounts", Self::Accounts),
        ("subscriptions", Self::Subscriptions),
        ("services", Self::Services),
    ];

    /// Its name in the path of the token service.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Subscriptions => "subscriptions",
            Self::Services => "services",
        }
    }
}

impl CallerExtClaim {
    /// Reads it from JSON; `None` where that is no object.
    pub fn parse(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok().map(Self)
    }
}

impl Iam {
    pub(super) fn places(&self) -> Vec<Place<'_>> {
        let mut places = vec![(APIKEY, &self.apikey)];
        places.extend(client_places(self.client.as_ref()));
        places.extend(place_of(SCOPE, self.scope.as_ref()));
        places
    }
}

impl IamAssume {
    pub(super) fn places(&self) -> Vec<Place<'_>> {
        let mut places = self.login.places();
        match &self.profile {
            Profile::Crn(crn) => places.extend(place_of(IAM_PROFILE_CRN, Some(crn))),
            Profile::Id(id) => places.extend(place_of(IAM_PROFILE_ID, Some(id))),
            Profile::Name { name, account } => {
                places.extend(place_of(IAM_PROFILE_NAME, Some(name)));
                places.extend(place_of(IAM_ACCOUNT_ID, Some(account)));
            }
        }
        places
    }
}

impl Container {
    pub(super) fn places(&self) -> Vec<Place<'_>> {
        let mut places = vec![(CR_TOKEN_FILENAME, &self.cr_token)];
        places.extend(place_of(IAM_PROFILE_ID, self.profile_id.as_ref()));
        places.extend(place_of(IAM_PROFILE_NAME, self.profile_name.as_ref()));
        places.extend(client_places(self.client.as_ref()));
        places.extend(place_of(SCOPE, self.scope.as_ref()));
        places
    }
}

impl Vpc {
    pub(super) fn places(&self) -> Vec<Place<'_>> {
        let place = self.profile.as_ref().and_then(|profile| match profile {
            VpcProfile::Crn(crn) => place_of(IAM_PROFILE_CRN, Some(crn)),
            VpcProfile::Id(id) => place_of(IAM_PROFILE_ID, Some(id)),
            VpcProfile::Name(name) => place_of(IAM_PROFILE_NAME, Some(name)),
        });
        place.into_iter().collect()
    }
}

impl McspV2 {
    pub(super) fn places(&self) -> Vec<Place<'_>> {
        let mut places = vec![(APIKEY, &self.apikey)];
        places.extend(place_of(SCOPE_ID, Some(&self.scope_id)));
        places
    }
}

fn client_places(client: Option<&Client>) -> impl Iterator<Item = Place<'_>> {
    client.into_iter().flat_map(|client| {
        let id = place_of(CLIENT_ID, Some(&client.id));
        id.into_iter().chain([(CLIENT_SECRET, &client.secret)])
    })
}

/// The server that `kind` logs in to where the operator names none.
pub fn default_url(kind: &str) -> Option<&'static str> {
    match kind {
        "iam" | "iam_assume" | "container" => Some(IAM_URL),
        "vpc" => Some(VPC_URL),
        _ => None,
    }
}

/// Takes the path of `kind`'s endpoint off the base path of a login server: IBM's SDKs want their `AUTH_URL` without
/// it, or for `cp4d` with the first part of it, IBM's pages give all of it, and people write either.
pub fn strip_endpoint(kind: &str, base_path: &mut String) {
    let endings: &[&str] = match kind {
        "cp4d" => &["/v1/authorize", "/icp4d-api"],
        "iam" | "iam_assume" | "container" => &["/identity/token"],
        "vpc" => &[
            "/instance_identity/v1/token",
            "/instance_identity/v1/iam_token",
            "/identity/v1/token",
            "/identity/v1/iam_tokens",
        ],
        "mcsp" => &["/siusermgr/api/1.0/apikeys/token"],
        _ => &[],
    };
    for ending in endings {
        if let Some(start) = base_path.strip_suffix(ending) {
            base_path.truncate(start.len());
        }
    }
    if kind == "mcsp_v2" {
        strip_scoped_endpoint(base_path);
    }
}

/// `/api/2.0/{collection}/{id}/apikeys/token`: the keys say which scope it is.
fn strip_scoped_endpoint(base_path: &mut String) {
    let Some(before) = base_path.strip_suffix("/apikeys/token") else {
        return;
    };
    let mut parts = before.rsplitn(3, '/').skip(1);
    let is_collection = |part: &str| ScopeCollection::NAMES.iter().any(|(name, _)| part == *name);
    if parts.next().is_some_and(is_collection)
        && let Some(start) = parts.next().and_then(|rest| rest.strip_suffix("/api/2.0"))
    {
        base_path.truncate(start.len());
    }
}

/// The IAM of IBM Cloud.
pub const IAM_URL: &str = "https://iam.cloud.ibm.com";

/// The metadata service of a virtual machine: a link-local address, which no router passes on, and plain HTTP.
pub const VPC_URL: &str = "http://169.254.169.254";

/// Its `host[:port]`, the one that may be asked without TLS.
pub const VPC_HOST: &str = "169.254.169.254";

/// Where a container may find its compute-resource token; the first that can be read counts.
pub const CR_TOKEN_FILES: &[&str] = &[
    "/var/run/secrets/tokens/vault-token",
    "/var/run/secrets/tokens/sa-token",
    "/var/run/secrets/codeengine.cloud.ibm.com/compute-resource-token/token",
];

/// Keys of the configuration, to name what is wrong by.
pub(crate) const APIKEY: &str = "apikey";
pub(crate) const CLIENT_ID: &str = "client_id";
pub(crate) const CLIENT_SECRET: &str = "client_secret";
pub(crate) const SCOPE: &str = "scope";
pub(crate) const IAM_PROFILE_CRN: &str = "iam_profile_crn";
pub(crate) const IAM_PROFILE_ID: &str = "iam_profile_id";
pub(crate) const IAM_PROFILE_NAME: &str = "iam_profile_name";
pub(crate) const IAM_ACCOUNT_ID: &str = "iam_account_id";
pub(crate) const CR_TOKEN_FILENAME: &str = "cr_token_filename";
pub(crate) const SCOPE_ID: &str = "scope_id";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_url_may_end_in_the_path_of_the_endpoint() {
        let cases = [
            ("cp4d", "", ""),
            ("cp4d", "/icp4d-api", ""),
            ("cp4d", "/lab/icp4d-api/v1/authorize", "/lab"),
            ("cp4d", "/identity/token", "/identity/token"),
            ("iam", "/identity/token", ""),
            ("iam_assume", "/x/identity/token", "/x"),
            ("container", "/identity/token", ""),
            ("iam", "/identity", "/identity"),
            ("vpc", "/instance_identity/v1/iam_token", ""),
            ("vpc", "/identity/v1/token", ""),
            ("mcsp", "/siusermgr/api/1.0/apikeys/token", ""),
            ("mcsp", "/siusermgr", "/siusermgr"),
            ("mcsp_v2", "/api/2.0/accounts/a%20b/apikeys/token", ""),
            ("mcsp_v2", "/x/api/2.0/services/7/apikeys/token", "/x"),
            (
                "mcsp_v2",
                "/api/2.0/apikeys/token",
                "/api/2.0/apikeys/token",
            ),
            (
                "mcsp_v2",
                "/api/2.0/users/7/apikeys/token",
                "/api/2.0/users/7/apikeys/token",
            ),
        ];
        for (kind, written, base) in cases {
            let mut path = written.to_owned();
            strip_endpoint(kind, &mut path);
            assert_eq!(path, base, "{kind} {written}");
        }
    }

    #[test]
    fn a_claim_is_a_json_object() {
        assert!(CallerExtClaim::parse(r#"{"productID":"prod123","n":{"a":[1]}}"#).is_some());
        for other in ["", "7", "[]", r#""text""#, "null", "{"] {
            assert_eq!(CallerExtClaim::parse(other), None, "{other}");
        }
    }
}
