//! The log: human on a terminal, one JSON object per line otherwise; always to standard error.

use std::{
    env,
    io::{self, IsTerminal as _},
};

use tracing::Metadata;
use tracing_subscriber::{
    Registry,
    filter::{LevelFilter, Targets, filter_fn},
    fmt,
    layer::{Layer, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use crate::config::Log;

/// Starts the log; `RUST_LOG` wins over the configured level.
pub fn start(log: &Log) {
    let of_environment = env::var("RUST_LOG").unwrap_or_default();
    let wanted = targets(&of_environment).or_else(|| targets(&log.level));
    let wanted = wanted.unwrap_or_else(usual);
    let most = Layer::<Registry>::max_level_hint(&wanted).unwrap_or(LevelFilter::TRACE);
    let tells = filter_fn(move |metadata| {
        wanted.would_enable(metadata.target(), metadata.level()) && is_ours_to_tell(metadata)
    });
    let terminal = io::stderr().is_terminal();
    // A log that cannot be written must not stop a request: neither a panic nor a second line about it.
    let lines = fmt()
        .with_max_level(most)
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
            .with(tells)
            .try_init(),
        false => lines.with_target(false).finish().with(tells).try_init(),
    };
    if started.is_err() {
        tracing::debug!("the log was started before");
    }
}

/// What to tell, by where it comes from; `None` where that is not said, or cannot be understood. No filter by the fields
/// of spans, for which regular expressions would have to be there: they are as large as the rest of the log.
fn targets(text: &str) -> Option<Targets> {
    let text = text.replace(' ', "");
    text.parse().ok().filter(|_| !text.is_empty())
}

fn usual() -> Targets {
    Targets::new().with_default(LevelFilter::INFO)
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

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_are_by_target() {
        let wanted = targets("Info, rustls=warn,access = off").unwrap();
        assert!(wanted.would_enable("hyper::proto", &Level::INFO));
        assert!(!wanted.would_enable("hyper::proto", &Level::DEBUG));
        assert!(!wanted.would_enable("rustls::client", &Level::INFO));
        assert!(!wanted.would_enable("access", &Level::ERROR));
        for odd in ["", " ", "rustls=loud", "a=b=c"] {
            assert_eq!(targets(odd), None, "{odd:?}");
        }
    }
}
