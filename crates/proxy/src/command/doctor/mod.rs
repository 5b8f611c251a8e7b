//! `doctor`: walks each credential and upstream for real, step by step, and says what is wrong and what to do.
//!
//! What it prints may be shown to anybody: what a stranger wrote goes through `Sheet::quote`, which knows every secret
//! that was read. Nothing is sent to a server that is not trusted.

mod claims;
mod distrust;
mod login;
mod request;
mod server;
mod sheet;

use std::{
    collections::HashMap,
    io::{self, Write},
    process::ExitCode,
};

use http::uri::PathAndQuery;
use token_source::exchange::Grant;

use self::{
    login::Secrets,
    server::{Server, is_same},
    sheet::Sheet,
};
use super::{http_proxy_takes_localhost, misused, unwritten};
use crate::{
    config::{Config, Loaded, Place},
    process::shutdown::unless_asked,
};

/// Walks the credentials and upstreams of these names and what goes with them, or all; 0 when nothing failed.
pub fn run(loaded: &Loaded, names: &[String], path: Option<&str>) -> ExitCode {
    let config = &loaded.config;
    let chosen = match Chosen::from_names(config, names) {
        Ok(chosen) => chosen,
        Err(what) => return misused(&what),
    };
    let target = match path.map(|path| request::parse(path, config)).transpose() {
        Ok(target) => target,
        Err(what) => return misused(what),
    };
    let mut sheet = Sheet::new(io::stdout().lock());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            sheet.fail("doctor", error);
            return end(sheet);
        }
    };
    tell_configuration(&mut sheet, loaded);
    let walked = runtime.block_on(unless_asked(walk(
        &mut sheet,
        config,
        &chosen,
        target.as_ref(),
    )));
    // A look-up or a file that hangs must not hold up the end.
    runtime.shutdown_background();
    if let Err(signal) = walked {
        return ExitCode::from(signal.exit_code);
    }
    sheet.heading(if sheet.has_failed() {
        "something failed"
    } else {
        "nothing failed"
    });
    end(sheet)
}

fn end<W: Write>(sheet: Sheet<W>) -> ExitCode {
    let has_failed = sheet.has_failed();
    match sheet.finish() {
        Ok(()) if has_failed => ExitCode::FAILURE,
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => unwritten(&error),
    }
}

fn tell_configuration<W: Write>(sheet: &mut Sheet<W>, loaded: &Loaded) {
    let config = &loaded.config;
    sheet.heading("configuration");
    sheet.ok("source", &loaded.from);
    for warning in &loaded.warnings {
        sheet.warn(
            "source",
            format_args!("{}: {}", warning.place, warning.what),
        );
        sheet.advise(&warning.hint);
    }
    for waiver in &config.waivers {
        sheet.warn(
            "waived",
            format_args!("{} at {}", waiver.kind, waiver.place),
        );
    }
    if http_proxy_takes_localhost() {
        sheet.warn(
            "http_proxy",
            "is set: clients reach the proxy only if NO_PROXY names localhost and 127.0.0.1",
        );
    }
}

async fn walk<W: Write>(
    sheet: &mut Sheet<W>,
    config: &Config,
    chosen: &Chosen,
    target: Option<&PathAndQuery>,
) {
    // Before anything is asked: a server may know a secret from an earlier login.
    let mut secrets = Vec::new();
    for (settings, is_chosen) in config.credentials.iter().zip(&chosen.credentials) {
        if *is_chosen {
            secrets.push((settings, Secrets::read(&settings.kind, sheet).await));
        }
    }
    let mut good = Vec::new();
    for server in servers(config, chosen) {
        if server::examine(sheet, &server).await {
            good.push(server.origin);
        }
    }
    let bad = |origin: &token_source::Origin| !good.iter().any(|one| is_same(one, origin));
    let mut grants: HashMap<&str, Grant> = HashMap::new();
    for (settings, secrets) in secrets {
        let barred = settings.kind.servers().into_iter().find(|one| bad(one));
        let barred = barred.map(|origin| format!("see server {} above", server::url(origin)));
        let attached = attached(config, &settings.name);
        if let Some(grant) = login::log_in(sheet, settings, &secrets, &attached, barred).await {
            grants.insert(&settings.name, grant);
        }
    }
    let Some(target) = target else { return };
    for route in &config.routes {
        let upstream = &config.upstreams[route.upstream];
        let is_chosen = chosen.upstreams[route.upstream]
            && (route.attach.iter()).all(|attachment| chosen.credentials[attachment.credential]);
        if is_chosen && !bad(&upstream.origin) {
            request::request(sheet, config, route, target, &grants).await;
        }
    }
}

/// How each route attaches a credential: `Authorization: Bearer …, by route platform`.
fn attached(config: &Config, name: &str) -> Vec<String> {
    let attachments = config.routes.iter().flat_map(|route| {
        let attachments = route.attach.iter();
        attachments.map(move |attachment| (route, attachment))
    });
    let attachments = attachments
        .filter(|(_, attachment)| *config.credentials[attachment.credential].name == *name);
    let lines = attachments.map(|(route, attachment)| {
        let place = match &attachment.place {
            Place::Header { name, scheme } => {
                let space = if scheme.is_empty() { "" } else { " " };
                format!("{name}: {scheme}{space}…")
            }
            Place::Query { name } => format!("?{name}=…"),
        };
        format!("{place}, by route {}", route.name)
    });
    lines.collect()
}

/// Every server that is to be asked, once, with who uses it.
fn servers<'a>(config: &'a Config, chosen: &Chosen) -> Vec<Server<'a>> {
    let upstreams = config.upstreams.iter().zip(&chosen.upstreams);
    let upstreams = upstreams.filter(|(_, is_chosen)| **is_chosen);
    let upstreams = upstreams.map(|(one, _)| (&one.origin, format!("upstream {}", one.name)));
    let credentials = config.credentials.iter().zip(&chosen.credentials);
    let credentials = credentials.filter(|(_, is_chosen)| **is_chosen);
    let credentials = credentials.flat_map(|(one, _)| {
        let servers = one.kind.servers().into_iter();
        servers.map(move |origin| (origin, format!("credential {}", one.name)))
    });
    let mut servers: Vec<Server<'_>> = Vec::new();
    for (origin, user) in upstreams.chain(credentials) {
        match servers
            .iter_mut()
            .find(|known| is_same(known.origin, origin))
        {
            Some(known) if known.users.contains(&user) => {}
            Some(known) => known.users.push(user),
            None => servers.push(Server {
                origin,
                users: vec![user],
            }),
        }
    }
    servers
}

/// Which upstreams and credentials are walked, in the order of the configuration.
struct Chosen {
    upstreams: Vec<bool>,
    credentials: Vec<bool>,
}

impl Chosen {
    /// Those of these names; with a credential its upstreams, with an upstream its credentials.
    fn from_names(config: &Config, names: &[String]) -> Result<Self, String> {
        let is_named = |name: &str| names.is_empty() || names.iter().any(|one| one == name);
        let upstreams: Vec<_> = config.upstreams.iter().map(|one| &*one.name).collect();
        let credentials: Vec<_> = config.credentials.iter().map(|one| &*one.name).collect();
        let is_known = |name: &String| {
            upstreams.contains(&name.as_str()) || credentials.contains(&name.as_str())
        };
        if !names.iter().all(is_known) {
            return Err(format!(
                "no credential or upstream has this name; credentials: {}; upstreams: {}",
                credentials.join(", "),
                upstreams.join(", ")
            ));
        }
        let mut chosen = Self {
            upstreams: upstreams.iter().map(|name| is_named(name)).collect(),
            credentials: credentials.iter().map(|name| is_named(name)).collect(),
        };
        for route in &config.routes {
            for attachment in &route.attach {
                if is_named(upstreams[route.upstream]) {
                    chosen.credentials[attachment.credential] = true;
                }
                if is_named(credentials[attachment.credential]) {
                    chosen.upstreams[route.upstream] = true;
                }
            }
        }
        Ok(chosen)
    }
}
