//! Journeys over real sockets: the binary as a user runs it, in front of a simulated platform and License Service.
//!
//! One file per promise. Every journey runs at trace level with recognisable secrets, and fails if one shows up in
//! anything that the proxy printed or answered (`proxy.rs`, `Proxy::end`).

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod choosy;
mod client;
mod corpora;
mod frames;
mod origin;
mod proxy;
mod scripted;
mod streams;
mod strict;
mod websocket;

mod a_body_is_sent_once_more_whole;
mod a_log_that_cannot_be_written;
mod a_request_is_one_request;
mod a_revoked_token_is_absorbed;
mod a_revoked_token_is_absorbed_over_http2;
mod ambiguous_requests_in_bulk;
mod an_upstream_may_ask_for_a_certificate;
mod answers_are_one_answer;
mod answers_arrive_whole;
mod answers_lead_to_the_listener;
mod any_login_can_be_written;
mod any_request_arrives;
mod bodies_are_streamed;
mod bodies_are_streamed_over_http2;
mod client_certificates;
mod clients_are_kept_on_time;
mod clients_that_log_in_get_decoys;
mod config_mistakes_are_told;
mod credential_is_attached;
mod credential_outlives_its_endpoint;
mod credential_stays_where_it_belongs;
mod doctor_shows_no_secret;
mod doctor_tells_what_is_wrong;
mod early_answers;
mod egress_proxies_are_used;
mod end_is_orderly;
mod expectations_are_passed_on;
mod faults_are_told;
mod files_are_confined;
mod frames_that_say_nothing_end_nothing;
mod gone_clients_are_noticed;
mod grpc_passes;
mod headers_go_where_they_belong;
mod http2_from_clients;
mod http2_is_bounded;
mod http2_streams_end_alone;
mod http2_to_upstreams;
mod http2_upstreams_may_be_full;
mod ibm_env_is_understood;
mod malformed_answers_in_bulk;
mod malformed_requests_are_refused;
mod no_way_around;
mod only_callers_of_this_machine;
mod only_named_callers;
mod overload_is_bounded;
mod probes_tell_the_truth;
mod rates_are_limited;
mod requests_are_logged;
mod routes_are_narrowed;
mod secrets_come_from_their_places;
mod secrets_leave_the_memory;
#[cfg(feature = "kube")]
mod secrets_of_the_cluster_are_followed;
mod streams_of_an_upstream_are_one_answer;
mod targets_say_what_they_said;
mod the_credential_does_not_come_back;
mod the_credential_is_never_indexed;
mod the_former_license_token_is_tried;
mod tls_both_ways;
mod tls_ends_in_order;
mod token_endpoints_are_closed;
mod token_is_printed_alone;
mod upgrades_are_no_way_in;
mod upstreams_close_as_they_like;
mod weaknesses_of_others;
mod websockets_end_in_order;
mod websockets_pass;
