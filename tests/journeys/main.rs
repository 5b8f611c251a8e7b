//! Journeys over real sockets: the binary as a user runs it, in front of a simulated platform and License Service.
//!
//! One file per promise. Every journey runs at trace level with recognisable secrets, and fails if one shows up in
//! anything that the proxy printed or answered (`proxy.rs`, `Proxy::end`).

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod client;
mod proxy;
mod scripted;

mod a_request_is_one_request;
mod a_revoked_token_is_absorbed;
mod any_login_can_be_written;
mod bodies_are_streamed;
mod clients_are_kept_on_time;
mod config_mistakes_are_told;
mod credential_is_attached;
mod credential_outlives_its_endpoint;
mod credential_stays_where_it_belongs;
mod doctor_tells_what_is_wrong;
mod egress_proxies_are_used;
mod end_is_orderly;
mod faults_are_told;
mod ibm_env_is_understood;
mod malformed_requests_are_refused;
mod only_callers_of_this_machine;
mod overload_is_bounded;
mod probes_tell_the_truth;
mod secrets_come_from_their_places;
#[cfg(feature = "kube")]
mod secrets_of_the_cluster_are_followed;
mod tls_both_ways;
mod token_endpoints_are_closed;
mod token_is_printed_alone;
mod upstreams_close_as_they_like;
