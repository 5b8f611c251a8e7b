//! A query with forged tokens: what goes upstream has exactly one pair of that name, whoever reads it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode_str;
use watsonx_auth_proxy::journey::query::{check, has, without};

fuzz_target!(|query: &str| {
    if check(Some(query)).is_err() {
        return;
    }
    let names = ["token".to_owned()];
    let kept = without(query, &names);
    assert!(!has(&kept, "token"), "{query:?}: {kept:?}");
    let sent = match kept.is_empty() {
        true => "token=ours".to_owned(),
        false => format!("{kept}&token=ours"),
    };
    for delimiters in [&['&'][..], &['&', ';'], &[';']] {
        let pairs = sent
            .split(delimiters)
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        for decodes in [true, false] {
            let is_token = |name: &str| {
                let plus = name.replace('+', " ");
                let decoded = match decodes {
                    true => percent_decode_str(&plus).decode_utf8_lossy().into_owned(),
                    false => name.to_owned(),
                };
                decoded
                    .trim_matches(['\0', ' ', '\t', '\r', '\n'])
                    .eq_ignore_ascii_case("token")
            };
            let found: Vec<_> = pairs.clone().filter(|(name, _)| is_token(name)).collect();
            let ours = delimiters.contains(&'&');
            // A reader that knows `;` only sees one pair more at the most: ours, where no other stands before it.
            let expected: &[(&str, &str)] = &[("token", "ours")];
            assert!(
                found == expected || (!ours && found.is_empty()) || (!ours && found == expected),
                "{query:?}: {sent:?}: {found:?}"
            );
        }
    }
    // Nothing else is lost: the pairs that are no token stand in their order.
    if !has(query, "token") {
        assert_eq!(kept, query);
    }
});
