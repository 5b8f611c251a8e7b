//! One line per request; the only place that prints a URI, and never its query.

use std::time::Duration;

use http::{Method, StatusCode};

use crate::journey::{replay::Outcome, route::Path, trip::Trip};

/// The `tracing` target of access lines.
pub const TARGET: &str = "access";

/// Writes the line of a journey that has ended.
pub fn write(trip: &Trip, status: StatusCode, duration: Duration) {
    tracing::info!(
        target: TARGET,
        listener = %trip.listener,
        route = trip.route.as_deref(),
        method = trip.method.as_str(),
        path = trip.target.as_ref().map(|target| target.path()),
        status = status.as_u16(),
        bytes = trip.bytes,
        duration_ms = millis(duration),
        overhead_ms = trip.overhead.map(millis),
        code = trip.code,
        replay = trip.replay.map(Outcome::name),
        decoy = trip.is_decoy.then_some(true),
        request_id = trip.request_id.as_deref(),
        "request"
    );
}

/// Writes what a route would refuse if it did not only `warn`: the path as `allow` and `deny` are compared with it.
pub fn warn_of_refusal(route: &str, method: &Method, path: Path<'_>) {
    let (method, path) = (method.as_str(), path.as_str());
    tracing::warn!(
        route,
        method,
        path,
        "allow or deny would refuse this request"
    );
}

/// Milliseconds to three places.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_of_a_request_and_of_a_day() {
        assert_eq!(millis(Duration::from_nanos(1_234_567)), 1.235);
        assert_eq!(millis(Duration::from_secs(86_400)), 86_400_000.0);
    }
}
