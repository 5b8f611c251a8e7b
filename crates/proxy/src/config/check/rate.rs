//! `rate_limit`: how often, such as `"100/s"` or `"600/m burst 50"`.

use std::{num::NonZeroU32, time::Duration};

use crate::config::{RateLimit, wire::Table};

/// The outer `None` is a mistake, the inner one a key that is not there.
pub(super) fn rate_limit(table: &mut Table<'_>) -> Option<Option<RateLimit>> {
    if table.key("rate_limit").is_none() {
        return Some(None);
    }
    let text = table.text("rate_limit")?;
    let limit = parse(text.get_ref());
    if limit.is_some() {
        table.reading.show(text.span());
    } else {
        table.reading.mistake(
            text.span(),
            "not a rate",
            "times per s, m or h, up to a million: \"100/s\", \"600/m\"; with what may come at once: \"600/m burst 50\"",
        );
    }
    Some(Some(limit?))
}

fn parse(text: &str) -> Option<RateLimit> {
    let (rate, burst) = match text.split_once(" burst ") {
        Some((rate, burst)) => (rate, Some(times(burst)?)),
        None => (text, None),
    };
    let (number, unit) = rate.split_once('/')?;
    let per = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let number = times(number)?;
    Some(RateLimit {
        times: number,
        per: Duration::from_secs(per),
        burst: burst.unwrap_or(number),
    })
}

fn times(text: &str) -> Option<NonZeroU32> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit());
    let number: NonZeroU32 = text.parse().ok().filter(|_| is_plain)?;
    (number.get() <= MOST).then_some(number)
}

/// More often than this nobody counts.
const MOST: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_as_they_are_written() {
        let read =
            |text| parse(text).map(|one| (one.times.get(), one.per.as_secs(), one.burst.get()));
        assert_eq!(read("100/s"), Some((100, 1, 100)));
        assert_eq!(read("6/m burst 2"), Some((6, 60, 2)));
        assert_eq!(read("1000000/h"), Some((1_000_000, 3600, 1_000_000)));
        for wrong in [
            "",
            "100",
            "0/s",
            "-1/s",
            "+1/s",
            "1/d",
            "1/s burst",
            "1/s burst 0",
            "1 / s",
            "1000001/s",
            "1.5/s",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
