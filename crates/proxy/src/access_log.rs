//! One line per request; the only place that prints a URI, and of its query no more than the names.
//!
//! What a client says is shown by its visible characters; whatever could end a line, move a cursor or turn the text
//! around is written out as what it is.

use std::{borrow::Cow, fmt::Write as _, time::Duration};

use http::{HeaderValue, Method, StatusCode};
use smallvec::SmallVec;

use crate::journey::{replay::Outcome, route::Path, trip::Trip};

/// The `tracing` target of access lines.
pub const TARGET: &str = "access";

/// Writes the line of a journey that has ended.
pub fn write(trip: &Trip, status: StatusCode, duration: Duration) {
    let target = trip.target.as_ref();
    let identity = (trip.identity.as_ref()).map(|value| String::from_utf8_lossy(value.as_bytes()));
    tracing::info!(
        target: TARGET,
        listener = %trip.listener,
        caller = trip.caller.as_deref(),
        peer = %trip.peer(),
        identity = identity.as_ref().map(|text| visible(text, LONGEST_IDENTITY)).as_deref(),
        route = trip.route.as_deref(),
        method = trip.method.as_str(),
        path = target.map(|target| visible(target.path(), LONGEST_PATH)).as_deref(),
        query = target.and_then(|target| target.query()).map(names_in).as_deref(),
        status = status.as_u16(),
        bytes = trip.bytes,
        bytes_in = trip.upload.as_ref().map_or(0, |upload| upload.read.get()),
        duration_ms = millis(duration),
        overhead_ms = trip.overhead.map(millis),
        code = trip.code,
        credential = fingerprints(&trip.credentials).as_deref(),
        replay = trip.replay.map(Outcome::name),
        decoy = trip.is_decoy.then_some(true),
        trace_id = trip.traceparent.as_ref().and_then(trace_id),
        request_id = trip.request_id.as_deref(),
        "request"
    );
}

/// Writes what a route would refuse if it did not only `warn`: the path as `allow` and `deny` are compared with it.
pub fn warn_of_refusal(route: &str, method: &Method, path: Path<'_>) {
    let path = visible(path.as_str(), LONGEST_PATH);
    tracing::warn!(
        route,
        method = method.as_str(),
        path = &*path,
        "allow or deny would refuse this request"
    );
}

/// The text as it is where everything in it can be seen, else with the rest written out; cut where it is too long.
fn visible(text: &str, longest: usize) -> Cow<'_, str> {
    if text.len() <= longest && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for character in text.chars() {
        if shown.len() >= longest {
            shown.push('…');
            break;
        }
        match character {
            ' ' | '\u{21}'..='\u{7e}' => shown.push(character),
            _ if character.is_alphanumeric() => shown.push(character),
            _ => shown.extend(character.escape_unicode()),
        }
    }
    Cow::Owned(shown)
}

/// The names of a query's parameters. What is written in an odd way, or has no value, may be a value itself.
fn names_in(query: &str) -> String {
    let mut names = String::new();
    let mut pairs = query.split('&');
    for (index, pair) in pairs.by_ref().take(MOST_NAMES).enumerate() {
        if index > 0 {
            names.push(',');
        }
        let is_name = |name: &&str| {
            (1..=LONGEST_NAME).contains(&name.len())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.[]".contains(&b))
        };
        let name = pair.split_once('=').map(|(name, _)| name).filter(is_name);
        names.push_str(name.unwrap_or("*"));
    }
    if pairs.next().is_some() {
        names.push('…');
    }
    names
}

/// What tells the credential's values apart, one after the other where the request went out twice.
fn fingerprints(credentials: &[u32]) -> Option<String> {
    let mut credentials = credentials.iter();
    let mut text = format!("{:08x}", credentials.next()?);
    for credential in credentials {
        let _ = write!(text, ",{credential:08x}");
    }
    Some(text)
}

/// The trace's id in a `traceparent`.
fn trace_id(traceparent: &HeaderValue) -> Option<&str> {
    let text = traceparent.to_str().ok()?;
    let parts: SmallVec<[&str; 5]> = text.split('-').collect();
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    match parts[..] {
        [version, id, parent, flags, ..]
            if is_hex(version, 2) && is_hex(id, 32) && is_hex(parent, 16) && is_hex(flags, 2) =>
        {
            (id.bytes().any(|b| b != b'0')).then_some(id)
        }
        _ => None,
    }
}

/// Milliseconds to three places.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

const LONGEST_PATH: usize = 2048;

const LONGEST_IDENTITY: usize = 128;

const LONGEST_NAME: usize = 32;

const MOST_NAMES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_of_a_request_and_of_a_day() {
        assert_eq!(millis(Duration::from_nanos(1_234_567)), 1.235);
        assert_eq!(millis(Duration::from_secs(86_400)), 86_400_000.0);
    }

    #[test]
    fn of_a_query_the_names_and_nothing_else() {
        for (query, names) in [
            ("version=2025-02-01&limit=5", "version,limit"),
            ("filter[name]=a=b&x-y_z.1=", "filter[name],x-y_z.1"),
            // These may be secrets: no value, an encoded name, `;` in a value, more than a name is long.
            ("eyJhbGciOi", "*"),
            ("token=a;token=b&%74oken=c", "token,*"),
            ("=secret&&a b=c", "*,*,*"),
            ("", "*"),
            ("0123456789012345678901234567890123=", "*"),
        ] {
            assert_eq!(names_in(query), names, "{query}");
        }
        let many = "a=1&".repeat(10_000);
        assert!(names_in(&many).len() < 64);
    }

    #[test]
    fn nothing_that_a_client_says_ends_a_line_or_moves_a_cursor() {
        assert_eq!(visible("/ml/v1/x", 64), "/ml/v1/x");
        assert_eq!(visible("Jürgen M", 64), "Jürgen M");
        let odd = "\u{7f}\u{1b}[2J\r\n\u{9b}\u{202e}\u{2028}\u{feff}\u{fffd}";
        let shown = visible(odd, 256);
        assert!(shown.bytes().all(|b| b.is_ascii_graphic()), "{shown}");
        assert_eq!(visible(&"ä".repeat(5000), 128).chars().count(), 65);
        assert_eq!(
            visible(&"\u{9b}".repeat(5000), 16).len(),
            18 + '…'.len_utf8()
        );
    }

    #[test]
    fn the_trace_of_a_traceparent_that_is_one() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let whole = format!("00-{id}-00f067aa0ba902b7-01");
        let read = |text: &str| {
            let value = HeaderValue::from_str(text).unwrap();
            trace_id(&value).map(str::to_owned)
        };
        assert_eq!(read(&whole).as_deref(), Some(id));
        assert_eq!(read(&format!("{whole}-more")).as_deref(), Some(id));
        for wrong in [
            "",
            "00",
            &whole.to_uppercase(),
            &whole.replace('4', "0 "),
            &whole[..50],
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(read(&whole.replace(id, &"0".repeat(32))), None);
    }
}
