//! The home of a credential: where it is obtained, and the places that it may go to.

use token_source::{Origin, credential::cloud::strip_endpoint};
use toml::{Spanned, de::DeValue};

use super::{
    Declared,
    credential::Credential,
    resolve,
    upstream::{Keys, origin},
};
use crate::config::{
    Upstream,
    reading::{Reading, Span},
    wire::Table,
};

/// Where a credential is obtained and where it may go.
pub(super) struct Home {
    /// The server that an exchange logs in to.
    pub(super) login: Option<Origin>,
    /// Empty: the operator did not say; the routes that attach it must agree.
    pub(super) may_go_to: Vec<Origin>,
}

/// The servers that `upstream` names, if it does: one, or a list.
pub(super) fn homes(table: &mut Table<'_>, upstreams: &[Declared<Upstream>]) -> Option<Home> {
    let reading = table.reading;
    let names = match table.value("upstream").map(Spanned::get_ref) {
        None => Vec::new(),
        Some(DeValue::Array(list)) if list.is_empty() => {
            let span = table.key("upstream").unwrap_or_default();
            let hint = "name those that it is for, or leave it out: then the first route says it";
            reading.mistake(span, "the credential would go nowhere", hint);
            return None;
        }
        Some(DeValue::Array(_)) => table.texts("upstream")?,
        Some(_) => vec![table.text("upstream")?],
    };
    let found: Vec<_> = names
        .iter()
        .map(|name| origin_of(reading, upstreams, name))
        .collect();
    Some(Home {
        login: None,
        may_go_to: found.into_iter().collect::<Option<_>>()?,
    })
}

fn origin_of(
    reading: &Reading<'_>,
    upstreams: &[Declared<Upstream>],
    name: &Spanned<String>,
) -> Option<Origin> {
    let index = resolve(reading, upstreams, name, "upstream")?;
    Some(upstreams[index].built.as_ref()?.origin.clone())
}

/// The server that an exchange talks to: `url`, else the `upstream` that the token is for.
pub(super) fn login_server(
    table: &mut Table<'_>,
    upstreams: &[Declared<Upstream>],
    kind: &str,
    place: &str,
) -> Option<Home> {
    let has_url = table.key("url").is_some();
    let is_named = table.key("upstream").is_some();
    let upstream = upstream(table, upstreams, kind);
    if has_url {
        let mut login = origin(table, &Keys::OF_URL, place)?;
        strip_endpoint(kind, &mut login.base_path);
        let may_go_to = if is_named { upstream? } else { login.clone() };
        return Some(Home {
            login: Some(login),
            may_go_to: vec![may_go_to],
        });
    }
    if !is_named {
        table.missing(
            format!("{kind} needs to know where to log in"),
            "upstream = \"NAME\" of an [upstream.NAME] table, or url = \"https://…\"",
        );
    }
    for key in ["tls", "plain_http", "proxy"] {
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
    let may_go_to = upstream?;
    // The login endpoints are at the root of the server, whatever part of it the upstream is.
    let login = Origin {
        base_path: String::new(),
        ..may_go_to.clone()
    };
    Some(Home {
        login: Some(login),
        may_go_to: vec![may_go_to],
    })
}

/// The one server of a kind that logs in where its token is for.
fn upstream(table: &mut Table<'_>, upstreams: &[Declared<Upstream>], kind: &str) -> Option<Origin> {
    let value = table.value("upstream")?;
    if value.get_ref().is_array() {
        table.reading.mistake(
            value.span(),
            format!("a token of {kind} is for one platform"),
            "upstream = \"NAME\", and a credential for each other platform",
        );
        return None;
    }
    let name = table.text("upstream")?;
    origin_of(table.reading, upstreams, &name)
}

/// A use of a credential by a route.
pub(super) struct Use {
    pub(super) credential: usize,
    pub(super) upstream: usize,
    pub(super) span: Span,
}

/// A credential goes only to where it was configured for; where nothing was, to where the first route takes it.
pub(super) fn refuse_strangers(
    reading: &Reading<'_>,
    uses: &[Use],
    credentials: &[Declared<Credential>],
    upstreams: &[Declared<Upstream>],
) {
    for (index, one) in uses.iter().enumerate() {
        let (Some(credential), Some(upstream)) = (
            &credentials[one.credential].built,
            &upstreams[one.upstream].built,
        ) else {
            continue;
        };
        let name = &credentials[one.credential].name;
        let stranger = &upstream.name;
        if let Some(home) = credential.homes.first() {
            let is_home = |home| difference(home, &upstream.origin).is_none();
            if !credential.homes.iter().any(is_home)
                && let Some(difference) = difference(home, &upstream.origin)
            {
                let table = format!("[credential.{name}.{}]", credential.settings.kind.name());
                let hint = if credential.homes.len() > 1 {
                    format!("if it is for this upstream, add \"{stranger}\" to upstream in {table}")
                } else {
                    format!(
                        "{difference}: if it is for this upstream, write upstream = \"{stranger}\" in {table}"
                    )
                };
                reading.mistake(
                    one.span.clone(),
                    format!("credential `{name}` is not for upstream `{stranger}`"),
                    format!("{hint}; if not, name another credential"),
                );
            }
            continue;
        }
        let first = uses[..index]
            .iter()
            .find(|other| other.credential == one.credential);
        let first = first.and_then(|first| upstreams[first.upstream].built.as_ref());
        if let Some(first) = first
            && let Some(difference) = difference(&first.origin, &upstream.origin)
        {
            reading.mistake(
                one.span.clone(),
                format!("credential `{name}` would go to two places"),
                format!(
                    "another route attaches it for upstream `{first}`, this one for `{stranger}`, and {difference}: \
                     write two [credential.…] tables, one for each, or let it go to both by name, upstream = \
                     [\"{first}\", \"{stranger}\"]",
                    first = first.name
                ),
            );
        }
    }
}

/// What makes `other` another place than `home` or a part of it, if anything does.
///
/// One server may be several to us: with a weaker `tls` somebody else may answer in its name, and on a shared host
/// each path may be another service.
fn difference(home: &Origin, other: &Origin) -> Option<&'static str> {
    let is_below = other
        .base_path
        .strip_prefix(&home.base_path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if (home.tls, &home.host, home.port) != (other.tls, &other.host, other.port) {
        Some("that is another server")
    } else if home.trust != other.trust {
        Some("that upstream has another tls")
    } else if !is_below {
        Some("that upstream is another part of the server")
    } else {
        None
    }
}
