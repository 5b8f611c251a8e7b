//! `check`: the configuration's mistakes, all at once; nothing is contacted.

use std::process::ExitCode;

use super::refuse;
use crate::config::{Config, Environment, Source};

/// Checks the configuration and says how it stands.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the outcome is what the operator asked for"
)]
pub fn run(source: &Source, strict: bool) -> ExitCode {
    match Config::load(source, strict, &Environment::of_process()) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("{warning}\n");
            }
            let config = &loaded.config;
            println!(
                "the configuration is right: {} listeners, {} routes, {} upstreams, {} credentials, {} warnings",
                config.listeners.len(),
                config.routes.len(),
                config.upstreams.len(),
                config.credentials.len(),
                loaded.warnings.len()
            );
            ExitCode::SUCCESS
        }
        Err(report) => refuse(&report),
    }
}
