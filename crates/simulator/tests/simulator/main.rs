//! The simulator over real sockets: each file holds one part of what IBM's services promise or refuse.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on stops where it stands"
)]

mod apis;
mod client;
mod controls;
mod iam;
mod license;
mod login;
mod mcsp;
mod metadata;
mod refusals;
mod tokens;
