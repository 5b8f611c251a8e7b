//! A server that is not trusted: why, and what to write to trust it, if it is the one that is meant.

use std::path::Path;

use rustls::pki_types::ServerName;
use token_source::tls::{Certificate, Distrust};

use super::server::Server;

/// Why the server that presents this certificate is not trusted; the words of a library that looked at it, as a rule.
pub(super) fn reason<'a>(distrust: &'a Distrust, leaf: Option<&Certificate>) -> &'a str {
    match distrust {
        Distrust::UnknownIssuer if leaf.is_some_and(|leaf| leaf.is_self_signed) => {
            "the certificate is signed by itself"
        }
        Distrust::UnknownIssuer => "no authority that is trusted has signed it",
        Distrust::Authority => "the certificate is an authority's own, signed by itself",
        Distrust::Expired => "the certificate has expired",
        Distrust::NotYetValid => "the certificate is not valid yet",
        Distrust::WrongName => "the certificate is for other names",
        Distrust::WrongPin => "its key is none of those in pin",
        Distrust::Other(other) => other,
    }
}

/// What to do about it: a line each; `quote` makes a stranger's words fit to be printed.
pub(super) fn advice(
    server: &Server<'_>,
    distrust: &Distrust,
    leaf: Option<&Certificate>,
    quote: impl Fn(&str) -> String,
) -> Vec<String> {
    let place = server.users.first().map_or("", String::as_str);
    let pin = leaf.map_or("sha256:…", |leaf| &leaf.pin);
    let is_self_signed = leaf.is_some_and(|leaf| leaf.is_self_signed);
    match distrust {
        Distrust::Authority | Distrust::UnknownIssuer if is_self_signed => vec![
            format!("{place}: tls = {{ pin = [\"{pin}\"] }}"),
            "only if this is the server's key: compare it by a way that nobody in between controls"
                .to_owned(),
        ],
        Distrust::UnknownIssuer if is_of_cluster(&server.origin.host) => {
            let is_missing = if Path::new(SERVICE_CA).exists() {
                ""
            } else {
                NOT_THERE
            };
            vec![format!(
                "{place}: tls = {{ ca = \"{SERVICE_CA}\" }}{is_missing}"
            )]
        }
        Distrust::UnknownIssuer => vec![format!(
            "{place}: tls = {{ ca = \"FILE\" }} with the certificate of that authority (--ca FILE without a \
             configuration file)"
        )],
        Distrust::WrongName => {
            // It is pasted into a configuration.
            let name = leaf.and_then(|leaf| leaf.names.iter().find(|name| is_host(name)));
            let name = name.map_or("NAME".to_owned(), |name| quote(name));
            vec![format!(
                "use one of its names in the url; or, if it is the server you mean, {place}: tls = {{ server_name = \
                 \"{name}\" }}"
            )]
        }
        Distrust::WrongPin => vec![format!(
            "if the server's key was changed on purpose, {place}: tls = {{ pin = [\"{pin}\"] }}"
        )],
        Distrust::Expired => {
            vec!["renew it at the server; if its time is not over, set the clock here".to_owned()]
        }
        Distrust::NotYetValid => vec!["set the clock here, or wait".to_owned()],
        Distrust::Authority | Distrust::Other(_) => {
            vec![format!(
                "replace the certificate; or {place}: tls = {{ pin = [\"{pin}\"] }}"
            )]
        }
    }
}

/// A DNS name or an address, as `server_name` takes it.
fn is_host(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}

/// A service of a Kubernetes cluster, as pods call it.
fn is_of_cluster(host: &str) -> bool {
    host.ends_with(".svc") || host.ends_with(".svc.cluster.local")
}

pub(super) const NOT_THERE: &str = " (which is not there: is this a pod of OpenShift?)";

/// Where OpenShift puts the authority of its services' certificates.
const SERVICE_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/service-ca.crt";
