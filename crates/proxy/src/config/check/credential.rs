//! `[credential.NAME.KIND]`: what is attached, and how it is obtained.

use std::{sync::Arc, time::Duration};

use token_source::{
    Kind, Location, Origin, Settings,
    credential::{Proof, Text},
};

use super::{
    Declared, cloud,
    home::{Home, homes, login_server},
    location, steps,
    upstream::{Keys, origin, warn_of_needless_plain_http},
};
use crate::config::{
    Upstream, defaults,
    reading::Wrong,
    wire::{Named, Table, suggest},
};

/// A credential and the one place that it may go to.
pub(super) struct Credential {
    pub(super) settings: Settings,
    /// Empty: the operator did not say; the routes that attach it must agree.
    pub(super) homes: Vec<Origin>,
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
    if let Some((_, span)) = kinds.get(1) {
        reading.mistake(
            span.clone(),
            "a credential has one kind",
            "give the other a name of its own: [credential.OTHER.KIND]",
        );
    }
    let Some(&(kind, _)) = kinds.first() else {
        if table.keys().is_empty() {
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
        if KINDS.contains(&&**key.get_ref()) {
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
    let lifetime = lifetime(&mut table, kind);
    let wait_for_token = table.duration_or_zero("wait_for_token");
    let poll = poll(&mut table).unwrap_or(default_poll);
    let home = match kind {
        "cp4d" | "cp4d_iam" | "cp4d_ldap" => login_server(&mut table, upstreams, kind, &place),
        _ => homes(&mut table, upstreams),
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
        "service_account" => {
            service_account(&mut table).map(|value| Kind::ServiceAccount { value })
        }
        "steps" => steps::steps(&mut table, &place),
        _ => cloud::cloud(&mut table, kind, &place),
    };
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
        homes: home.may_go_to,
    })
}

/// How long a token is good that does not tell it.
fn lifetime(table: &mut Table<'_>, kind: &str) -> Option<Duration> {
    if matches!(kind, "zen_api_key" | "basic") {
        table.refuse(&["lifetime"], |_| {
            Wrong::new(
                format!("lifetime has no meaning for {kind}"),
                "leave it out: the value is good until it changes",
            )
        });
        return None;
    }
    table.duration_of_at_least("lifetime", SHORTEST_LIFETIME)
}

/// How often the places of secrets are looked at.
pub(super) fn poll(table: &mut Table<'_>) -> Option<Duration> {
    table.duration_of_at_least("poll", SHORTEST_POLL)
}

fn cp4d(table: &mut Table<'_>, home: Option<&Home>) -> Option<Kind> {
    let username = required_username(table);
    let account_id = optional_text(table, "account_id");
    let proof = proof(table);
    refuse_needless_waiver(table, home, None);
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
            ..Keys::OF_URL
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
    refuse_needless_waiver(table, home, identity.as_ref());
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
    let account_id = optional_text(table, "account_id");
    let password = password_only(table, "cp4d_ldap");
    refuse_needless_waiver(table, home, None);
    Some(Kind::Cp4dLdap {
        origin: home?.login.clone()?,
        username: username?,
        password: password?,
        account_id: account_id?,
    })
}

/// `plain_http` waives TLS for the URLs that are written here; an upstream has a waiver of its own.
fn refuse_needless_waiver(table: &mut Table<'_>, home: Option<&Home>, identity: Option<&Origin>) {
    let login = home
        .and_then(|home| home.login.as_ref())
        .filter(|_| table.has("url"));
    let identity = identity.filter(|_| table.has("identity_url"));
    // Where a URL is wrong, nobody knows what it needs.
    if table.has("url") == login.is_some() && table.has("identity_url") == identity.is_some() {
        let written: Vec<_> = login.into_iter().chain(identity).collect();
        if !written.is_empty() {
            warn_of_needless_plain_http(table, &written);
        }
    }
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

pub(super) fn required_secret(table: &mut Table<'_>, key: &'static str) -> Option<Location> {
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
pub(super) fn optional_text(table: &mut Table<'_>, key: &'static str) -> Option<Option<Text>> {
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

fn all_kinds() -> String {
    format!("the kind one of {}", KINDS.join(", "))
}

pub(super) const KINDS: [&str; 14] = [
    "cp4d",
    "cp4d_iam",
    "cp4d_ldap",
    "zen_api_key",
    "basic",
    "token",
    "service_account",
    "iam",
    "iam_assume",
    "container",
    "vpc",
    "mcsp",
    "mcsp_v2",
    "steps",
];

/// A shorter one would make a login of every request.
const SHORTEST_LIFETIME: Duration = Duration::from_secs(1);

const SHORTEST_POLL: Duration = Duration::from_millis(100);
