//! Remembers the latest requests exactly as they arrived, so that tests and the demo can look at them.

use std::{collections::VecDeque, fmt};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, header::AsHeaderName, request::Parts};

use crate::TokenState;

/// The service that a request arrived at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The platform, with watsonx.
    Platform,
    /// License Service.
    License,
    /// The Watson Data APIs, where they have a host of their own.
    DataPlatform,
}

/// How many tokens of each kind have arrived since the start, in requests of any kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokensSeen {
    /// Good at the moment at which they arrived.
    pub valid: u64,
    /// Issued here, and over.
    pub expired: u64,
    /// Issued here, and revoked.
    pub revoked: u64,
    /// Never issued here for that service.
    pub foreign: u64,
}

/// One request as it arrived. `Debug` leaves out the query, header values and body, where credentials are.
#[derive(Clone)]
pub struct RecordedRequest {
    /// Counts all requests of this simulator, from 0.
    pub sequence: u64,
    /// Where it arrived.
    pub service: Service,
    /// Counts the connections to this service, from 0: two requests with the same number shared one.
    pub connection: u64,
    /// The method.
    pub method: Method,
    /// The request target as it was sent, query included.
    pub target: String,
    /// The headers in the order in which their names first arrived.
    pub headers: HeaderMap,
    /// What each token that it carried was worth when its head arrived: every Bearer token, and for License Service
    /// every `?token=`.
    pub tokens: Vec<TokenState>,
    /// Bytes of the body so far.
    pub body_length: u64,
    /// The first 64 KiB of the body.
    pub body: Bytes,
    /// Whether the body arrived whole; not known of one that `/simulator/mirror` sent back.
    pub complete: bool,
}

impl RecordedRequest {
    /// Every value of the header `name`, in order; bytes that are not UTF-8 are replaced.
    pub fn header_values(&self, name: impl AsHeaderName) -> Vec<String> {
        self.headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    }

    /// The path of the target, without its query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(self.target.as_str(), |(path, _)| path)
    }
}

impl fmt::Debug for RecordedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordedRequest")
            .field("sequence", &self.sequence)
            .field("service", &self.service)
            .field("connection", &self.connection)
            .field("method", &self.method)
            .field("path", &self.path())
            .field(
                "headers",
                &self.headers.keys().collect::<Vec<&HeaderName>>(),
            )
            .field("tokens", &self.tokens)
            .field("body_length", &self.body_length)
            .field("complete", &self.complete)
            .finish_non_exhaustive()
    }
}

/// The latest requests, oldest first.
#[derive(Default)]
pub(crate) struct Recorder {
    next: u64,
    requests: VecDeque<RecordedRequest>,
    tokens_seen: TokensSeen,
}

impl Recorder {
    /// Notes a head that has arrived; the returned number is its `sequence`.
    pub(crate) fn begin(
        &mut self,
        service: Service,
        connection: u64,
        head: &Parts,
        tokens: Vec<TokenState>,
    ) -> u64 {
        for token in &tokens {
            let seen = &mut self.tokens_seen;
            *match token {
                TokenState::Valid => &mut seen.valid,
                TokenState::Expired => &mut seen.expired,
                TokenState::Revoked => &mut seen.revoked,
                TokenState::Foreign => &mut seen.foreign,
            } += 1;
        }
        let sequence = self.next;
        self.next += 1;
        if self.requests.len() == KEPT_REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back(RecordedRequest {
            sequence,
            service,
            connection,
            method: head.method.clone(),
            target: head.uri.to_string(),
            headers: head.headers.clone(),
            tokens,
            body_length: 0,
            body: Bytes::new(),
            complete: false,
        });
        sequence
    }

    /// Notes more of the body of request `sequence`.
    pub(crate) fn extend(&mut self, sequence: u64, data: &[u8]) {
        let Some(request) = self.find(sequence) else {
            return;
        };
        request.body_length += data.len() as u64;
        let room = KEPT_BODY - request.body.len();
        if room > 0 && !data.is_empty() {
            let mut body = Vec::from(std::mem::take(&mut request.body));
            body.extend_from_slice(&data[..data.len().min(room)]);
            request.body = body.into();
        }
    }

    /// Notes that the body of request `sequence` has arrived whole.
    pub(crate) fn complete(&mut self, sequence: u64) {
        if let Some(request) = self.find(sequence) {
            request.complete = true;
        }
    }

    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.requests.iter().cloned().collect()
    }

    pub(crate) fn tokens_seen(&self) -> TokensSeen {
        self.tokens_seen
    }

    pub(crate) fn clear(&mut self) {
        self.requests.clear();
    }

    /// A request may have been pushed out or cleared while its body was still arriving.
    fn find(&mut self, sequence: u64) -> Option<&mut RecordedRequest> {
        self.requests
            .iter_mut()
            .rev()
            .find(|request| request.sequence == sequence)
    }
}

const KEPT_REQUESTS: usize = 1_000;
const KEPT_BODY: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(target: &str) -> Parts {
        Request::get(target).body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_oldest_requests_make_room() {
        let mut recorder = Recorder::default();
        for _ in 0..=KEPT_REQUESTS {
            recorder.begin(Service::Platform, 0, &head("/"), Vec::new());
        }
        let requests = recorder.requests();
        assert_eq!(requests.len(), KEPT_REQUESTS);
        assert_eq!(requests[0].sequence, 1);
    }

    #[test]
    fn a_long_body_is_counted_but_kept_only_in_part() {
        let mut recorder = Recorder::default();
        let sequence = recorder.begin(
            Service::License,
            3,
            &head("/products?token=secret"),
            Vec::new(),
        );
        recorder.extend(sequence, &vec![b'a'; KEPT_BODY - 1]);
        recorder.extend(sequence, b"bcd");
        recorder.complete(sequence);
        let request = recorder.requests().remove(0);
        assert_eq!(request.body_length, KEPT_BODY as u64 + 2);
        assert_eq!(request.body.len(), KEPT_BODY);
        assert!(request.body.ends_with(b"ab"));
        assert!(request.complete);
        assert!(!format!("{request:?}").contains("secret"));
    }
}
