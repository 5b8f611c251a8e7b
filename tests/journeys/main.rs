//! Journeys over real sockets: the binary as a user runs it, in front of a simulated platform and License Service.
//!
//! One file per promise. Every journey runs at trace level with recognisable secrets, and fails if one shows up in
//! anything that the proxy printed or answered (`proxy.rs`, `Proxy::end`).

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod client;
mod corpora;
mod frames;
mod origin;
mod proxy;
mod scripted;
mod streams;
mod strict;
mod websocket;

mod a_request_is_one_request;
mod a_revoked_token_is_absorbed;
mod ambiguous_requests_in_bulk;
mod answers_are_one_answer;
mod answers_arrive_whole;
mod any_login_can_be_written;
mod any_request_arrives;
mod bodies_are_streamed;
mod clients_are_kept_on_time;
mod config_mistakes_are_told;
mod credential_is_attached;
mod credential_outlives_its_endpoint;
mod credential_stays_where_it_belongs;
mod doctor_shows_no_secret;
mod doctor_tells_what_is_wrong;
mod egress_proxies_are_used;
mod end_is_orderly;
mod expectations_are_passed_on;
mod faults_are_told;
mod gone_clients_are_noticed;
mod grpc_passes;
mod headers_go_where_they_belong;
mod http2_from_clients;
mod http2_is_bounded;
mod http2_to_upstreams;
mod ibm_env_is_understood;
mod malformed_answers_in_bulk;
mod malformed_requests_are_refused;
mod only_callers_of_this_machine;
mod overload_is_bounded;
mod probes_tell_the_truth;
mod secrets_come_from_their_places;
#[cfg(feature = "kube")]
mod secrets_of_the_cluster_are_followed;
mod targets_say_what_they_said;
mod the_former_license_token_is_tried;
mod tls_both_ways;
mod token_endpoints_are_closed;
mod token_is_printed_alone;
mod upgrades_are_no_way_in;
mod upstreams_close_as_they_like;
mod weaknesses_of_others;
mod websockets_end_in_order;
mod websockets_pass;
