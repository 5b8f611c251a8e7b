//! The configuration as a whole: what is told of mistakes, each rule, secrets, and the documents.

mod accepted;
mod cloud;
mod documents;
mod golden;
mod ibm;
mod rules;
mod secrets;
mod sources;
mod steps;
mod token_endpoints;

use std::path::Path;

use super::{
    Config, Environment, Loaded, Report,
    report::{Mistake, Place},
};

/// Reads a text in a folder that does not exist, with nothing in the environment.
fn load(text: &str) -> Result<Loaded, Report> {
    Config::parse(
        text,
        "proxy.toml",
        Path::new("/no/such/folder"),
        false,
        &nothing(),
    )
}

fn nothing() -> Environment {
    Environment::new::<&str, &str>([], "/no/such/folder")
}

/// A complete configuration around the part that a test is about.
fn with(extra: &str) -> String {
    format!("{extra}\n{BASE}")
}

/// The line that a mistake blames; 0 for none.
fn line_of(mistake: &Mistake) -> usize {
    match &mistake.place {
        Place::Spot(spot) => spot.line,
        _ => 0,
    }
}

const BASE: &str = r#"
[listener.base]
address = "127.0.0.1:8080"
[upstream.base]
url = "https://cpd.example.com"
[credential.base.cp4d]
upstream = "base"
username = "svc"
api_key = { file = "/no/such/key" }
[route.base]
path = "/base"
upstream = "base"
attach = "base"
"#;
