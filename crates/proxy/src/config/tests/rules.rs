//! One paragraph of `broken/` for each rule: the line to blame, what is said, and the tables that break it. What is
//! only needless is a warning.

use super::{line_of, load, with};
use crate::config::report::Severity;

#[test]
fn every_broken_rule_is_told_alone_and_in_its_place() {
    for paragraphs in [
        include_str!("broken/top.txt"),
        include_str!("broken/listener.txt"),
        include_str!("broken/caller.txt"),
        include_str!("broken/upstream.txt"),
        include_str!("broken/credential.txt"),
        include_str!("broken/cloud.txt"),
        include_str!("broken/steps.txt"),
        include_str!("broken/route.txt"),
        #[cfg(feature = "kube")]
        include_str!("broken/kubernetes_secret.txt"),
        #[cfg(not(feature = "kube"))]
        include_str!("broken/without_kube.txt"),
        #[cfg(not(feature = "keyring"))]
        include_str!("broken/without_keyring.txt"),
    ] {
        for paragraph in paragraphs.split("## ").skip(1) {
            let (expected, tables) = paragraph.split_once('\n').unwrap();
            breaks(&with(tables.trim_end()), expected);
        }
    }
}

#[test]
fn what_is_only_needless_is_a_warning() {
    for paragraph in include_str!("broken/needless.txt").split("## ").skip(1) {
        let (expected, tables) = paragraph.split_once('\n').unwrap();
        let loaded = load(&with(tables.trim_end())).expect(expected);
        let told: Vec<_> = (loaded.warnings.iter())
            .map(|warning| format!("{}: {}", line_of(warning), warning.what))
            .collect();
        assert!(
            told.iter().any(|told| told == expected),
            "{expected}: {told:?}"
        );
        assert!(loaded.config.waivers.is_empty(), "{expected}");
    }
}

#[test]
fn a_file_has_a_listener_and_a_route() {
    let route = "[route.a]\npath = \"/\"\nupstream = \"b\"\n[upstream.b]\nurl = \"https://b\"";
    breaks(route, "0: there is no listener: nobody could call");
    breaks(
        "[listener.a]\naddress = \"127.0.0.1:1\"",
        "0: there is no route",
    );
}

/// The text has one mistake, which is `LINE: WHAT`; line 0 is the file as a whole.
#[track_caller]
fn breaks(text: &str, expected: &str) {
    let report = load(text).expect_err(expected);
    let errors: Vec<_> = report
        .mistakes
        .iter()
        .filter(|mistake| mistake.severity == Severity::Error)
        .map(|mistake| format!("{}: {}", line_of(mistake), mistake.what))
        .collect();
    assert_eq!(errors, [expected], "\n{text}\n{report}");
    assert!(
        report
            .mistakes
            .iter()
            .all(|mistake| !mistake.hint.is_empty()),
        "{report}"
    );
}
