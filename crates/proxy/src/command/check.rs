//! `check`: the configuration's mistakes, all at once; nothing is contacted.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use super::{refuse, tell, unwritten};
use crate::config::{Config, Environment, Source};

/// Checks the configuration and says how it stands.
pub fn run(source: &Source, strict: bool) -> ExitCode {
    match Config::load(source, strict, &Environment::of_process()) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                tell(format_args!("{warning}\n"));
            }
            let config = &loaded.config;
            let said = writeln!(
                io::stdout(),
                "the configuration is right: {} listeners, {} routes, {} upstreams, {} credentials, {} warnings",
                config.listeners.len(),
                config.routes.len(),
                config.upstreams.len(),
                config.credentials.len(),
                loaded.warnings.len()
            );
            match said {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => unwritten(&error),
            }
        }
        Err(report) => refuse(&report),
    }
}
