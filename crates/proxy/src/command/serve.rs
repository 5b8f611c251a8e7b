//! `serve`: requests are carried until SIGTERM or Ctrl-C.

use std::{env, process::ExitCode};

use super::refuse;
use crate::{
    config::{Config, Environment, Loaded, Source},
    log,
    process::{
        serve::{ServeError, serve},
        shutdown,
    },
};

/// Serves what the configuration asks for; 0 after an orderly end.
pub fn run(source: &Source) -> ExitCode {
    let Loaded { config, warnings } = match Config::load(source, false, &Environment::of_process())
    {
        Ok(loaded) => loaded,
        Err(report) => return refuse(&report),
    };
    log::start(&config.log);
    for warning in &warnings {
        tracing::warn!(hint = %warning.hint, "{}", warning.what);
    }
    tell_about_http_proxy();
    let (stop, stops) = shutdown::stop();
    let served = stop
        .on_signals()
        .map_err(ServeError::Thread)
        .and_then(|()| serve(&config, stops));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot serve");
            ExitCode::FAILURE
        }
    }
}

/// A client behind an egress proxy sends its calls of localhost there too, unless it is told not to.
fn tell_about_http_proxy() {
    let set = |name: &str| {
        env::var(name)
            .or_else(|_| env::var(name.to_ascii_uppercase()))
            .ok()
    };
    if set("http_proxy").is_some_and(|proxy| !proxy.is_empty()) {
        let exempt = set("no_proxy").unwrap_or_default();
        if !exempt
            .split(',')
            .any(|name| matches!(name.trim(), "localhost" | "*"))
        {
            tracing::warn!(
                "http_proxy is set: clients reach this proxy only if NO_PROXY names localhost and 127.0.0.1"
            );
        }
    }
}
