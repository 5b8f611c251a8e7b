//! Journeys over real sockets: the binary as a user runs it, in front of a simulated platform and License Service.
//!
//! One file per promise. Every journey runs at trace level with recognisable secrets, and fails if one shows up in
//! anything that the proxy printed or answered (`proxy.rs`, `Proxy::end`).

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod client;
mod frames;
mod proxy;
mod scripted;
mod streams;

mod a_request_is_one_request;
mod a_revoked_token_is_absorbed;
mod bodies_are_streamed;
mod clients_are_kept_on_time;
mod config_mistakes_are_told;
mod credential_is_attached;
mod credential_outlives_its_endpoint;
mod credential_stays_where_it_belongs;
mod end_is_orderly;
mod faults_are_told;
mod grpc_passes;
mod http2_from_clients;
mod http2_is_bounded;
mod http2_to_upstreams;
mod malformed_requests_are_refused;
mod only_callers_of_this_machine;
mod probes_tell_the_truth;
mod tls_both_ways;
mod token_endpoints_are_closed;
