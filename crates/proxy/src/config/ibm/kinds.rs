//! IBM's ways to log in as kinds of credentials, each from its properties.

use std::path::PathBuf;

use token_source::{
    Kind, Location, Origin,
    credential::{
        Proof, Text,
        cloud::{
            CR_TOKEN_FILES, CallerExtClaim, Client, Container, Iam, IamAssume, ImsVersion, Mcsp,
            McspV2, Profile, ScopeCollection, VPC_HOST, Vpc, VpcProfile, default_url,
            strip_endpoint,
        },
    },
    tls::Roots,
};

use super::{Keys, Reading};
use crate::config::reading::Wrong;

pub(super) fn basic(reading: &mut Reading) -> Option<Kind> {
    let username = username(reading);
    let secret = reading.required("PASSWORD");
    Some(Kind::Basic {
        username: username?,
        secret: secret?,
    })
}

pub(super) fn bearer_token(reading: &mut Reading) -> Option<Kind> {
    let value = reading.required("BEARER_TOKEN")?;
    Some(Kind::Token { value })
}

pub(super) fn cp4d(reading: &mut Reading) -> Option<Kind> {
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
    let mut origin = reading.origin(&Keys::OF_LOGIN, &url, roots)?;
    strip_endpoint("cp4d", &mut origin.base_path);
    Some(origin)
}

/// The server of a login of IBM Cloud or of the SaaS on AWS, by `AUTH_URL` or by default; with the system's roots, for
/// `--ca` is the platform's.
fn login_server(reading: &mut Reading, kind: &'static str) -> Option<Origin> {
    let written = reading.properties.text("AUTH_URL");
    let Some(url) = written.as_deref().map(String::as_str).or(default_url(kind)) else {
        let hint = "this login has no server of its own: https://iam.platform.saas.ibm.com";
        reading.properties.missing("AUTH_URL", hint);
        return None;
    };
    let keys = Keys {
        plain_by_nature: (kind == "vpc").then_some(VPC_HOST),
        ..Keys::OF_LOGIN
    };
    let mut origin = reading.origin(&keys, url, Roots::System)?;
    strip_endpoint(kind, &mut origin.base_path);
    Some(origin)
}

pub(super) fn iam(reading: &mut Reading) -> Option<Kind> {
    iam_login(reading, "iam").map(Kind::Iam)
}

fn iam_login(reading: &mut Reading, kind: &'static str) -> Option<Iam> {
    let origin = login_server(reading, kind);
    let apikey = reading.required("APIKEY");
    let client = client(reading);
    Some(Iam {
        origin: origin?,
        apikey: apikey?,
        client: client?,
        scope: text(reading, "SCOPE"),
    })
}

pub(super) fn iam_assume(reading: &mut Reading) -> Option<Kind> {
    let login = iam_login(reading, "iam_assume");
    let [crn, id, name] = PROFILE.map(|property| text(reading, property));
    let profile = match (crn, id, name) {
        (Some(crn), None, None) => Some(Profile::Crn(crn)),
        (None, Some(id), None) => Some(Profile::Id(id)),
        (None, None, Some(name)) => {
            let account = reading.required("IAM_ACCOUNT_ID").map(Text::Location);
            account.map(|account| Profile::Name { name, account })
        }
        (None, None, None) => {
            let hint = "this login needs it, or IAM_PROFILE_ID, or IAM_PROFILE_NAME";
            reading.properties.missing("IAM_PROFILE_CRN", hint);
            None
        }
        _ => several_profiles(reading),
    };
    Some(Kind::IamAssume(IamAssume {
        login: login?,
        profile: profile?,
    }))
}

pub(super) fn container(reading: &mut Reading) -> Option<Kind> {
    let origin = login_server(reading, "container");
    let [profile_id, profile_name] =
        ["IAM_PROFILE_ID", "IAM_PROFILE_NAME"].map(|property| text(reading, property));
    if profile_id.is_none() && profile_name.is_none() {
        let hint = "this login needs it, or IAM_PROFILE_NAME";
        reading.properties.missing("IAM_PROFILE_ID", hint);
    }
    let cr_token = match reading.properties.text("CR_TOKEN_FILENAME") {
        Some(path) => Location::File {
            path: PathBuf::from(path.as_str()),
            field: None,
        },
        None => Location::FirstOf(CR_TOKEN_FILES),
    };
    let client = client(reading);
    Some(Kind::Container(Container {
        origin: origin?,
        cr_token,
        profile_id,
        profile_name,
        client: client?,
        scope: text(reading, "SCOPE"),
    }))
}

pub(super) fn vpc(reading: &mut Reading) -> Option<Kind> {
    let origin = login_server(reading, "vpc");
    let version = choice(reading, "VPC_IMS_VERSION", &ImsVersion::NAMES);
    let [crn, id, name] = PROFILE.map(|property| text(reading, property));
    let profile = match (crn, id, name) {
        (None, None, None) => Some(None),
        (Some(crn), None, None) => Some(Some(VpcProfile::Crn(crn))),
        (None, Some(id), None) => Some(Some(VpcProfile::Id(id))),
        (None, None, Some(name)) => Some(Some(VpcProfile::Name(name))),
        _ => several_profiles(reading),
    };
    Some(Kind::Vpc(Vpc {
        origin: origin?,
        version: version?.unwrap_or_default(),
        profile: profile?,
    }))
}

pub(super) fn mcsp(reading: &mut Reading) -> Option<Kind> {
    let origin = login_server(reading, "mcsp");
    let apikey = reading.required("APIKEY");
    Some(Kind::Mcsp(Mcsp {
        origin: origin?,
        apikey: apikey?,
    }))
}

pub(super) fn mcsp_v2(reading: &mut Reading) -> Option<Kind> {
    let origin = login_server(reading, "mcsp_v2");
    let apikey = reading.required("APIKEY");
    let collection = choice(reading, "SCOPE_COLLECTION_TYPE", &ScopeCollection::NAMES);
    if collection.as_ref().is_some_and(Option::is_none) {
        let hint = "this login needs it: accounts, subscriptions or services";
        reading.properties.missing("SCOPE_COLLECTION_TYPE", hint);
    }
    let scope_id = reading.required("SCOPE_ID").map(Text::Location);
    let claim = match reading.properties.text("CALLER_EXT_CLAIM") {
        None => Some(None),
        Some(json) => match CallerExtClaim::parse(&json) {
            Some(claim) => Some(Some(claim)),
            None => {
                let wrong = Wrong::new("not a JSON object", r#"{"productID":"…"}"#);
                reading.properties.wrong("CALLER_EXT_CLAIM", wrong)
            }
        },
    };
    let properties = &mut reading.properties;
    let include_roles = !properties.has("INCLUDE_ROLES") || properties.boolean("INCLUDE_ROLES");
    Some(Kind::McspV2(McspV2 {
        origin: origin?,
        apikey: apikey?,
        collection: collection??,
        scope_id: scope_id?,
        include_builtin_actions: properties.boolean("INCLUDE_BUILTIN_ACTIONS"),
        include_custom_actions: properties.boolean("INCLUDE_CUSTOM_ACTIONS"),
        include_roles,
        prefix_roles: properties.boolean("PREFIX_ROLES"),
        caller_ext_claim: claim?,
    }))
}

/// Both or neither of `CLIENT_ID` and `CLIENT_SECRET`; the outer `None` is a mistake.
fn client(reading: &mut Reading) -> Option<Option<Client>> {
    let id = text(reading, "CLIENT_ID");
    let secret = reading.properties.place("CLIENT_SECRET");
    match (id, secret) {
        (None, None) => Some(None),
        (Some(id), Some(secret)) => Some(Some(Client { id, secret })),
        (id, _) => {
            let absent = if id.is_some() {
                "CLIENT_SECRET"
            } else {
                "CLIENT_ID"
            };
            let hint = "CLIENT_ID and CLIENT_SECRET go together";
            reading.properties.missing(absent, hint);
            None
        }
    }
}

/// One of a few words, if it is written; the outer `None` is a mistake.
fn choice<T: Copy>(
    reading: &mut Reading,
    property: &'static str,
    words: &[(&'static str, T)],
) -> Option<Option<T>> {
    let Some(written) = reading.properties.text(property) else {
        return Some(None);
    };
    let found = words.iter().find(|(word, _)| *word == *written);
    if found.is_none() {
        let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let wrong = Wrong::new("none of its words", names.join(", "));
        return reading.properties.wrong(property, wrong);
    }
    Some(found.map(|(_, value)| *value))
}

fn several_profiles<T>(reading: &mut Reading) -> Option<T> {
    let hint = "keep one of IAM_PROFILE_CRN, IAM_PROFILE_ID and IAM_PROFILE_NAME";
    let written = PROFILE
        .iter()
        .rev()
        .find(|property| reading.properties.has(property));
    let wrong = Wrong::new("more than one name of the trusted profile", hint);
    reading
        .properties
        .wrong(written.copied().unwrap_or_default(), wrong)
}

fn text(reading: &mut Reading, property: &'static str) -> Option<Text> {
    reading.properties.place(property).map(Text::Location)
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

const PROFILE: [&str; 3] = ["IAM_PROFILE_CRN", "IAM_PROFILE_ID", "IAM_PROFILE_NAME"];
