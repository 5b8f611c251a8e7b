//! What keeps the proxy alive? One control thread runs keepers and probes, another takes signals; workers carry the
//! requests.

pub mod admin;
pub mod callers;
pub mod certificate;
#[cfg(target_os = "linux")]
mod confine;
pub mod connection;
pub mod control;
pub mod door;
mod farewell;
pub mod frames;
pub mod harden;
pub mod keys;
pub mod life;
pub mod listen;
pub mod metrics;
pub mod multiplexed;
pub mod plan;
pub mod serve;
pub mod shutdown;
pub mod stream;
pub mod vitals;
pub mod worker;
