//! `serve`: requests are carried until SIGTERM or Ctrl-C.

use std::process::ExitCode;

use super::{http_proxy_takes_localhost, refuse};
use crate::{
    config::{Config, Environment, Loaded, Source},
    log,
    process::{
        harden::harden,
        serve::{ServeError, serve},
        shutdown,
    },
};

/// Serves what the configuration asks for; 0 after an orderly end.
pub fn run(source: &Source) -> ExitCode {
    let loaded = match Config::load(source, false, &Environment::of_process()) {
        Ok(loaded) => loaded,
        Err(report) => return refuse(&report),
    };
    let Loaded {
        config,
        warnings,
        from,
    } = loaded;
    log::start(&config.log);
    tracing::info!(from, "configuration");
    for warning in &warnings {
        tracing::warn!(at = %warning.place, hint = %warning.hint, "{}", warning.what);
    }
    if http_proxy_takes_localhost() {
        tracing::warn!(
            "http_proxy is set: clients reach this proxy only if NO_PROXY names localhost and 127.0.0.1"
        );
    }
    harden(&config);
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
