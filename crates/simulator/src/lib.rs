//! The IBM platform (Software Hub with watsonx) and IBM License Service, emulated for the demo and the tests.
//!
//! [`Simulator::start`] listens on two ports and refuses what the real services would refuse: tokens are real
//! RS256 JWTs whose signature, expiry and revocation are checked on every call. The logins of IBM Cloud and of the
//! SaaS on AWS, and the metadata service of a virtual server, are on the platform's port as well. It shares no code with the proxy,
//! so that it judges independently what the proxy sends. What it imitates comes from IBM's documentation and the
//! sources of IBM's clients; where those are silent, the stricter answer was chosen.
//!
//! The handle is also the test control: outages, garbage, revocation, lifetimes, and a record of every request
//! that arrived. [`Cluster`] is the Kubernetes API that holds Secrets. Everything under the path `/simulator/` is a test aid and exists on no real platform.
//!
//! ```
//! let simulator = simulator::Simulator::start(simulator::Options::default())?;
//! assert!(simulator.platform_url().starts_with("https://127.0.0.1:"));
//! # Ok::<(), std::io::Error>(())
//! ```

mod aids;
mod answer;
mod carried;
mod certificates;
pub mod cluster;
mod control;
mod jwt;
mod license;
mod options;
mod platform;
mod record;
mod respond;
mod server;
mod state;
mod target;
mod tokens;

pub use cluster::Cluster;
pub use options::{Options, TrustedProfile};
pub use record::{RecordedRequest, Service, TokensSeen};
pub use server::Simulator;
pub use state::{Garbage, Logins, Outage, Refusal, Tally};
pub use tokens::TokenState;

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

/// Twelve hex digits of SHA-256: enough to tell credentials apart on a screen without showing them.
#[must_use]
pub fn fingerprint(value: &str) -> String {
    let mut hex = sha256_hex(value.as_bytes());
    hex.truncate(12);
    hex
}

fn sha256_hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes)
        .as_ref()
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// Random letters and digits from the system's generator; the slight bias of the remainder does not matter here.
fn random_alphanumeric(length: usize) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut bytes = vec![0; length];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random generator works");
    bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_the_start_of_sha256() {
        assert_eq!(fingerprint("abc"), "ba7816bf8f01");
    }

    #[test]
    fn random_values_differ() {
        assert_ne!(random_alphanumeric(24), random_alphanumeric(24));
    }
}
