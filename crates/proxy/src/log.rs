//! The log: human on a terminal, one JSON object per line otherwise; always to standard error.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::Log;

/// Starts the log; `RUST_LOG` wins over the configured level.
pub fn start(log: &Log) {
    let filter = EnvFilter::try_from_default_env().or_else(|_| EnvFilter::try_new(&log.level));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = io::stderr().is_terminal();
    // A log that cannot be written must not stop a request: neither a panic nor a second line about it.
    let lines = fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(terminal)
        .log_internal_errors(false);
    let started = match log.json.unwrap_or(!terminal) {
        true => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        false => lines.with_target(false).try_init(),
    };
    if started.is_err() {
        tracing::debug!("the log was started before");
    }
}
