//! README.md and docs/ say what the code does: their configurations are right, their links lead somewhere, and the
//! tables for operators are complete.

#![expect(clippy::unwrap_used, reason = "what goes wrong here is a failed test")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use watsonx_auth_proxy::{
    config::{Config, Environment},
    process::metrics::Page,
    tally::Counts,
};

#[test]
fn every_configuration_of_the_documents_is_right() {
    let environment = Environment::new([("HOME", "/home/me")], "/");
    let mut in_readme = 0;
    for (file, text) in documents() {
        for block in text.split("```toml\n").skip(1) {
            let block = block.split("```").next().unwrap();
            let name = file.display().to_string();
            let folder = Path::new("/etc/watsonx-auth-proxy");
            // Files that are not on this machine are warnings.
            if let Err(report) = Config::parse(block, &name, folder, false, &environment) {
                panic!("{name}\n{block}\n{report}");
            }
            in_readme += usize::from(file.ends_with("README.md"));
        }
    }
    assert!(in_readme >= 4, "README.md has four recipes");
}

#[test]
fn every_link_leads_to_a_file() {
    let mut links = 0;
    for (file, text) in documents() {
        for target in text.split("](").skip(1) {
            let target = target.split(')').next().unwrap();
            let path = target.split('#').next().unwrap();
            if target.contains("://") || path.is_empty() {
                continue;
            }
            links += 1;
            let place = file.parent().unwrap().join(path);
            assert!(place.exists(), "{}: {target}", file.display());
        }
    }
    assert!(links > 20, "{links} links were found");
}

#[test]
fn operations_explains_every_fault() {
    let source = fs::read_to_string(root().join("crates/proxy/src/fault.rs")).unwrap();
    let codes = source.split("fn code(").nth(1).unwrap();
    let codes = codes.split("fn ").next().unwrap().split("=> \"").skip(1);
    let codes: BTreeSet<&str> = codes.map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(
        codes.contains("bad_request") && codes.len() > 10,
        "{codes:?}"
    );
    assert_eq!(first_column("## Fault codes"), as_owned(codes));
}

#[test]
fn operations_explains_every_metric() {
    let page = Page {
        counts: Counts::default(),
        credentials: Vec::new(),
        certificates: Vec::new(),
        waivers: Vec::new(),
    };
    let text = page.text();
    let series = text.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix(PREFIX)?.split_once(' ')?;
        // OpenMetrics puts the ending of a counter on its samples only.
        let ending = if kind == "counter" { "_total" } else { "" };
        Some(format!("{name}{ending}"))
    });
    let series: BTreeSet<String> = series.collect();
    assert!(series.contains("requests_total"), "{text}");
    assert_eq!(first_column("## Metrics"), series);
}

const PREFIX: &str = "# TYPE watsonx_auth_proxy_";

/// What stands in the first column of the tables under a heading of `docs/operations.md`, up to a brace.
fn first_column(heading: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let section = text.split(&format!("\n{heading}\n")).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split(['`', '{']).next().unwrap().to_owned())
        .collect()
}

fn as_owned(names: BTreeSet<&str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

fn documents() -> Vec<(PathBuf, String)> {
    let docs = fs::read_dir(root().join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    ["README.md", "CHANGELOG.md", "SECURITY.md"]
        .map(|name| root().join(name))
        .into_iter()
        .chain(docs.filter(|path| path.extension().is_some_and(|end| end == "md")))
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
