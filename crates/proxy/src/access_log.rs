//! One line per request; the only place that prints a URI, and never its query.

use std::time::Duration;

use http::StatusCode;

use crate::journey::{replay::Outcome, trip::Trip};

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
        request_id = trip.request_id.as_deref(),
        "request"
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
