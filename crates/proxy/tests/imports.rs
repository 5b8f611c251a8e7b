//! Imports run one way: `main -> command -> process -> journey -> token_source`.
//!
//! The compiler holds the borders between crates; within this one, the modules would let anything through.

#![expect(clippy::unwrap_used, reason = "what goes wrong here is a failed test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// For each top-level module, what it may name of this crate besides itself.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("main", &["command"]),
    ("lib", &[]),
    // `doctor` attaches a credential as a journey does.
    (
        "command",
        &["config", "journey", "log", "panics", "process"],
    ),
    (
        "process",
        &[
            "config", "fault", "journey", "log", "sieve", "sweep", "tally",
        ],
    ),
    (
        "journey",
        &[
            "access_log",
            "config",
            "fault",
            "host",
            "panics",
            "sieve",
            "sweep",
            "tally",
        ],
    ),
    // The record of a journey is what an access line shows.
    ("access_log", &["journey"]),
    ("log", &["config"]),
    // What a `Host` may be is the same when it is written and when it comes.
    ("config", &["host"]),
    ("fault", &[]),
    ("host", &[]),
    ("panics", &[]),
    ("sieve", &[]),
    ("sweep", &[]),
    ("tally", &[]),
];

#[test]
fn imports_run_one_way() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let wrong: Vec<_> = sources
        .iter()
        .flat_map(|(file, text)| against_the_stream(file, text))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (module, _) in MAY_NAME {
        let is_there = sources
            .iter()
            .any(|(file, _)| module_of(file).first() == Some(module));
        assert!(is_there, "there is no module {module} any more");
    }
}

#[test]
fn token_source_knows_nothing_of_proxying() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../token-source/src");
    for (file, text) in sources(&folder) {
        for root in ["watsonx_auth_proxy", "simulator"] {
            // Tests may use the simulator; it is no dependency of the rest.
            if root == "simulator" && file.ends_with("tests.rs") {
                continue;
            }
            assert_eq!(
                paths(&text, root),
                Vec::<Vec<&str>>::new(),
                "{}",
                file.display()
            );
        }
    }
}

#[test]
fn the_check_sees_what_it_is_for() {
    for (file, line) in [
        ("journey/route.rs", "use crate::process::plan::PlanCell;"),
        (
            "journey/route.rs",
            "use crate::{\n    fault::Fault,\n    process::{plan, worker},\n};",
        ),
        ("journey/mod.rs", "use super::process::worker;"),
        ("journey/route.rs", "let cell = crate::process::plan::X;"),
        ("journey/route.rs", "use crate::config::wire::Table;"),
        (
            "journey/attach.rs",
            "use crate::config::{Place, check::parse_pattern};",
        ),
        ("process/serve.rs", "use crate::command::serve;"),
        ("config/check/route.rs", "use crate::journey::Plan;"),
        ("fault.rs", "use super::journey::trip::Trip;"),
        ("main.rs", "use watsonx_auth_proxy::{process, config};"),
        ("strange.rs", ""),
    ] {
        assert!(
            !against_the_stream(Path::new(file), line).is_empty(),
            "{file}: {line}"
        );
    }
    for (file, line) in [
        ("journey/route.rs", "use crate::config::{Pattern, Place};"),
        ("journey/route.rs", "use super::{Client, trip::Trip};"),
        ("journey/route.rs", "// use crate::process::plan;"),
        ("process/plan.rs", "use crate::{config::{self, Config}};"),
        ("sweep.rs", "use super::*;"),
    ] {
        assert_eq!(
            against_the_stream(Path::new(file), line),
            Vec::<String>::new(),
            "{file}: {line}"
        );
    }
}

/// What a file names that it may not, in words.
fn against_the_stream(file: &Path, text: &str) -> Vec<String> {
    let module = module_of(file);
    let own = module[0];
    let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == own) else {
        return vec![format!(
            "{}: module {own} is not in the list",
            file.display()
        )];
    };
    let parent = &module[..module.len() - 1];
    let absolute = ["crate", "watsonx_auth_proxy"]
        .iter()
        .flat_map(|root| paths(text, root));
    let relative = paths(text, "super")
        .into_iter()
        .map(|path| [parent, &path].concat());
    let named = absolute.chain(relative);
    named
        .filter(|path| {
            let is_allowed = path[0] == "*" || path[0] == own || allowed.contains(&path[0]);
            // The journey works with what `config` found out, not with how.
            let is_inner = own == "journey"
                && path[0] == "config"
                && path
                    .get(1)
                    .is_some_and(|name| !name.starts_with(char::is_uppercase));
            !is_allowed || is_inner
        })
        .map(|path| format!("{}: {}", file.display(), path.join("::")))
        .collect()
}

/// `journey/route.rs` is `[journey, route]`, `journey/mod.rs` is `[journey]`.
fn module_of(file: &Path) -> Vec<&str> {
    let names = file.iter().map(|name| name.to_str().unwrap());
    names
        .map(|name| name.trim_end_matches(".rs"))
        .filter(|name| *name != "mod")
        .collect()
}

/// Every path in the code that begins with `root::`, those in braces one by one, without the root.
fn paths<'a>(text: &'a str, root: &str) -> Vec<Vec<&'a str>> {
    let root = format!("{root}::");
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(&root) {
        let line = &rest[..at][rest[..at].rfind('\n').map_or(0, |end| end + 1)..];
        let is_whole = !line.ends_with(|before: char| before.is_alphanumeric() || before == '_');
        rest = &rest[at + root.len()..];
        if is_whole && !line.trim_start().starts_with("//") {
            tree(rest, &[], &mut found);
        }
    }
    found
}

/// Reads one tree of a `use` from the start of `text`; where it ends.
fn tree<'a>(text: &'a str, before: &[&'a str], found: &mut Vec<Vec<&'a str>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut inner) = text.strip_prefix('{') {
        loop {
            inner = inner.trim_start().trim_start_matches(',').trim_start();
            match inner.strip_prefix('}') {
                Some(after) => return after,
                None if inner.is_empty() => return inner,
                None => inner = tree(inner, before, found),
            }
        }
    }
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '*');
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    let path = [before, &[name]].concat();
    match after.strip_prefix("::") {
        Some(more) => tree(more, &path, found),
        None => {
            found.push(path);
            // ` as other`, or the expression that the path stands in.
            &after[after.find([',', '}', ';']).unwrap_or(after.len())..]
        }
    }
}

/// Every Rust file under a folder, by its path within.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let within = path.strip_prefix(folder).unwrap().to_owned();
                found.push((within, fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "no sources at {}", folder.display());
    found
}
