//! The pairs of a query, as every server may read them: what is taken out is gone in each spelling, and every other
//! byte stays.

use std::borrow::Cow;

use percent_encoding::percent_decode;
use smallvec::SmallVec;

use crate::fault::Fault;

/// Refuses a query with bytes that may not stand in one, for who reads them as what is anybody's guess, and one of so many
/// pairs that some servers do not look at the last of them.
///
/// # Errors
/// `bad_request`.
pub fn check(query: Option<&str>) -> Result<(), Fault> {
    let is_sound = |query: &str| {
        let has_few = query.len() < MOST_PAIRS || pairs(query).count() <= MOST_PAIRS;
        has_few && query.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match query.is_none_or(is_sound) {
        true => Ok(()),
        false => Err(Fault::BadRequest),
    }
}

/// A query without the pairs of these names, in whatever spelling; every other byte stays. Pairs end at `&` and `;`,
/// as some servers read them.
pub fn without<'a>(query: &'a str, names: &[String]) -> Cow<'a, str> {
    if names.is_empty()
        || !pairs(query).any(|(_, pair)| names.iter().any(|name| is_named(pair, name)))
    {
        return Cow::Borrowed(query);
    }
    let mut kept = String::with_capacity(query.len());
    for (before, pair) in pairs(query) {
        if !names.iter().any(|name| is_named(pair, name)) {
            if !kept.is_empty() {
                kept.push_str(before);
            }
            kept.push_str(pair);
        }
    }
    Cow::Owned(kept)
}

/// Whether a query has a pair of this name.
pub fn has(query: &str, name: &str) -> bool {
    pairs(query).any(|(_, pair)| is_named(pair, name))
}

/// The pairs of a query, each with the delimiter before it.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = Some(query);
    let mut before = "";
    std::iter::from_fn(move || {
        let all = rest?;
        let this = before;
        match memchr::memchr2(b'&', b';', all.as_bytes()) {
            Some(end) => {
                before = &all[end..=end];
                rest = Some(&all[end + 1..]);
                Some((this, &all[..end]))
            }
            None => {
                rest = None;
                Some((this, all))
            }
        }
    })
}

/// Whether a pair's name is `name` once decoded, whatever its case and with white space or NULs around it.
fn is_named(pair: &str, name: &str) -> bool {
    let raw = pair.split('=').next().unwrap_or(pair);
    if raw.eq_ignore_ascii_case(name) {
        return true;
    }
    if !raw
        .bytes()
        .any(|byte| matches!(byte, b'%' | b'+' | b' ' | b'\t'))
    {
        return false;
    }
    let decoded: SmallVec<[u8; 32]> = percent_decode(raw.as_bytes())
        .map(|byte| if byte == b'+' { b' ' } else { byte })
        .collect();
    let padding = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
    let start = decoded
        .iter()
        .position(|byte| !padding(byte))
        .unwrap_or(decoded.len());
    let end = decoded
        .iter()
        .rposition(|byte| !padding(byte))
        .map_or(start, |last| last + 1);
    decoded[start..end].eq_ignore_ascii_case(name.as_bytes())
}

/// More than any server takes.
const MOST_PAIRS: usize = 10_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_query_of_more_pairs_than_anybody_reads_is_refused() {
        for (query, is_sound) in [
            ("a&".repeat(9_999) + "token=x", true),
            ("a&".repeat(10_000) + "token=x", false),
            (";".repeat(10_000), false),
            ("a".repeat(60_000), true),
        ] {
            assert_eq!(check(Some(&query)).is_ok(), is_sound);
        }
    }

    #[test]
    fn every_spelling_of_a_dropped_parameter_goes_and_nothing_else() {
        let names = ["token".to_owned()];
        for (query, kept) in [
            ("token=x", ""),
            ("a=1&token=x&b=2", "a=1&b=2"),
            ("token=x&token=y&a", "a"),
            ("%74oken=x&t%6Fken=y&%54OKEN&a=%zz", "a=%zz"),
            ("a=1;token=x", "a=1"),
            ("a=1;token=x;b=%20", "a=1;b=%20"),
            ("+token=x&%20token%00=y&z=", "z="),
            (
                "token[]=x&xtoken=y&token.a=z",
                "token[]=x&xtoken=y&token.a=z",
            ),
            ("a=%26token=x", "a=%26token=x"),
            ("a=1&&b=2", "a=1&&b=2"),
        ] {
            assert_eq!(without(query, &names), kept, "{query}");
        }
    }

    proptest! {
        #[test]
        fn other_parameters_keep_every_byte(before in "[a-z=%&;+]{0,20}", after in "[a-z=%&;+]{0,20}") {
            let names = ["token".to_owned()];
            prop_assume!(!has(&before, "token") && !has(&after, "token"));
            let kept = without(&before, &names);
            prop_assert_eq!(&kept, &before);
            let both = format!("{before}&token=x&{after}");
            let kept = without(&both, &names);
            prop_assert!(!has(&kept, "token"));
            let expected: Vec<_> = pairs(&before).chain(pairs(&after)).map(|(_, pair)| pair).filter(|pair| !pair.is_empty()).collect();
            let found: Vec<_> = pairs(&kept).map(|(_, pair)| pair).filter(|pair| !pair.is_empty()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
