//! Anything that stops a journey, with its code, its status and what the client is told.

use std::time::Duration;

use http::StatusCode;

/// The rule that turned a caller away; named to the client, its value never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The `Host` is none of the names that this listener answers to.
    Host,
    /// A browser calls from a foreign origin.
    Origin,
    /// The unix user on the other end of the socket is not listed.
    User,
    /// No caller of the listener comes from there.
    Network,
    /// No caller of the listener has a certificate with such a name, or there was none.
    Certificate,
    /// The request has no key, or a wrong one.
    Key,
    /// The caller may not reach this route.
    Route,
}

impl Rule {
    /// The word for it in `Proxy-Status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Origin => "origin",
            Self::User => "user",
            Self::Network => "network",
            Self::Certificate => "certificate",
            Self::Key => "key",
            Self::Route => "route",
        }
    }
}

/// Anything that stops a journey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request is ambiguous or not HTTP as the standards have it.
    BadRequest,
    /// A rule of the listener turns the caller away.
    CallerNotAllowed(Rule),
    /// The route's `allow`, `deny` or preset closes this path.
    PathNotAllowed,
    /// The path is one of the platform's own token endpoints.
    TokenEndpointDenied,
    /// No route takes this path.
    NoRoute,
    /// `TRACE` would echo the credential; `CONNECT` is no request to an upstream.
    MethodNotAllowed,
    /// The body is larger than the route's `max_body`.
    BodyTooLarge,
    /// The head is larger than `max_head_size`, or has more than 100 headers; refused by the parser with a bare 431.
    HeadTooLarge,
    /// The request came through this very proxy before.
    LoopDetected,
    /// There is no valid token; the next attempt is made after this time.
    CredentialUnavailable {
        /// How long until the next attempt.
        retry_after: Duration,
    },
    /// As many requests as the route's `max_in_flight` are under way.
    Overloaded,
    /// More requests than the `rate_limit` of the caller or the route.
    RateLimited {
        /// How long until there is room for the next.
        retry_after: Duration,
    },
    /// DNS, routing or a refused connection.
    UpstreamUnreachable,
    /// The TLS handshake failed or the certificate is not trusted.
    UpstreamTls,
    /// The answer was cut, malformed or not HTTP.
    UpstreamProtocol,
    /// Connecting, the first byte or the next piece took too long.
    UpstreamTimeout,
    /// A mistake in this program: a panic, whose place is in the log.
    InternalError,
    /// The client went away before its answer; seen in logs only.
    ClientGone,
    /// The process ended before the answer did; seen in logs only.
    ProcessEnded,
}

impl Fault {
    /// The stable name: in the answer, in `Proxy-Status`, in logs and in `faults_total{code}`.
    pub fn code(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::CallerNotAllowed(_) => "caller_not_allowed",
            Self::PathNotAllowed => "path_not_allowed",
            Self::TokenEndpointDenied => "token_endpoint_denied",
            Self::NoRoute => "no_route",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTooLarge => "body_too_large",
            Self::HeadTooLarge => "head_too_large",
            Self::LoopDetected => "loop_detected",
            Self::CredentialUnavailable { .. } => "credential_unavailable",
            Self::Overloaded => "overloaded",
            Self::RateLimited { .. } => "rate_limited",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamTls => "upstream_tls",
            Self::UpstreamProtocol => "upstream_protocol",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::InternalError => "internal_error",
            Self::ClientGone => "client_gone",
            Self::ProcessEnded => "process_ended",
        }
    }

    /// The status that goes with the code.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::CallerNotAllowed(Rule::Key) => StatusCode::UNAUTHORIZED,
            Self::CallerNotAllowed(_) | Self::PathNotAllowed | Self::TokenEndpointDenied => {
                StatusCode::FORBIDDEN
            }
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::LoopDetected => StatusCode::LOOP_DETECTED,
            Self::CredentialUnavailable { .. } | Self::Overloaded | Self::ProcessEnded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::UpstreamUnreachable | Self::UpstreamTls | Self::UpstreamProtocol => {
                StatusCode::BAD_GATEWAY
            }
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ClientGone => StatusCode::from_u16(499).expect("499 is a status number"),
        }
    }

    /// What the client is told: a fixed text, never that of an inner error.
    pub fn told_to_client(self) -> &'static str {
        match self {
            Self::BadRequest => "the request is malformed or ambiguous",
            Self::CallerNotAllowed(Rule::Host) => {
                "this listener does not answer to the Host of the request"
            }
            Self::CallerNotAllowed(Rule::Origin) => "a browser may not call from this origin",
            Self::CallerNotAllowed(Rule::User) => "this unix user may not call",
            Self::CallerNotAllowed(Rule::Network) => "nobody may call from this network",
            Self::CallerNotAllowed(Rule::Certificate) => {
                "a client certificate is wanted here, of a name that may call"
            }
            Self::CallerNotAllowed(Rule::Key) => "a key of this proxy is wanted here",
            Self::CallerNotAllowed(Rule::Route) => "this caller may not reach this route",
            Self::PathNotAllowed => "the route does not allow this method and path",
            Self::TokenEndpointDenied => {
                "the platform's token endpoints are closed: the proxy holds the credential"
            }
            Self::NoRoute => "no route takes this path",
            Self::MethodNotAllowed => "this method is not proxied",
            Self::BodyTooLarge => "the request body is larger than the route allows",
            Self::HeadTooLarge => "the head of the request is too large",
            Self::LoopDetected => "the request came through this proxy before",
            Self::CredentialUnavailable { .. } => {
                "the proxy has no valid credential for this route at the moment"
            }
            Self::Overloaded => "the route has as many requests under way as it may have",
            Self::RateLimited { .. } => "more requests than the rate limit allows",
            Self::UpstreamUnreachable => "the upstream cannot be reached",
            Self::UpstreamTls => "the TLS connection to the upstream failed",
            Self::UpstreamProtocol => "the upstream's answer was not valid HTTP",
            Self::UpstreamTimeout => "the upstream did not answer in time",
            Self::InternalError => "a mistake in the proxy itself",
            Self::ClientGone => "the client went away",
            Self::ProcessEnded => "the proxy ended",
        }
    }

    /// What to do about it: a fixed text that names configuration keys.
    pub fn more_info(self) -> &'static str {
        match self {
            Self::BadRequest => {
                "dot segments, empty segments, encoded slashes and repeated framing are refused"
            }
            Self::CallerNotAllowed(Rule::Host) => {
                "call by localhost or an address, or add the name to the listener's hosts"
            }
            Self::CallerNotAllowed(Rule::Origin) => "add the origin to the listener's origins",
            Self::CallerNotAllowed(Rule::User) => {
                "add the user to uids or gids of the listener or of one of its callers"
            }
            Self::CallerNotAllowed(Rule::Network) => {
                "see the networks of the listener's callers; the log of the proxy has the address"
            }
            Self::CallerNotAllowed(Rule::Certificate) => {
                "see the certificate of the listener's callers: a name of its subjectAltName"
            }
            Self::CallerNotAllowed(Rule::Key) => {
                "send the key of a caller: Authorization: Bearer, X-Proxy-Key, or the password of Basic"
            }
            Self::CallerNotAllowed(Rule::Route) => "see the caller's routes",
            Self::PathNotAllowed => "see the route's preset, allow and deny",
            Self::TokenEndpointDenied => {
                "call the API without logging in, or see the route's token_endpoints"
            }
            Self::NoRoute => "see the configured routes and the listener's routes",
            Self::MethodNotAllowed => {
                "TRACE would echo the credential; CONNECT and OPTIONS * have no upstream"
            }
            Self::BodyTooLarge => "see the route's max_body",
            Self::HeadTooLarge => "see the listener's max_head_size",
            Self::LoopDetected => "an upstream's url leads back to this proxy",
            Self::CredentialUnavailable { .. } => {
                "the log and /readyz of the proxy name the credential and the reason"
            }
            Self::Overloaded => "come again, or see the route's max_in_flight",
            Self::RateLimited { .. } => {
                "come again after Retry-After, or see the rate_limit of the caller and the route"
            }
            Self::UpstreamUnreachable => {
                "see the upstream's url; the log of the proxy has the reason"
            }
            Self::UpstreamTls => {
                "see the upstream's tls: ca, pin, server_name, certificate; the log of the proxy has the reason"
            }
            Self::UpstreamProtocol => "the log of the proxy has the reason",
            Self::UpstreamTimeout => {
                "see the upstream's connect_timeout, first_byte_timeout and idle_timeout"
            }
            Self::InternalError => "the log of the proxy has the place; please report it",
            Self::ClientGone | Self::ProcessEnded => "",
        }
    }

    /// `Retry-After` in whole seconds, where the answer carries one.
    pub fn retry_after(self) -> Option<u64> {
        match self {
            Self::CredentialUnavailable { retry_after } | Self::RateLimited { retry_after } => {
                Some(retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0))
                    .map(|seconds| seconds.max(1))
            }
            Self::Overloaded => Some(1),
            _ => None,
        }
    }
}
