//! An authenticating reverse proxy for IBM watsonx, IBM Software Hub and IBM License Service.

pub mod access_log;
pub mod command;
pub mod config;
pub mod fault;
pub mod host;
pub mod journey;
pub mod log;
pub mod panics;
pub mod process;
pub mod sieve;
pub mod sweep;
pub mod tally;
