//! `[credential.NAME.steps]`: a login of the operator's own, request by request.

use token_source::{
    Kind,
    credential::{
        Steps, Text,
        steps::{Step, Template},
    },
};
use toml::{Spanned, de::DeValue};

use super::{
    header, location, step,
    template::{Templates, names_a_secret},
};
use crate::config::{
    reading::{Reading, Wrong},
    wire::Table,
};

/// A value that templates may name, and whether one does.
struct Value {
    name: Spanned<String>,
    is_used: bool,
}

/// `inputs` and the tables `step`; `None` where a mistake was noted.
pub(super) fn steps(table: &mut Table<'_>, place: &str) -> Option<Kind> {
    let reading = table.reading;
    let mut values = Vec::new();
    let inputs = inputs(table, &mut values);
    let written = written_steps(table)?;
    let count = written.len();
    let mut paths = None;
    let mut steps = Vec::with_capacity(count);
    for (index, mut table) in written.into_iter().enumerate() {
        let place = format!("{place}.step {}", index + 1);
        if index + 1 == count {
            paths = Some(Paths::of(&mut table));
        } else {
            refuse_paths(&mut table);
        }
        steps.push(step(table, &mut values, &place));
    }
    let steps: Vec<_> = steps.into_iter().collect::<Option<_>>()?;
    for value in values.iter().filter(|value| !value.is_used) {
        let hint = format!(
            "put it in as \"{{{}}}\", or leave it out",
            value.name.get_ref()
        );
        let what = "no later step uses this value";
        reading.mistake(value.name.span(), what, hint);
    }
    let Paths {
        token,
        expires_in,
        expiration,
    } = paths?;
    Some(Kind::Steps(Steps {
        inputs: inputs?,
        steps,
        token: token?,
        expires_in: expires_in?,
        expiration: expiration?,
    }))
}

/// The values that a login begins with.
fn inputs(table: &mut Table<'_>, values: &mut Vec<Value>) -> Option<Vec<Text>> {
    let Some(inputs) = table.table("inputs") else {
        return table.key("inputs").is_none().then(Vec::new);
    };
    let reading = inputs.reading;
    let mut texts = Vec::new();
    for (name, value) in inputs.entries() {
        let text = match value.get_ref() {
            DeValue::String(text)
                if names_a_secret(name.get_ref()) || header::is_credential(text) =>
            {
                let hint = format!(
                    "write where it is read: {} = {{ file = \"/run/secrets/…\" }}",
                    name.get_ref()
                );
                let what = "a secret is never written in the configuration";
                reading.mistake(value.span(), what, hint);
                None
            }
            _ => location::text_of(reading, name.get_ref(), value),
        };
        texts.push(text);
        declare(reading, values, name);
    }
    texts.into_iter().collect()
}

/// A new value for templates.
fn declare(reading: &Reading<'_>, values: &mut Vec<Value>, name: Spanned<String>) {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let text = name.get_ref();
    let is_name = !text.is_empty() && text.bytes().all(is_part);
    let is_taken = values.iter().any(|value| value.name.get_ref() == text);
    if !is_name {
        let hint = "a name is made of letters, digits, `_` and `-`";
        reading.mistake(name.span(), "not a name for a value", hint);
    } else if is_taken {
        let hint = "give this one another name";
        reading.mistake(name.span(), "there is a value of this name already", hint);
    }
    values.push(Value {
        name,
        // One mistake, told once.
        is_used: is_taken || !is_name,
    });
}

fn written_steps<'a>(table: &mut Table<'a>) -> Option<Vec<Table<'a>>> {
    let reading = table.reading;
    let form = "[[credential.NAME.steps.step]], with two brackets, for each request";
    let Some(value) = table.value("step") else {
        table.missing("a login needs at least one step", form);
        return None;
    };
    let tables: Option<Vec<_>> = value.get_ref().as_array().and_then(|list| {
        let tables = list.iter().map(|step| {
            let entries = step.get_ref().as_table()?;
            Some(Table::new(reading, step.span(), entries))
        });
        tables.collect()
    });
    let Some(tables) = tables.filter(|tables| !tables.is_empty()) else {
        let span = table.key("step").unwrap_or_default();
        reading.mistake(span, "steps are a list of tables", form);
        return None;
    };
    if let Some(one_too_many) = tables.get(Steps::MOST_STEPS) {
        let span = one_too_many.span.clone();
        let hint = "no login of a platform needs more; a `command` as a place can do anything";
        reading.mistake(span, "more than three steps", hint);
        return None;
    }
    Some(tables)
}

/// A step, with what it takes as new values.
fn step(mut table: Table<'_>, values: &mut Vec<Value>, place: &str) -> Option<Step> {
    let names: Vec<String> = values
        .iter()
        .map(|value| value.name.get_ref().clone())
        .collect();
    let templates = Templates {
        reading: table.reading,
        names: names.iter().map(String::as_str).collect(),
    };
    let request = step::request(&mut table, &templates, place);
    let takes = takes(&mut table, values);
    table.done();
    let step = Step {
        takes: takes?,
        ..request?
    };
    for value in step.templates().into_iter().flat_map(Template::values) {
        values[value].is_used = true;
    }
    Some(step)
}

/// `take = { name = "dotted.path" }`: the paths, and new values.
fn takes(table: &mut Table<'_>, values: &mut Vec<Value>) -> Option<Vec<String>> {
    let Some(takes) = table.table("take") else {
        return table.key("take").is_none().then(Vec::new);
    };
    let reading = takes.reading;
    let count = takes.entries().len();
    let pairs = takes.pairs();
    let paths: Vec<_> = pairs
        .into_iter()
        .filter_map(|(name, path)| {
            declare(reading, values, name);
            dotted_path(reading, path)
        })
        .collect();
    (paths.len() == count).then_some(paths)
}

/// Where the last answer has what; the outer `None` is a mistake, the inner one a key that is not there.
struct Paths {
    token: Option<Option<String>>,
    expires_in: Option<Option<String>>,
    expiration: Option<Option<String>>,
}

impl Paths {
    fn of(table: &mut Table<'_>) -> Self {
        let mut path = |key| match table.key(key) {
            Some(_) => {
                let text = table.text(key);
                text.and_then(|text| dotted_path(table.reading, text))
                    .map(Some)
            }
            None => Some(None),
        };
        Self {
            token: path("token"),
            expires_in: path("expires_in"),
            expiration: path("expiration"),
        }
    }
}

fn refuse_paths(table: &mut Table<'_>) {
    table.refuse(&["token", "expires_in", "expiration"], |key| {
        Wrong::new(
            format!("{key} is read from the last answer"),
            "write it in the last step; what a later step needs goes into `take`",
        )
    });
}

fn dotted_path(reading: &Reading<'_>, path: Spanned<String>) -> Option<String> {
    if path.get_ref().split('.').any(str::is_empty) {
        let hint =
            "names with dots between them, such as \"data.token\"; numbers count lists from 0";
        reading.mistake(path.span(), "not a path into JSON", hint);
        return None;
    }
    Some(path.into_inner())
}
