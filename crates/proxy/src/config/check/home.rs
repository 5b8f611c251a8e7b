//! The home of a credential: where it is obtained, and the one place that it may go to.

use token_source::Origin;

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
    /// `None`: the operator did not say; the routes that attach it must agree.
    pub(super) may_go_to: Option<Origin>,
}

/// The server that `upstream` names, if it does.
pub(super) fn home(table: &mut Table<'_>, upstreams: &[Declared<Upstream>]) -> Option<Home> {
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

/// The server that an exchange talks to: `url`, else the `upstream` that the token is for.
pub(super) fn login_server(
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
        if let Some(home) = &credential.home {
            if let Some(difference) = difference(home, &upstream.origin) {
                let kind = credential.settings.kind.name();
                reading.mistake(
                    one.span.clone(),
                    format!("credential `{name}` is not for upstream `{stranger}`"),
                    format!(
                        "{difference}: if it is for this upstream, write upstream = \"{stranger}\" in \
                         [credential.{name}.{kind}]; if not, name another credential"
                    ),
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
                    "another route attaches it for upstream `{}`, this one for `{stranger}`, and {difference}: \
                     write two [credential.…] tables, one for each",
                    first.name
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

/// IBM's SDKs want `AUTH_URL` with the first part of the login path, its pages give all of it, and people write
/// either.
pub(crate) fn strip_authorize(base_path: &mut String) {
    for ending in ["/v1/authorize", "/icp4d-api"] {
        if let Some(start) = base_path.strip_suffix(ending) {
            base_path.truncate(start.len());
        }
    }
}
