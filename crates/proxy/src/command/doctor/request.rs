//! One authorised request to the upstream of a route, and what the answer means.

use std::{collections::HashMap, io::Write};

use http::{HeaderMap, StatusCode, uri::PathAndQuery};
use token_source::{
    Connector, Kind, ask,
    connect::with_causes,
    exchange::{Grant, Record},
};

use super::{
    login::{tell_clock, tell_step},
    sheet::{Mark, Sheet},
};
use crate::{
    config::{Config, Place, Route},
    journey::{attach::Form, rewrite::Target, route::Path, token_endpoints},
};

/// The target of the request: a path with or without a query, one that no upstream hands out tokens at.
///
/// # Errors
/// What is wrong with it, for the command line.
pub(super) fn parse(path: &str, config: &Config) -> Result<PathAndQuery, &'static str> {
    let target = PathAndQuery::try_from(path).map_err(|_| NO_PATH)?;
    let parsed = Path::parse(target.path()).map_err(|_| NO_PATH)?;
    let mut bases = config.upstreams.iter().map(|one| &one.origin.base_path);
    if bases.any(|base| token_endpoints::leads_to_one(base, parsed)) {
        return Err("--path: a call there would log in, or make a key and void the one in use");
    }
    Ok(target)
}

/// Asks the upstream of a route as a client of it would; `grants` are those of the credentials, by their names.
pub(super) async fn request<W: Write>(
    sheet: &mut Sheet<W>,
    config: &Config,
    route: &Route,
    target: &PathAndQuery,
    grants: &HashMap<&str, Grant>,
) {
    let upstream = &config.upstreams[route.upstream];
    sheet.heading(format_args!(
        "route {} (upstream {})",
        route.name, upstream.name
    ));
    let mut headers: HeaderMap = route.set_headers.iter().cloned().collect();
    let mut whole = Target::AsItCame(target.clone());
    let mut put_on = Ok(());
    for attachment in &route.attach {
        let name = &*config.credentials[attachment.credential].name;
        let Some(grant) = grants.get(name) else {
            sheet.fail("request", format_args!("not tried: no credential {name}"));
            return;
        };
        let form = Form::new(&grant.value, &attachment.place);
        put_on = put_on.and_then(|()| form.put_on(&mut headers, &mut whole));
    }
    let Ok(whole) = put_on.and_then(|()| whole.into_path_and_query()) else {
        sheet.fail(
            "request",
            "not tried: the target is no target with the credential",
        );
        return;
    };
    let record = Record::kept(sheet.redaction().clone());
    let connector = Connector::new(upstream.origin.clone());
    let outcome = ask(&connector, whole, headers, &record).await;
    let steps = record.steps();
    for step in &steps {
        tell_step(sheet, "request", step, mark(step.status));
    }
    match outcome {
        Ok(status) => {
            for advice in meaning(status, config, route) {
                sheet.advise(advice);
            }
        }
        Err(error) => sheet.advise(sheet.quote(&with_causes(&error))),
    }
    tell_clock(sheet, &steps, None);
}

/// A path that is not there, or a request that is not whole, says nothing of the credential.
fn mark(status: Option<StatusCode>) -> Mark {
    match status {
        Some(status) if status.is_success() => Mark::Ok,
        Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) | None => Mark::Fail,
        Some(status) if status.is_client_error() => Mark::Warn,
        Some(_) => Mark::Fail,
    }
}

/// What a status says of the credential.
fn meaning(status: StatusCode, config: &Config, route: &Route) -> Vec<&'static str> {
    let is_attached = |wanted: fn(&Kind) -> bool, by_query: bool| {
        route.attach.iter().any(|attachment| {
            let is_query = matches!(attachment.place, Place::Query { .. });
            wanted(&config.credentials[attachment.credential].kind) && is_query == by_query
        })
    };
    let by_url = is_attached(|kind| matches!(kind, Kind::Token { .. }), true);
    let by_account = is_attached(|kind| matches!(kind, Kind::ServiceAccount { .. }), false);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if by_url => vec![
            "License Service does not take this token by its URL: was its pod restarted after its Secret was edited?",
            "if spec.features.auth.urlBasedEnabled is false, it takes none: use the kind service_account",
        ],
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if by_account => {
            vec!["bind the service account to the ClusterRole ibm-licensing-default-reader"]
        }
        StatusCode::UNAUTHORIZED if route.attach.is_empty() => {
            vec!["nothing is attached by this route, and the upstream wants a credential"]
        }
        StatusCode::UNAUTHORIZED => vec![
            "the upstream does not take this credential at all: is it for this upstream, and the right kind?",
        ],
        StatusCode::FORBIDDEN => {
            vec![
                "the upstream knows the user, who may not do this: give it the role that the path needs",
            ]
        }
        StatusCode::NOT_FOUND => vec!["there is no such path: it says nothing of the credential"],
        status if status.is_redirection() => {
            vec!["it sends us elsewhere, to a login page as a rule: the credential was not taken"]
        }
        status if status.is_client_error() => {
            vec!["the credential was taken, as it seems; the request was not"]
        }
        status if status.is_server_error() => {
            vec!["the upstream has a problem of its own: see its log"]
        }
        _ => Vec::new(),
    }
}

const NO_PATH: &str = "--path: not a path such as /v2/projects?limit=1";
