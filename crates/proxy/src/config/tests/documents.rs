//! The example and the reference say what the code does.

use std::{collections::BTreeSet, path::Path};

use super::load;
use crate::config::{Config, wire::KEYS_ARE};

const EXAMPLE: &str = include_str!("../../../../../proxy.example.toml");
const REFERENCE: &str = include_str!("../../../../../docs/configuration.md");

#[test]
fn the_example_loads() {
    load(EXAMPLE).unwrap_or_else(|report| panic!("{report}"));
}

#[test]
fn the_example_loads_with_every_key_in_force() {
    let environment = crate::config::Environment::new([("HOME", "/home/me")], "/");
    let folder = Path::new("/etc/watsonx-auth-proxy");
    Config::parse(
        &all_keys_of_example(),
        "proxy.example.toml",
        folder,
        false,
        &environment,
    )
    .unwrap_or_else(|report| panic!("{report}"));
}

#[test]
fn every_block_of_the_reference_loads() {
    let blocks: Vec<_> = REFERENCE
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default())
        .collect();
    assert!(blocks.len() >= 3);
    for block in blocks {
        if cfg!(not(feature = "kube")) && block.contains("kubernetes_secret") {
            continue;
        }
        load(block).unwrap_or_else(|report| panic!("{block}\n{report}"));
    }
}

#[test]
fn the_reference_lists_the_keys_of_every_table() {
    let mut tables = 0;
    for (heading, documented) in tables_of_reference() {
        let Some(probe) = probe(&heading) else {
            continue;
        };
        tables += 1;
        assert_eq!(documented, known_keys(&probe), "{heading}");
    }
    assert_eq!(tables, 28);
}

#[test]
fn the_example_has_every_key_of_the_reference() {
    let example = all_keys_of_example();
    for (heading, keys) in tables_of_reference() {
        for key in keys {
            let is_there = example.contains(&format!("{key} = "))
                || example.contains(&format!(".{key}]"))
                || example.contains(&format!("[{key}"));
            assert!(is_there, "{heading} {key}");
        }
    }
}

/// The example without the `#` that puts a key out of force.
pub(super) fn all_keys_of_example() -> String {
    let is_key = |line: &str| {
        line.strip_prefix('#')
            .is_some_and(|l| l.starts_with(|c: char| c.is_ascii_lowercase()))
    };
    EXAMPLE
        .lines()
        .map(|line| if is_key(line) { &line[1..] } else { line })
        .fold(String::new(), |text, line| text + line + "\n")
}

/// Each third-level heading with the keys in the first column of its table.
fn tables_of_reference() -> Vec<(String, BTreeSet<String>)> {
    REFERENCE
        .split("\n### ")
        .skip(1)
        .map(|section| {
            let section = section.split("\n## ").next().unwrap_or_default();
            let heading = section.lines().next().unwrap_or_default().replace('`', "");
            let column = section.lines().filter_map(|line| line.strip_prefix("| `"));
            let column = column.filter_map(|row| row.split(" |").next());
            let keys = column.flat_map(|cell| cell.split(", "));
            (heading, keys.map(|key| key.replace('`', "")).collect())
        })
        .collect()
}

/// A file with a key in that table that nobody knows.
fn probe(heading: &str) -> Option<String> {
    Some(match heading {
        "Top level" => "zzzzzzzzzzzz = 1".to_owned(),
        "Keys of a place" => "[credential.x.token]\nvalue = { zzzzzzzzzzzz = 1 }".to_owned(),
        "Keys of a Kubernetes Secret" => {
            "[credential.x.token]\nvalue = { kubernetes_secret = { zzzzzzzzzzzz = 1 } }".to_owned()
        }
        "Entries of attach" => "[route.x]\nattach = [{ zzzzzzzzzzzz = 1 }]".to_owned(),
        "Entries of step" => "[[credential.x.steps.step]]\nzzzzzzzzzzzz = 1".to_owned(),
        "[credential.NAME]" => "[credential.x.zzzzzzzzzzzz]".to_owned(),
        table => format!("{}\nzzzzzzzzzzzz = 1", table.replace("NAME", "x")),
    })
}

/// The keys that the hint for an unknown one lists.
fn known_keys(text: &str) -> BTreeSet<String> {
    let report = load(text).unwrap_err();
    let hint = report
        .mistakes
        .iter()
        .find(|m| m.what == "unknown key" || m.what == "not a kind of credential")
        .map(|m| {
            m.hint
                .trim_start_matches(KEYS_ARE)
                .trim_start_matches("the kinds are")
                .trim()
        })
        .unwrap_or_default();
    hint.split(", ").map(str::to_owned).collect()
}
