//! Places: where secrets and files are read. A secret itself is never written in the configuration.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use token_source::{Location, credential::Text};
use toml::{Spanned, de::DeValue};

use super::form::{forms, location};
use crate::config::{
    reading::{Reading, Span, Wrong},
    source::Environment,
    wire::Table,
};

/// The place of a secret.
pub(super) fn secret(table: &mut Table<'_>, key: &'static str) -> Option<Location> {
    let value = table.value(key)?;
    match value.get_ref() {
        DeValue::Table(entries) => location(Table::new(table.reading, value.span(), entries)),
        _ => {
            table.reading.mistake(
                value.span(),
                "a secret is never written in the configuration",
                format!("write where it is read: {}", forms(key)),
            );
            None
        }
    }
}

/// A text that is no secret, written as it is or read from a place.
pub(super) fn text(table: &mut Table<'_>, key: &'static str) -> Option<Text> {
    let value = table.value(key)?;
    match value.get_ref() {
        DeValue::Table(_) | DeValue::String(_) => text_of(table.reading, key, value),
        _ => table.text(key).map(|text| Text::Literal(text.into_inner())),
    }
}

/// The same under a key that the operator chose.
pub(super) fn text_of<'a>(
    reading: &'a Reading<'a>,
    key: &str,
    value: &'a Spanned<DeValue<'a>>,
) -> Option<Text> {
    let (what, hint) = match value.get_ref() {
        DeValue::Table(entries) => {
            return location(Table::new(reading, value.span(), entries)).map(Text::Location);
        }
        DeValue::String(text) if !text.is_empty() && !text.chars().any(char::is_control) => {
            return Some(Text::Literal(text.to_string()));
        }
        DeValue::String(_) => (
            format!("{key} is empty, or has a control character in it"),
            format!("{key} = \"…\", or {}", forms(key)),
        ),
        _ => (
            "a text or a place is wanted here".to_owned(),
            format!("{key} = \"…\", or {}", forms(key)),
        ),
    };
    reading.mistake(value.span(), what, hint);
    None
}

/// A file, given by its path alone or as any other place.
pub(super) fn file_or_location(table: &mut Table<'_>, key: &'static str) -> Option<Location> {
    let value = table.value(key)?;
    if let DeValue::Table(entries) = value.get_ref() {
        return location(Table::new(table.reading, value.span(), entries));
    }
    Some(Location::File {
        path: file(table, key)?,
        field: None,
    })
}

/// The path of a file without which nothing is served.
pub(super) fn file_at_start(table: &mut Table<'_>, key: &'static str) -> Option<PathBuf> {
    let text = table.text(key)?;
    let path = resolve_noting(table.reading, &text)?;
    if let Some(wrong) = warn_if_not_there(&path) {
        let hint = "a proxy does not start without it";
        table.reading.warning(text.span(), wrong.what, hint);
    }
    Some(path)
}

/// The path of a file that should be there.
pub(super) fn file(table: &mut Table<'_>, key: &'static str) -> Option<PathBuf> {
    let text = table.text(key)?;
    let path = resolve_noting(table.reading, &text)?;
    warn_unless_readable(table.reading, text.span(), &path);
    Some(path)
}

/// The absolute path that `text` stands for, told as a mistake where it stands for none.
pub(super) fn resolve_noting(reading: &Reading<'_>, text: &Spanned<String>) -> Option<PathBuf> {
    match resolve(text.get_ref(), reading.folder, reading.environment) {
        Ok(path) => {
            show_what_is_there(reading, text);
            Some(path)
        }
        Err(wrong) => {
            reading.wrong(text.span(), wrong);
            None
        }
    }
}

/// Whether a secret is read from where Kubernetes puts the tokens of a pod.
pub(super) fn is_of_kubernetes(location: &Location) -> bool {
    let Location::File { path, .. } = location else {
        return false;
    };
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            _ => plain.push(part),
        }
    }
    // Most systems have /var/run as a link to /run.
    ["/var/run", "/run"]
        .iter()
        .any(|run| plain.starts_with(Path::new(run).join("secrets/kubernetes.io")))
}

/// What is amiss with a file that something will read later, if anything is.
pub(crate) fn warn_if_not_there(path: &Path) -> Option<Wrong> {
    let later = "it may come later: the proxy starts without it, what needs it waits";
    let wrong = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            Wrong::new("this is a directory, not a file", "name the file in it")
        }
        Ok(_) => return None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Wrong::new("this file is not there", later)
        }
        Err(_) => Wrong::new("this file cannot be read by the user who is asking", later),
    };
    Some(wrong)
}

fn warn_unless_readable(reading: &Reading<'_>, span: Span, path: &Path) {
    if let Some(wrong) = warn_if_not_there(path) {
        reading.warning(span, wrong.what, wrong.hint);
    }
}

fn resolve(text: &str, folder: &Path, environment: &Environment) -> Result<PathBuf, Wrong> {
    if text.is_empty() || text.contains('\0') {
        return Err(Wrong::new("not a path", "write the path of the file"));
    }
    let expand = |rest: &str, variable: &str| match environment.path(variable) {
        Some(start) => Ok(start.join(rest.trim_start_matches('/'))),
        None => Err(Wrong::new(
            format!("${variable} is not set here, and this path begins with it"),
            "write the whole path",
        )),
    };
    if let Some(rest) = text
        .strip_prefix("~")
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
    {
        return expand(rest, "HOME");
    }
    for form in ["$CREDENTIALS_DIRECTORY", "${CREDENTIALS_DIRECTORY}"] {
        if let Some(rest) = text.strip_prefix(form).filter(|rest| rest.starts_with('/')) {
            return expand(rest, CREDENTIALS_DIRECTORY);
        }
    }
    Ok(folder.join(text))
}

/// Shows the part of a path that is there: a secret that was written in place of its file is not, and an operator
/// sees which part is missing.
fn show_what_is_there(reading: &Reading<'_>, text: &Spanned<String>) {
    let is_there = |part: &str| {
        resolve(part, reading.folder, reading.environment).is_ok_and(|path| path.exists())
    };
    let span = text.span();
    let text = text.get_ref();
    if is_there(text) {
        reading.show(span);
        return;
    }
    // With an escape in it, the text in the file is another one.
    let is_as_written = span.len() == text.len() + 2;
    let mut folders = text.rmatch_indices('/').map(|(end, _)| end);
    if let Some(end) = folders.find(|end| *end > 0 && is_there(&text[..*end]))
        && is_as_written
    {
        reading.show(span.start..span.start + 1 + end + 1);
    }
}

pub(super) const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
