//! The log: human on a terminal, one JSON object per line otherwise; always to standard error.

use std::io::{self, IsTerminal as _};

use tracing::Metadata;
use tracing_subscriber::{
    EnvFilter, filter::filter_fn, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

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
            .finish()
            .with(filter_fn(is_ours_to_tell))
            .try_init(),
        false => lines
            .with_target(false)
            .finish()
            .with(filter_fn(is_ours_to_tell))
            .try_init(),
    };
    if started.is_err() {
        tracing::debug!("the log was started before");
    }
}

/// Whether it comes from somebody who keeps secrets to himself. The clients of the Kubernetes API and of keyrings
/// log what they receive: an answer that `kube` cannot read, as a whole, at level `warn`. What matters of it is told by
/// `token-source`; no `RUST_LOG` changes that.
fn is_ours_to_tell(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let source = target
        .split_once("::")
        .map_or(target, |(crate_name, _)| crate_name);
    !MUTE.contains(&source)
}

const MUTE: [&str; 9] = [
    "keyring_core",
    "kube",
    "kube_client",
    "kube_core",
    "secret_service",
    "tower",
    "tower_http",
    "zbus",
    "zbus_secret_service_keyring_store",
];
