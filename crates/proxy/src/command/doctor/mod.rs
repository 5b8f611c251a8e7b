//! `doctor`: walks each credential and upstream for real, step by step, and says what is wrong and what to do.
//!
//! What it prints is for human eyes: no secret is in it, and nothing is sent to a server that is not trusted.

mod claims;
mod distrust;
mod login;
mod request;
mod server;
mod sheet;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use http::uri::PathAndQuery;

use self::{
    login::Login,
    server::{Server, is_same},
    sheet::Sheet,
};
use super::{http_proxy_takes_localhost, misused};
use crate::{
    config::{Config, Loaded},
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
            return ExitCode::FAILURE;
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
    if sheet.has_failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
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
    let mut good = Vec::new();
    for server in servers(config, chosen) {
        if server::examine(sheet, &server).await {
            good.push(server.origin);
        }
    }
    let bad = |origin: &token_source::Origin| !good.iter().any(|one| is_same(one, origin));
    let mut logins: Vec<Option<Login>> = Vec::new();
    for (settings, is_chosen) in config.credentials.iter().zip(&chosen.credentials) {
        let login = if *is_chosen {
            let barred = settings.kind.servers().into_iter().find(|one| bad(one));
            let barred = barred.map(|origin| format!("see server {} above", server::url(origin)));
            Some(login::log_in(sheet, settings, barred).await)
        } else {
            None
        };
        logins.push(login);
    }
    let Some(target) = target else { return };
    for route in &config.routes {
        let upstream = &config.upstreams[route.upstream];
        let is_chosen = chosen.upstreams[route.upstream]
            && (route.attach.iter()).all(|attachment| chosen.credentials[attachment.credential]);
        if is_chosen && !bad(&upstream.origin) {
            request::request(sheet, config, route, target, &logins).await;
        }
    }
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
