//! The forms of a place: `{ file = "…" }` and the others, of which each place has exactly one.

use token_source::Location;
#[cfg(feature = "kube")]
use token_source::secret::SecretName;
use toml::Spanned;

use super::location::{CREDENTIALS_DIRECTORY, file};
use crate::config::wire::Table;

/// The place that a table describes.
pub(super) fn location(mut table: Table<'_>) -> Option<Location> {
    let reading = table.reading;
    let written: Vec<_> = FORMS.iter().filter_map(|form| table.key(form)).collect();
    if written.len() != 1 {
        let span = written.get(1).unwrap_or(&table.span).clone();
        reading.mistake(
            span,
            "a place has exactly one form",
            format!("one of {}", forms("…")),
        );
    }
    let field = table.text("field");
    if let (Some(field), None) = (&field, table.key("file")) {
        reading.mistake(
            field.span(),
            "only a file has fields",
            "{ file = \"apikey.json\", field = \"apikey\" }",
        );
    }
    let file = file(&mut table, "file").map(|path| Location::File {
        path,
        field: field.map(Spanned::into_inner),
    });
    let env = environment_variable(&mut table).map(Location::Env);
    let systemd = systemd_credential(&mut table).map(Location::Systemd);
    let command = command(&mut table).map(Location::Command);
    let kubernetes_secret = kubernetes_secret(&mut table);
    let keyring = keyring(&mut table);
    table.done();
    file.or(env)
        .or(systemd)
        .or(command)
        .or(kubernetes_secret)
        .or(keyring)
        .filter(|_| written.len() == 1)
}

/// What to write instead of the secret of a key, in this build.
pub(super) fn forms(key: &str) -> String {
    let forms = [
        &format!("{{ file = \"/run/secrets/{key}\" }}"),
        "{ file = \"key.json\", field = \"apikey\" }",
        "{ env = \"NAME\" }",
        "{ systemd = \"name\" }",
        "{ command = [\"op\", \"read\", \"…\"] }",
        #[cfg(feature = "kube")]
        "{ kubernetes_secret = { … } }",
        #[cfg(feature = "keyring")]
        "{ keyring = \"service/user\" }",
    ];
    let [others @ .., last] = &forms;
    format!("{} or {last}", others.join(", "))
}

fn environment_variable(table: &mut Table<'_>) -> Option<String> {
    let name = table.text("env")?;
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.get_ref().is_empty() || !name.get_ref().bytes().all(is_name) {
        table.reading.mistake(
            name.span(),
            "not the name of an environment variable",
            "the name, not the value: { env = \"WATSONX_APIKEY\" }",
        );
        return None;
    }
    if table.reading.environment.has(name.get_ref()) {
        table.reading.show(name.span());
    } else {
        table.reading.warning(
            name.span(),
            "no such environment variable here",
            "it must be set where the proxy runs; the name is written here, never the value",
        );
    }
    Some(name.into_inner())
}

fn systemd_credential(table: &mut Table<'_>) -> Option<String> {
    let name = table.text("systemd")?;
    let reading = table.reading;
    if name.get_ref().is_empty() || name.get_ref().contains(['/', '\0']) || *name.get_ref() == ".."
    {
        reading.mistake(
            name.span(),
            "not the name of a systemd credential",
            "the name in LoadCredential=: { systemd = \"api-key\" }",
        );
        return None;
    }
    match reading.environment.path(CREDENTIALS_DIRECTORY) {
        Some(folder) if folder.join(name.get_ref()).exists() => reading.show(name.span()),
        _ => reading.warning(
            name.span(),
            "no such systemd credential here",
            "the unit of the proxy needs LoadCredential= for it",
        ),
    }
    Some(name.into_inner())
}

fn command(table: &mut Table<'_>) -> Option<Vec<String>> {
    let words = table.texts("command")?;
    if words
        .first()
        .is_none_or(|program| program.get_ref().is_empty())
    {
        let span = table.key("command").unwrap_or_default();
        table.reading.mistake(
            span,
            "the command is empty",
            "the program and its arguments: [\"op\", \"read\", \"op://vault/watsonx/key\"]",
        );
        return None;
    }
    Some(words.into_iter().map(Spanned::into_inner).collect())
}

fn kubernetes_secret(table: &mut Table<'_>) -> Option<Location> {
    let span = table.key("kubernetes_secret")?;
    let mut secret = table.table("kubernetes_secret")?;
    let namespace = kubernetes_name(&mut secret, "namespace", is_label);
    let name = kubernetes_name(&mut secret, "name", is_subdomain);
    let key = kubernetes_name(&mut secret, "key", is_data_key);
    secret.done();
    #[cfg(feature = "kube")]
    {
        let _ = span;
        let secret = SecretName {
            namespace: namespace?,
            name: name?,
        };
        Some(Location::KubernetesSecret { secret, key: key? })
    }
    #[cfg(not(feature = "kube"))]
    {
        let _ = (namespace, name, key);
        not_in_this_build(table, span, "kubernetes_secret", "kube")
    }
}

/// A part of the address of a Secret, which must be there.
fn kubernetes_name(
    secret: &mut Table<'_>,
    key: &'static str,
    is_right: fn(&str) -> bool,
) -> Option<String> {
    const EXAMPLE: &str =
        "{ namespace = \"ibm-licensing\", name = \"ibm-licensing-token\", key = \"token\" }";
    if secret.key(key).is_none() {
        secret.missing(format!("{key} is missing"), EXAMPLE);
    }
    let text = secret.text(key)?;
    if !is_right(text.get_ref()) {
        let what = format!("nothing in Kubernetes can have this {key}");
        secret.reading.mistake(text.span(), what, EXAMPLE);
        return None;
    }
    Some(text.into_inner())
}

fn is_label(text: &str) -> bool {
    text.len() <= 63 && !text.contains('.') && is_subdomain(text)
}

/// A DNS name in lower case, as Kubernetes names its objects.
fn is_subdomain(text: &str) -> bool {
    let is_alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_part = |part: &str| {
        part.bytes().all(|b| is_alphanumeric(b) || b == b'-')
            && part.bytes().next().is_some_and(is_alphanumeric)
            && part.bytes().last().is_some_and(is_alphanumeric)
    };
    text.len() <= 253 && text.split('.').all(is_part)
}

fn is_data_key(text: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=253).contains(&text.len()) && text.bytes().all(is_part)
}

fn keyring(table: &mut Table<'_>) -> Option<Location> {
    let text = table.text("keyring")?;
    // A service may have slashes in its name, as URLs have.
    let parts = text.get_ref().rsplit_once('/');
    let Some((service, user)) =
        parts.filter(|(service, user)| !service.is_empty() && !user.is_empty())
    else {
        table.reading.mistake(
            text.span(),
            "not a service and a user",
            "both names of the entry, with a slash between them: { keyring = \"watsonx/svc\" }",
        );
        return None;
    };
    #[cfg(feature = "keyring")]
    {
        let (service, user) = (service.to_owned(), user.to_owned());
        Some(Location::Keyring { service, user })
    }
    #[cfg(not(feature = "keyring"))]
    {
        let _ = (service, user);
        not_in_this_build(table, text.span(), "keyring", "keyring")
    }
}

#[cfg(not(all(feature = "kube", feature = "keyring")))]
fn not_in_this_build(
    table: &Table<'_>,
    span: crate::config::reading::Span,
    form: &str,
    feature: &str,
) -> Option<Location> {
    table.reading.mistake(
        span,
        format!("`{form}` is not in this build"),
        format!("another place, or a build with it: cargo build --release -p watsonx-auth-proxy --features {feature}"),
    );
    None
}

/// Those of every build.
const FORMS: [&str; 6] = [
    "file",
    "env",
    "systemd",
    "command",
    "kubernetes_secret",
    "keyring",
];
