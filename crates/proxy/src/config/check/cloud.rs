//! `[credential.NAME.iam]` and the other kinds of IBM Cloud and of the SaaS on AWS, with the keys that IBM's SDKs call
//! their properties.

use std::{path::Path, sync::Arc};

use token_source::{
    Kind, Location, Origin, Trust,
    credential::{
        Container, Iam, IamAssume, Mcsp, McspV2, Text, Vpc,
        cloud::{
            CR_TOKEN_FILES, CallerExtClaim, Client, ImsVersion, Profile, ScopeCollection, VPC_HOST,
            VpcProfile, default_url, strip_endpoint,
        },
    },
};

use super::{
    credential::{optional_text, required_secret},
    location, trust,
    upstream::{Keys, egress, origin, warn_of_needless_plain_http},
};
use crate::config::wire::Table;

/// The kind of this name, one of those here; `None` where a mistake was noted.
pub(super) fn cloud(table: &mut Table<'_>, kind: &str, place: &str) -> Option<Kind> {
    let origin = login_server(table, kind, place);
    match kind {
        "iam" => iam(table, origin).map(Kind::Iam),
        "iam_assume" => iam_assume(table, origin).map(Kind::IamAssume),
        "container" => container(table, origin).map(Kind::Container),
        "vpc" => vpc(table, origin).map(Kind::Vpc),
        "mcsp" => mcsp(table, origin).map(Kind::Mcsp),
        _ => mcsp_v2(table, origin).map(Kind::McspV2),
    }
}

/// `auth_url`, as IBM calls it, or `url`, as other kinds do; else the one that IBM's SDKs ask.
fn login_server(table: &mut Table<'_>, kind: &str, place: &str) -> Option<Origin> {
    table.key("plain_http");
    let ibms = table.key("auth_url");
    let url = match (&ibms, table.key("url")) {
        (Some(_), Some(span)) => {
            let hint = "keep one; they mean the same";
            table.reading.mistake(span, "both auth_url and url", hint);
            "auth_url"
        }
        (None, Some(_)) => "url",
        (_, None) => "auth_url",
    };
    let keys = Keys {
        url,
        plain_by_nature: (kind == "vpc").then_some(VPC_HOST),
        ..Keys::OF_URL
    };
    let server = if table.has(url) {
        let mut server = origin(table, &keys, place)?;
        strip_endpoint(kind, &mut server.base_path);
        server
    } else {
        let trust = trust::trust_or_default(table, keys.tls, place)?;
        let egress = egress(table);
        let mut server = usual_server(table, kind, trust)?;
        server.egress = egress?;
        server
    };
    warn_of_needless_waiver(table, &server, &keys);
    Some(server)
}

fn usual_server(table: &mut Table<'_>, kind: &str, trust: Trust) -> Option<Origin> {
    let Some(url) = default_url(kind) else {
        let hint = "auth_url = \"https://iam.platform.saas.ibm.com\", or as your service says";
        table.missing(format!("{kind} needs to know where to log in"), hint);
        return None;
    };
    let server = Origin::parse(url, Arc::new(trust)).expect("the usual servers have good URLs");
    if !server.tls
        && let Some(span) = table.key("tls")
    {
        let hint = "leave it out, or write an https:// auth_url";
        let what = "tls has no meaning for the metadata service, which speaks plain HTTP";
        table.reading.mistake(span, what, hint);
    }
    Some(server)
}

fn warn_of_needless_waiver(table: &mut Table<'_>, server: &Origin, keys: &Keys) {
    if server.tls {
        warn_of_needless_plain_http(table, &[server]);
    } else if keys.plain_by_nature == Some(server.authority().as_str())
        && table.boolean("plain_http") == Some(true)
        && let Some(span) = table.key("plain_http")
    {
        table.reading.warning(
            span,
            "the metadata service of a virtual machine needs no plain_http",
            "leave it out: a waiver that is not needed would hide a mistake later",
        );
    }
}

fn iam(table: &mut Table<'_>, origin: Option<Origin>) -> Option<Iam> {
    let apikey = required_secret(table, "apikey");
    let client = client(table);
    let scope = optional_text(table, "scope");
    Some(Iam {
        origin: origin?,
        apikey: apikey?,
        client: client?,
        scope: scope?,
    })
}

fn iam_assume(table: &mut Table<'_>, origin: Option<Origin>) -> Option<IamAssume> {
    let login = iam(table, origin);
    let account = table.key("iam_account_id");
    let account_id = optional_text(table, "iam_account_id");
    let written = profile(table);
    if table.key("iam_profile_name").is_some() {
        if account.is_none() {
            let what = "a profile has a name only within an account";
            table.missing(what, "iam_account_id = \"…\", or iam_profile_id alone");
        }
    } else if let Some(span) = account {
        let hint = "leave it out: crn and id are unique";
        let what = "iam_account_id goes with iam_profile_name";
        table.reading.mistake(span, what, hint);
    }
    let profile = match written? {
        Some(("iam_profile_crn", crn)) => Profile::Crn(crn),
        Some(("iam_profile_id", id)) => Profile::Id(id),
        Some((_, name)) => Profile::Name {
            name,
            account: account_id??,
        },
        None => {
            table.missing("which trusted profile?", "iam_profile_id = \"Profile-…\"");
            return None;
        }
    };
    Some(IamAssume {
        login: login?,
        profile,
    })
}

fn container(table: &mut Table<'_>, origin: Option<Origin>) -> Option<Container> {
    let cr_token = match table.key("cr_token_filename") {
        Some(_) => location::file_or_location(table, "cr_token_filename"),
        None => Some(usual_cr_token(table)),
    };
    let profile_id = optional_text(table, "iam_profile_id");
    let profile_name = optional_text(table, "iam_profile_name");
    if table.key("iam_profile_id").is_none() && table.key("iam_profile_name").is_none() {
        let hint = "iam_profile_id = \"Profile-…\", or iam_profile_name";
        table.missing("which trusted profile?", hint);
    }
    let client = client(table);
    let scope = optional_text(table, "scope");
    Some(Container {
        origin: origin?,
        cr_token: cr_token?,
        profile_id: profile_id?,
        profile_name: profile_name?,
        client: client?,
        scope: scope?,
    })
}

fn usual_cr_token(table: &Table<'_>) -> Location {
    let is_there = |path: &&str| location::warn_if_not_there(Path::new(path)).is_none();
    if !CR_TOKEN_FILES.iter().any(is_there) {
        let what =
            "this is no container with a compute-resource token: none of its usual files is there";
        let hint = format!("they are {}", CR_TOKEN_FILES.join(", "));
        table.reading.warning(table.span.clone(), what, hint);
    }
    Location::FirstOf(CR_TOKEN_FILES)
}

fn vpc(table: &mut Table<'_>, origin: Option<Origin>) -> Option<Vpc> {
    let version = match table.key("vpc_ims_version") {
        Some(_) => table.choice("vpc_ims_version", &ImsVersion::NAMES),
        None => Some(ImsVersion::default()),
    };
    let profile = profile(table)?.map(|(key, text)| match key {
        "iam_profile_crn" => VpcProfile::Crn(text),
        "iam_profile_id" => VpcProfile::Id(text),
        _ => VpcProfile::Name(text),
    });
    Some(Vpc {
        origin: origin?,
        version: version?,
        profile,
    })
}

fn mcsp(table: &mut Table<'_>, origin: Option<Origin>) -> Option<Mcsp> {
    let apikey = required_secret(table, "apikey");
    Some(Mcsp {
        origin: origin?,
        apikey: apikey?,
    })
}

fn mcsp_v2(table: &mut Table<'_>, origin: Option<Origin>) -> Option<McspV2> {
    let apikey = required_secret(table, "apikey");
    for (key, hint) in [
        (
            "scope_collection_type",
            "\"accounts\", \"subscriptions\" or \"services\"",
        ),
        (
            "scope_id",
            "scope_id = \"…\", the id of the account, subscription or service",
        ),
    ] {
        if table.key(key).is_none() {
            table.missing(format!("{key} is missing"), hint);
        }
    }
    let collection = table.choice("scope_collection_type", &ScopeCollection::NAMES);
    let scope_id = location::text(table, "scope_id");
    let mut include = |key, default| match table.key(key) {
        Some(_) => table.boolean(key),
        None => Some(default),
    };
    let include_builtin_actions = include("include_builtin_actions", false);
    let include_custom_actions = include("include_custom_actions", false);
    let include_roles = include("include_roles", true);
    let prefix_roles = include("prefix_roles", false);
    let caller_ext_claim = caller_ext_claim(table);
    Some(McspV2 {
        origin: origin?,
        apikey: apikey?,
        collection: collection?,
        scope_id: scope_id?,
        include_builtin_actions: include_builtin_actions?,
        include_custom_actions: include_custom_actions?,
        include_roles: include_roles?,
        prefix_roles: prefix_roles?,
        caller_ext_claim: caller_ext_claim?,
    })
}

/// The outer `None` is a mistake, the inner one a key that is not there.
fn caller_ext_claim(table: &mut Table<'_>) -> Option<Option<CallerExtClaim>> {
    if table.key("caller_ext_claim").is_none() {
        return Some(None);
    }
    let json = table.text("caller_ext_claim")?;
    let claim = CallerExtClaim::parse(json.get_ref());
    if claim.is_none() {
        let hint = "caller_ext_claim = '{\"productID\":\"…\"}', in single quotes";
        table
            .reading
            .mistake(json.span(), "not a JSON object", hint);
    }
    claim.map(Some)
}

/// Both or neither of `client_id` and `client_secret`; as [`caller_ext_claim`].
fn client(table: &mut Table<'_>) -> Option<Option<Client>> {
    let keys = [table.key("client_id"), table.key("client_secret")];
    let id = optional_text(table, "client_id");
    let secret = location::secret(table, "client_secret");
    match keys {
        [None, None] => Some(None),
        [Some(span), Some(_)] => {
            let id = id??;
            if let Text::Literal(name) = &id
                && name.contains(':')
            {
                let hint = "the server takes all after the first colon for the secret";
                table
                    .reading
                    .mistake(span, "a colon in the client_id", hint);
                return None;
            }
            Some(Some(Client {
                id,
                secret: secret?,
            }))
        }
        [Some(span), None] | [None, Some(span)] => {
            let what = "client_id and client_secret go together";
            let hint = "client_id = \"…\" and client_secret = { file = \"…\" }, or neither";
            table.reading.mistake(span, what, hint);
            None
        }
    }
}

/// At most one name of a trusted profile, with its key; as [`caller_ext_claim`].
fn profile(table: &mut Table<'_>) -> Option<Option<(&'static str, Text)>> {
    let keys = ["iam_profile_crn", "iam_profile_id", "iam_profile_name"];
    let written: Vec<_> = keys
        .iter()
        .filter_map(|key| Some((*key, table.key(key)?)))
        .collect();
    let mut texts: Vec<_> = written
        .iter()
        .map(|(key, _)| Some((*key, location::text(table, key)?)))
        .collect();
    match &written[..] {
        [] => Some(None),
        [_] => texts.remove(0).map(Some),
        [_, (_, span), ..] => {
            let hint = "keep one of iam_profile_crn, iam_profile_id and iam_profile_name";
            let what = "more than one name of the trusted profile";
            table.reading.mistake(span.clone(), what, hint);
            None
        }
    }
}
