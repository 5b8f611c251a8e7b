//! What becomes of logins where a route says nothing of `token_endpoints`.

use super::{load, with};
use crate::config::TokenEndpoints;

/// What the route `new` does with these listeners beside the one of this machine, and these keys.
fn settled(listeners: &str, keys: &str) -> TokenEndpoints {
    let route = format!(
        "[route.new]\npath = \"/new\"\nupstream = \"base\"\npreset = \"watsonx\"\n{keys}\n"
    );
    let base = super::BASE.replacen(
        "address = \"127.0.0.1:8080\"",
        "address = \"127.0.0.1:8080\"\nroutes = [\"new\", \"base\"]",
        1,
    );
    let loaded = load(&format!("{listeners}\n{route}\n{base}")).unwrap();
    let mut routes = loaded.config.routes.into_iter();
    routes
        .find(|route| &*route.name == "new")
        .unwrap()
        .token_endpoints
}

const ATTACH: &str = "attach = \"base\"";

#[test]
fn decoys_where_only_this_machine_can_call() {
    assert_eq!(settled("", ATTACH), TokenEndpoints::Decoy);
    let unix = "[listener.socket]\naddress = \"unix:/run/x.sock\"\n\
                [listener.tls]\naddress = \"localhost:8443\"\ntls = { self_signed = true }";
    assert_eq!(settled(unix, ATTACH), TokenEndpoints::Decoy);
}

#[test]
fn none_where_others_can() {
    let shared = "[listener.shared]\naddress = \"0.0.0.0:80\"\nanyone = true\nroutes = [\"new\"]";
    assert_eq!(settled(shared, ATTACH), TokenEndpoints::Deny);
    let elsewhere = "[listener.shared]\naddress = \"0.0.0.0:80\"\nanyone = true\nroutes = [\"other\"]\n\
                     [route.other]\npath = \"/other\"\nupstream = \"base\"\npreset = \"watsonx\"";
    assert_eq!(settled(elsewhere, ATTACH), TokenEndpoints::Decoy);
}

#[test]
fn none_where_nothing_is_attached() {
    assert_eq!(settled("", ""), TokenEndpoints::Deny);
}

#[test]
fn what_is_written_holds() {
    let shared = "[listener.shared]\naddress = \"0.0.0.0:80\"\nanyone = true\nroutes = [\"new\"]";
    for (word, meant) in [
        ("decoy", TokenEndpoints::Decoy),
        ("deny", TokenEndpoints::Deny),
        ("forward", TokenEndpoints::Forward),
    ] {
        let keys = format!("{ATTACH}\ntoken_endpoints = \"{word}\"");
        assert_eq!(settled("", &keys), meant);
        assert_eq!(settled(shared, &keys), meant);
    }
    let decoy = "[route.new]\npath = \"/new\"\nupstream = \"base\"\nattach = \"base\"\ntoken_endpoints = \"decoy\"";
    assert!(load(&with(decoy)).unwrap().config.waivers.is_empty());
}
