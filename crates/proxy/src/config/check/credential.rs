//! `[credential.NAME.KIND]`: what is attached, and how it is obtained.

use std::{sync::Arc, time::Duration};

use token_source::{
    Kind, Location, Origin, Settings,
    credential::{Proof, Text},
};

use super::{
    Declared, location, resolve,
    upstream::{Keys, origin},
};
use crate::config::{
    Upstream, defaults,
    reading::Wrong,
    wire::{Named, Table, suggest},
};

/// A credential and the one server that it may go to.
pub(super) struct Credential {
    pub(super) settings: Settings,
    /// `None`: the operator did not say; the routes that attach it must agree.
    pub(super) home: Option<Origin>,
}

pub(super) fn credentials(
    root: &mut Table<'_>,
    upstreams: &[Declared<Upstream>],
    poll: Duration,
) -> Vec<Declared<Credential>> {
    root.named("credential")
        .unwrap_or_default()
        .into_iter()
        .map(|Named { name, table }| Declared {
            name: name.clone(),
            span: table.span.clone(),
            built: credential(name, table, upstreams, poll),
        })
        .collect()
}

fn credential(
    name: Arc<str>,
    mut table: Table<'_>,
    upstreams: &[Declared<Upstream>],
    poll: Duration,
) -> Option<Credential> {
    let reading = table.reading;
    refuse_what_is_no_kind(&table);
    let mut kinds: Vec<_> = KINDS
        .iter()
        .filter_map(|kind| Some((*kind, table.key(kind)?)))
        .collect();
    kinds.sort_by_key(|(_, span)| span.start);
    let has_later = LATER_KINDS.iter().any(|kind| table.has(kind));
    table.later(&LATER_KINDS);
    if let Some((_, span)) = kinds.get(1) {
        reading.mistake(
            span.clone(),
            "a credential has one kind",
            "give the other a name of its own: [credential.OTHER.KIND]",
        );
    }
    let Some(&(kind, _)) = kinds.first() else {
        if !has_later && table.keys().is_empty() {
            table.missing(
                "a credential needs a kind",
                format!("[credential.{name}.KIND] with {}", all_kinds()),
            );
        }
        return None;
    };
    let settings = table.table(kind)?;
    build(name, kind, settings, upstreams, poll).filter(|_| kinds.len() == 1)
}

/// Told here and not by [`Table::done`]: `[credential.NAME]` without a kind is the likely slip.
fn refuse_what_is_no_kind(table: &Table<'_>) {
    for (key, is_table) in table.keys() {
        if KINDS.contains(&&**key.get_ref()) || LATER_KINDS.contains(&&**key.get_ref()) {
            continue;
        }
        let kinds = KINDS.iter().copied();
        let (what, hint) = if is_table {
            (
                "not a kind of credential",
                suggest(key.get_ref(), kinds, "the kinds are"),
            )
        } else {
            let hint = format!(
                "the table's name ends in the kind: [credential.NAME.KIND] with {}",
                all_kinds()
            );
            ("a key where the kind of a credential belongs", hint)
        };
        table.reading.mistake(key.span(), what, hint);
    }
}

fn build(
    name: Arc<str>,
    kind: &'static str,
    mut table: Table<'_>,
    upstreams: &[Declared<Upstream>],
    default_poll: Duration,
) -> Option<Credential> {
    let place = format!("credential.{name}.{kind}");
    let lifetime = table.duration("lifetime");
    let wait_for_token = table.duration_or_zero("wait_for_token");
    let poll = table.duration("poll").unwrap_or(default_poll);
    let home = match kind {
        "cp4d" | "cp4d_iam" | "cp4d_ldap" => login_server(&mut table, upstreams, kind, &place),
        _ => home(&mut table, upstreams),
    };
    let kind = match kind {
        "cp4d" => cp4d(&mut table, home.as_ref()),
        "cp4d_iam" => cp4d_iam(&mut table, home.as_ref(), &place),
        "cp4d_ldap" => cp4d_ldap(&mut table, home.as_ref()),
        "zen_api_key" => user_and_secret(&mut table)
            .map(|(username, secret)| Kind::ZenApiKey { username, secret }),
        "basic" => {
            user_and_secret(&mut table).map(|(username, secret)| Kind::Basic { username, secret })
        }
        "token" => required_secret(&mut table, "value").map(|value| Kind::Token { value }),
        _ => service_account(&mut table).map(|value| Kind::ServiceAccount { value }),
    };
    table.later(&["proxy"]);
    table.done();
    let home = home?;
    Some(Credential {
        settings: Settings {
            name,
            kind: kind?,
            lifetime,
            wait_for_token,
            poll,
        },
        home: home.may_go_to,
    })
}

/// Where a credential is obtained and where it may go.
struct Home {
    login: Option<Origin>,
    may_go_to: Option<Origin>,
}

/// The server that an exchange talks to: `url`, else the `upstream` that the token is for.
fn login_server(
    table: &mut Table<'_>,
    upstreams: &[Declared<Upstream>],
    kind: &str,
    place: &str,
) -> Option<Home> {
    let has_url = table.key("url").is_some();
    let is_named = table.key("upstream").is_some();
    let upstream = home(table, upstreams);
    if has_url {
        let mut login = origin(
            table,
            &Keys {
                url: "url",
                tls: "tls",
            },
            place,
        )?;
        if kind == "cp4d" {
            strip_authorize(&mut login.base_path);
        }
        let may_go_to = if is_named {
            upstream?.may_go_to
        } else {
            Some(login.clone())
        };
        return Some(Home {
            login: Some(login),
            may_go_to,
        });
    }
    if !is_named {
        table.missing(
            format!("{kind} needs to know where to log in"),
            "upstream = \"NAME\" of an [upstream.NAME] table, or url = \"https://…\"",
        );
    }
    for key in ["tls", "plain_http"] {
        if let Some(span) = table
            .key(key)
            .filter(|_| !table.has("identity_url") || key == "tls")
        {
            table.reading.mistake(
                span,
                format!("{key} goes with a url"),
                "it is taken from the upstream; write it there",
            );
        }
    }
    let mut login = upstream?.may_go_to?;
    let may_go_to = Some(login.clone());
    // The login endpoints are at the root of the server, whatever part of it the upstream is.
    login.base_path.clear();
    Some(Home {
        login: Some(login),
        may_go_to,
    })
}

/// The server that `upstream` names, if it does.
fn home(table: &mut Table<'_>, upstreams: &[Declared<Upstream>]) -> Option<Home> {
    if table.key("upstream").is_none() {
        return Some(Home {
            login: None,
            may_go_to: None,
        });
    }
    let name = table.text("upstream")?;
    let index = resolve(table.reading, upstreams, &name, "upstream")?;
    let origin = upstreams[index].built.as_ref()?.origin.clone();
    Some(Home {
        login: None,
        may_go_to: Some(origin),
    })
}

fn cp4d(table: &mut Table<'_>, home: Option<&Home>) -> Option<Kind> {
    let username = required_username(table);
    let account_id = optional_text(table, "account_id");
    let proof = proof(table);
    Some(Kind::Cp4d {
        origin: home?.login.clone()?,
        username: username?,
        proof: proof?,
        account_id: account_id?,
    })
}

fn cp4d_iam(table: &mut Table<'_>, home: Option<&Home>, place: &str) -> Option<Kind> {
    let username = required_username(table);
    let account_id = optional_text(table, "account_id");
    let password = password_only(table, "cp4d_iam");
    let identity = if table.key("identity_url").is_some() {
        let keys = Keys {
            url: "identity_url",
            tls: "identity_tls",
        };
        origin(table, &keys, &format!("{place}.identity_url"))
    } else {
        if let Some(span) = table.key("identity_tls") {
            let hint = "without identity_url, the platform's own server and tls are used";
            table
                .reading
                .mistake(span, "identity_tls goes with identity_url", hint);
        }
        home.and_then(|home| home.login.clone())
    };
    Some(Kind::Cp4dIam {
        platform: home?.login.clone()?,
        identity: identity?,
        username: username?,
        password: password?,
        account_id: account_id?,
    })
}

fn cp4d_ldap(table: &mut Table<'_>, home: Option<&Home>) -> Option<Kind> {
    let username = required_username(table);
    let password = password_only(table, "cp4d_ldap");
    Some(Kind::Cp4dLdap {
        origin: home?.login.clone()?,
        username: username?,
        password: password?,
    })
}

fn user_and_secret(table: &mut Table<'_>) -> Option<(Text, Location)> {
    let span = table.value("username").map(toml::Spanned::span);
    let username = required_username(table);
    let secret = proof(table).map(|proof| match proof {
        Proof::ApiKey(location) | Proof::Password(location) => location,
    });
    if let (Some(span), Some(Text::Literal(name))) = (span, &username)
        && name.contains(':')
    {
        let hint = "the server takes all after the first colon for the secret";
        table.reading.mistake(span, "a colon in the username", hint);
    }
    Some((username?, secret?))
}

/// Exactly one of `api_key` and `password`.
fn proof(table: &mut Table<'_>) -> Option<Proof> {
    let api_key = table.key("api_key");
    let password = table.key("password");
    let proof = match (&api_key, &password) {
        (Some(_), _) => location::secret(table, "api_key").map(Proof::ApiKey),
        (None, Some(_)) => location::secret(table, "password").map(Proof::Password),
        (None, None) => {
            table.missing(
                "neither api_key nor password",
                "api_key = { file = \"/run/secrets/api-key\" }, or password likewise",
            );
            None
        }
    };
    if api_key.is_some()
        && let Some(span) = password
    {
        location::secret(table, "password");
        table.reading.mistake(
            span,
            "both api_key and password",
            "keep one; the platform takes an API key even where passwords are off",
        );
        return None;
    }
    proof
}

fn password_only(table: &mut Table<'_>, kind: &str) -> Option<Location> {
    table.refuse(&["api_key"], |_| {
        Wrong::new(
            format!("{kind} takes a password, not an API key"),
            "password = { file = \"…\" }, or the kind cp4d, which takes an api_key",
        )
    });
    if table.has("api_key") && !table.has("password") {
        return None; // one mistake, told once
    }
    required_secret(table, "password")
}

fn required_secret(table: &mut Table<'_>, key: &'static str) -> Option<Location> {
    if table.key(key).is_none() {
        let hint = format!("{key} = {{ file = \"/run/secrets/{key}\" }}");
        table.missing(format!("{key} is missing"), hint);
    }
    location::secret(table, key)
}

fn required_username(table: &mut Table<'_>) -> Option<Text> {
    if table.key("username").is_none() {
        table.missing(
            "username is missing",
            "username = \"svc-watsonx\", or a place",
        );
    }
    location::text(table, "username")
}

/// The outer `None` is a mistake, the inner one a key that is not there.
fn optional_text(table: &mut Table<'_>, key: &'static str) -> Option<Option<Text>> {
    match table.key(key) {
        Some(_) => location::text(table, key).map(Some),
        None => Some(None),
    }
}

fn service_account(table: &mut Table<'_>) -> Option<Location> {
    if table.key("value").is_some() {
        return location::secret(table, "value");
    }
    let path = std::path::PathBuf::from(defaults::SERVICE_ACCOUNT_TOKEN);
    if let Some(wrong) = location::warn_if_not_there(&path) {
        let what = format!("{}: {}", path.display(), wrong.what);
        table.reading.warning(table.span.clone(), what, wrong.hint);
    }
    Some(Location::File { path, field: None })
}

/// IBM's SDKs want `AUTH_URL` with the first part of the login path, its pages give all of it, and people write
/// either.
fn strip_authorize(base_path: &mut String) {
    for ending in ["/v1/authorize", "/icp4d-api"] {
        if let Some(start) = base_path.strip_suffix(ending) {
            base_path.truncate(start.len());
        }
    }
}

fn all_kinds() -> String {
    format!("the kind one of {}", KINDS.join(", "))
}

pub(super) const KINDS: [&str; 7] = [
    "cp4d",
    "cp4d_iam",
    "cp4d_ldap",
    "zen_api_key",
    "basic",
    "token",
    "service_account",
];

const LATER_KINDS: [&str; 7] = [
    "iam",
    "iam_assume",
    "container",
    "vpc",
    "mcsp",
    "mcsp_v2",
    "steps",
];
