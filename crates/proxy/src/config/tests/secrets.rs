//! A secret that was written into the file by mistake is never repeated.

use proptest::prelude::*;

use super::{load, with};
use crate::config::{
    Report,
    report::{Mistake, Severity},
};

const CANARY: &str = "CANARY7secret7value";

/// No secret is told, and whatever is refused is refused for a reason that is told.
fn assert_silent(text: &str, outcome: &Result<crate::config::Loaded, Report>) {
    let told = match outcome {
        Ok(loaded) => loaded
            .warnings
            .iter()
            .map(|w| format!("{w}\n{w:?}\n"))
            .collect::<String>(),
        Err(report) => {
            let is_error = |mistake: &Mistake| mistake.severity == Severity::Error;
            assert!(report.mistakes.iter().any(is_error), "\n{text}\n{report}");
            format!("{report}\n{report:?}")
        }
    };
    assert!(!told.contains(CANARY), "\n{text}\n{told}");
}

#[test]
fn a_secret_in_any_place_of_a_credential_is_not_repeated() {
    let kinds = [
        "cp4d",
        "cp4d_iam",
        "cp4d_ldap",
        "zen_api_key",
        "basic",
        "token",
        "service_account",
        "iam",
        "x",
    ];
    let keys = [
        "api_key",
        "password",
        "value",
        "apikey",
        "username",
        "account_id",
        "url",
        "secret",
        "poll2",
    ];
    let forms = [
        "\"$\"",
        "'$'",
        "\"\"\"\n$\"\"\"",
        "[\"$\"]",
        "{ file = \"$\" }",
        "{ env = \"$\" }",
        "{ env = \"$ $\" }",
        "{ systemd = \"$\" }",
        "{ command = \"$\" }",
        "{ command = [\"$\"] }",
        "{ fil = \"$\" }",
        "{ value = \"$\" }",
        "{ keyring = \"$\" }",
        "\"$",
        "$",
        "{ file = $ }",
        "\"https://u:$@host\"",
        "\"https://host/?token=$\"",
        "\"ok\" # $",
        "\"\\q$\"",
    ];
    for kind in kinds {
        for key in keys {
            for form in forms {
                let value = form.replace('$', CANARY);
                let text = with(&format!("[credential.new.{kind}]\n{key} = {value}"));
                assert_silent(&text, &load(&text));
            }
        }
    }
}

#[test]
fn a_secret_elsewhere_is_not_repeated() {
    for table in [
        "[route.new]\nset_headers = { Authorization = \"$\" }",
        "[route.new]\nset_headers = { X-Api-Key = \"$\", B = \"$\\n\" }",
        "[route.new]\ndefault_query = { token = \"$\" }",
        "[route.new]\nunknown = \"$\"",
        "[upstream.new]\nurl = \"https://$@host\"",
        "[upstream.new]\nurl = \"https://host/#$\"",
        "[upstream.new]\ntls = { ca = \"$\", insecure = \"$\", key = { file = \"$\" } }",
        "[credential.new]\napi_key = \"$\"",
        "[credential]\napi_key = \"$\"",
        "credential = \"$\"",
        "workers = \"$\"",
        "log = { access = \"$\" }",
        "[caller.a]\nkey = \"$\"",
        "[listener.new]\ntls = { certificate = \"$\" }",
    ] {
        let text = with(&table.replace('$', CANARY));
        let outcome = load(&text);
        assert!(outcome.is_err(), "{text}");
        assert_silent(&text, &outcome);
    }
}

/// Cuts, doublings and insertions of what TOML is made of.
fn mutate(text: &str, edits: &[(usize, usize, &'static str)]) -> String {
    let mut text = text.to_owned();
    for (at, cut, insert) in edits {
        // The canary is ASCII and is left whole: a half of it proves nothing.
        let at = text.floor_char_boundary(at % (text.len() + 1));
        let end = text.floor_char_boundary((at + cut).min(text.len()));
        let touches = text
            .match_indices(CANARY)
            .any(|(start, _)| at < start + CANARY.len() && start < end.max(at + 1));
        if !touches {
            text.replace_range(at..end, insert);
        }
    }
    text
}

/// Whether the canary became a key or the name of a table: those are shown.
fn has_canary_as_key(table: &toml::de::DeTable<'_>) -> bool {
    table.iter().any(|(key, value)| {
        key.get_ref().contains(CANARY)
            || value.get_ref().as_table().is_some_and(has_canary_as_key)
            || value.get_ref().as_array().is_some_and(|list| {
                list.iter()
                    .any(|value| value.get_ref().as_table().is_some_and(has_canary_as_key))
            })
    })
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in any::<String>()) {
        let _ = load(&text);
    }

    #[test]
    fn broken_files_never_tell_a_secret(
        edits in proptest::collection::vec(
            (
                any::<usize>(),
                0..6usize,
                prop::sample::select(vec![
                    "", "\"", "'", "\"\"\"", "=", "\n", "[", "]", "{", "}", "#", ",", ".", "\\", "é", " = ", "[x]\n", "\r",
                ]),
            ),
            0..6,
        )
    ) {
        let text = with(&format!(
            "[credential.new.cp4d]\nurl = \"https://u:{CANARY}@cpd.example.com\"\nusername = \"é\"\n\
             api_key = \"{CANARY}\" # {CANARY}\npassword = {{ file = '{CANARY}' }}\n\
             [route.new]\npath = \"/\"\nupstream = \"base\"\nset_headers = {{ Cookie = \"a={CANARY}\" }}\n"
        ));
        let text = mutate(&text, &edits);
        let is_key = toml::de::DeTable::parse(&text).is_ok_and(|root| has_canary_as_key(root.get_ref()));
        prop_assume!(!is_key);
        assert_silent(&text, &load(&text));
    }
}
