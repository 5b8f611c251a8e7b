//! A secret that was written into the file by mistake is never repeated.

use std::sync::Arc;

use proptest::prelude::*;
use token_source::Origin;

use super::{documents::all_keys_of_example, load, with};
use crate::config::{
    Report,
    check::check,
    reading::Reading,
    report::{Mistake, Severity},
    wire::Table,
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
        "iam_assume",
        "container",
        "vpc",
        "mcsp",
        "mcsp_v2",
        "steps",
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
        "auth_url",
        "client_id",
        "client_secret",
        "scope_id",
        "cr_token_filename",
        "caller_ext_claim",
        "upstream",
        "inputs",
        "step",
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
        "{ keyring = \"a/$\" }",
        "{ keyring = \"$/a\" }",
        "{ kubernetes_secret = \"$\" }",
        "{ kubernetes_secret = { namespace = \"$\", name = \"n\", key = \"k\" } }",
        "{ kubernetes_secret = { namespace = \"n\", name = \"$\", key = \"k\" } }",
        "{ kubernetes_secret = { namespace = \"n\", name = \"n\", key = \"$\" } }",
        "{ kubernetes_secret = { namespace = \"n\", name = \"n\", key = \"$ $\", env = \"$\" } }",
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

#[test]
fn a_secret_where_none_is_expected_is_not_repeated() {
    for table in [
        "[route.new]\nupstream = \"base\"\npath = \"/x?token=$\"",
        "[route.new]\nupstream = \"base\"\npath = \"/\"\nhost = \"$:\"",
        "[route.new]\nupstream = \"base\"\npath = \"/\"\nallow = [\"GET /x?token=$\"]",
        "[route.new]\nupstream = \"base\"\npath = \"/\"\nallow = [\"GET /$\", \"get /\"]",
        "[route.new]\nupstream = \"base\"\npath = \"/\"\nattach = \"$\"",
        "[route.new]\nupstream = \"base\"\npath = \"/\"\nattach = [{ credential = \"$\" }]",
        "[route.new]\nupstream = \"base\"\npath = \"/\"\nattach = [{ credential = \"base\", scheme = \"Bearer $\" }]",
        "[route.new]\nupstream = \"base\"\npath = \"/\"\nattach = [{ credential = \"base\", scheme = \"$\", header = \" \" }]",
        "[route.new]\nupstream = \"base\"\npath = \"/\"\nattach = [{ credential = \"base\", header = \"Authorization: Bearer $\" }]",
        "[route.new]\nupstream = \"base\"\npath = \"/\"\nattach = [{ credential = \"base\", query = \"token=$\" }]",
        "[route.new]\nupstream = \"base\"\npath = \"/\"\npreset = \"watsonx$\"",
        "[route.new]\nupstream = \"base\"\npath = \"/\"\nmax_body = \"$\"",
        "[route.new]\nupstream = \"$\"\npath = \"/\"",
        "[upstream.new]\nurl = \"http://host/$\"",
        "[upstream.new]\nurl = \"https://host\"\ntls = { server_name = \"$:\" }",
        "[upstream.new]\nurl = \"https://host\"\ntls = { pin = [\"sha256:$\"] }",
        "[upstream.new]\nurl = \"https://host\"\nconnect_timeout = \"$\"",
        "[credential.new.token]\nvalue = { env = \"A\", field = \"$\" }",
        "[credential.new.token]\nvalue = { file = \"/usr/$\", env = \"A\" }",
        "[credential.new.steps]\ninputs = { password = \"$\" }",
        "[credential.new.steps]\ninputs = { x = \"Bearer $\" }",
        "[credential.new.steps]\ninputs = { x = \"$\" }",
        "[[credential.new.steps.step]]\nurl = \"https://h/{$}\"",
        "[[credential.new.steps.step]]\nurl = \"https://h/?token=$\"",
        "[[credential.new.steps.step]]\nurl = \"https://h/\"\njson = { a = [{ apikey = \"$\" }] }",
        "[[credential.new.steps.step]]\nurl = \"https://h/\"\nform = { password = \"$\" }",
        "[[credential.new.steps.step]]\nurl = \"https://h/\"\nheaders = { X-Token = \"$\" }",
        "[[credential.new.steps.step]]\nurl = \"https://h/\"\nheaders = { X = \"Bearer $\" }",
        "[[credential.new.steps.step]]\nurl = \"https://h/\"\nmethod = \"$\"",
        "[[credential.new.steps.step]]\nurl = \"https://h/\"\ntake = { x = \"$.\" }",
        "[[credential.new.steps.step]]\nurl = \"https://h/\"\ntoken = \"$.\"",
        "[listener.new]\naddress = \"$\"",
        "[listener.new]\naddress = \"unix:/a\"\nmode = \"$\"",
        "[listener.new]\naddress = \"127.0.0.1:1\"\nhosts = [\"$:\"]",
        "[listener.new]\naddress = \"127.0.0.1:1\"\norigins = [\"$\"]",
        "[listener.new]\naddress = \"127.0.0.1:1\"\nroutes = [\"$\"]",
        "admin = { address = \"http://u:$@h\" }",
        "admin = { probes = \"$\" }",
        "log = { level = \"$\" }",
        "log = { format = \"$\" }",
        "poll = \"$\"",
    ] {
        let text = with(&table.replace('$', CANARY));
        let outcome = load(&text);
        assert!(outcome.is_err(), "{text}");
        assert_silent(&text, &outcome);
    }
}

#[test]
fn a_secret_near_a_long_name_is_not_taken_for_a_slip() {
    let name = "n".repeat(64);
    let text = with(&format!(
        "[upstream.{name}]\nurl = \"https://a\"\n\
         [route.new]\npath = \"/\"\nupstream = \"{name}{CANARY}\"\n"
    ));
    assert_silent(&text, &load(&text));
}

#[test]
fn a_secret_at_any_string_of_the_example_is_not_repeated() {
    let example = all_keys_of_example();
    let root = toml::de::DeTable::parse(&example).unwrap();
    let mut strings = Vec::new();
    strings_of_table(root.get_ref(), &mut strings);
    assert!(strings.len() > 90, "{}", strings.len());
    for (key, span) in strings {
        let written = &example[span.start + 1..span.end - 1];
        for secret in [
            CANARY.to_owned(),
            format!("{written}{CANARY}"),
            format!("{CANARY}{written}"),
            format!("{written} {CANARY}"),
            format!("{written}?token={CANARY}"),
        ] {
            // The name of a host is public.
            let is_url = matches!(key, "url" | "auth_url" | "identity_url");
            if is_url && Origin::parse(&secret, Arc::default()).is_ok() {
                continue;
            }
            let mut text = example.clone();
            text.replace_range(span.start + 1..span.end - 1, &secret);
            let told = told_of_the_canary(&text);
            assert!(!told.contains(CANARY), "{key} = \"{secret}\"\n{told}");
        }
    }
}

/// The report of a file, with one more mistake in the line of the canary: it is shown whatever the rules say of it.
fn told_of_the_canary(text: &str) -> String {
    let environment = super::nothing();
    let folder = std::path::Path::new("/etc/watsonx-auth-proxy");
    let reading = Reading::new("proxy.toml", text, folder, &environment);
    let root = reading.parse().unwrap();
    let _ = check(Table::new(&reading, 0..0, &root));
    let canary = text.find(CANARY).unwrap();
    let line = text[..canary].rfind('\n').map_or(0, |newline| newline + 1);
    reading.mistake(line..line, "what", "hint");
    let (_, mistakes) = reading.finish();
    format!("{mistakes:?}")
}

/// Each string of a table, with the key that it belongs to.
fn strings_of_table<'t>(
    table: &'t toml::de::DeTable<'_>,
    strings: &mut Vec<(&'t str, std::ops::Range<usize>)>,
) {
    for (key, value) in table {
        strings_of_value(key.get_ref(), value, strings);
    }
}

fn strings_of_value<'t>(
    key: &'t str,
    value: &'t toml::Spanned<toml::de::DeValue<'_>>,
    strings: &mut Vec<(&'t str, std::ops::Range<usize>)>,
) {
    match value.get_ref() {
        toml::de::DeValue::String(_) => strings.push((key, value.span())),
        toml::de::DeValue::Table(table) => strings_of_table(table, strings),
        toml::de::DeValue::Array(list) => list
            .iter()
            .for_each(|value| strings_of_value(key, value, strings)),
        _ => {}
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

#[test]
fn only_places_of_this_build_are_proposed() {
    let report = load(&with("[credential.new.token]\nvalue = { }")).unwrap_err();
    let told = report.to_string();
    for (form, is_here) in [
        ("kubernetes_secret", cfg!(feature = "kube")),
        ("keyring", cfg!(feature = "keyring")),
        ("systemd", true),
    ] {
        assert_eq!(told.contains(form), is_here, "{form}: {told}");
    }
}
