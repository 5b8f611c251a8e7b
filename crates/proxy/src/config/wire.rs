//! The file as it is written: tables, keys and values with their places.
//!
//! A [`Table`] is read key by key, so that each mistake is found and none hides another; what nobody asked for is
//! an unknown key. This is not serde, which stops at the first mistake and quotes the value in it.

use std::{sync::Arc, time::Duration};

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::reading::{Reading, Span, Wrong};

/// A table of the file that is being read.
pub(super) struct Table<'a> {
    pub(super) reading: &'a Reading<'a>,
    /// Where it is named; for a table in a list, the table itself.
    pub(super) span: Span,
    entries: &'a DeTable<'a>,
    asked: Vec<&'static str>,
    refused: Vec<&'static str>,
}

/// A table whose name the operator chose, such as `[route.license]`.
pub(super) struct Named<'a> {
    pub(super) name: Arc<str>,
    pub(super) table: Table<'a>,
}

impl<'a> Table<'a> {
    pub(super) fn new(reading: &'a Reading<'a>, span: Span, entries: &'a DeTable<'a>) -> Self {
        Self {
            reading,
            span,
            entries,
            asked: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// A string. It is not shown in a report, for people paste secrets anywhere: whoever knows that it is none shows
    /// it, because it is the name of a table, or has become a type that has no room for a secret.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Spanned<String>> {
        let value = self.value(key)?;
        self.string(value)
    }

    /// A list of strings, not shown as in [`Table::text`].
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<Spanned<String>>> {
        let value = self.value(key)?;
        let Some(list) = value.get_ref().as_array() else {
            self.mismatch(
                value,
                "a list of strings",
                format!("{key} = [\"…\", \"…\"]"),
            );
            return None;
        };
        let texts: Vec<_> = list.iter().filter_map(|value| self.string(value)).collect();
        (texts.len() == list.len()).then_some(texts)
    }

    /// One of the words, as what it stands for.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        let text = self.text(key)?;
        let chosen = words.iter().find(|(word, _)| word == text.get_ref());
        let known = words.iter().map(|(word, _)| *word);
        self.reading.show_if_near(&text, known.clone());
        if chosen.is_none() {
            let hint = suggest(text.get_ref(), known, "it is one of");
            self.reading
                .mistake(text.span(), format!("not a value of {key}"), hint);
        }
        chosen.map(|(_, meaning)| *meaning)
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.mismatch(value, "true or false", format!("{key} = true"));
        }
        boolean
    }

    /// A whole number of at least `least`.
    pub(super) fn number(&mut self, key: &'static str, least: u32) -> Option<u32> {
        let value = self.value(key)?;
        self.integer(value, least, format!("{key} = {}", least.max(1)))
    }

    /// A list of whole numbers.
    pub(super) fn numbers(&mut self, key: &'static str) -> Option<Vec<u32>> {
        let value = self.value(key)?;
        let Some(list) = value.get_ref().as_array() else {
            self.mismatch(value, "a list of numbers", format!("{key} = [1000]"));
            return None;
        };
        list.iter()
            .map(|value| self.integer(value, 0, format!("{key} = [1000]")))
            .collect()
    }

    /// A time that something takes, such as `"30s"`.
    pub(super) fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.duration_of_at_least(key, SHORTEST)
    }

    /// A time of at least `least`.
    pub(super) fn duration_of_at_least(
        &mut self,
        key: &'static str,
        least: Duration,
    ) -> Option<Duration> {
        let span = self.value(key)?.span();
        let duration = self.duration_or_zero(key)?;
        if duration < least {
            let least = humantime::format_duration(least);
            let what = format!("{key} is shorter than {least}");
            self.reading.mistake(span, what, format!("{key} = \"30s\""));
            return None;
        }
        Some(duration)
    }

    /// A time, such as `"30s"` or `"0s"`.
    pub(super) fn duration_or_zero(&mut self, key: &'static str) -> Option<Duration> {
        let value = self.value(key)?;
        let hint = "a number and a unit in quotes: \"500ms\", \"30s\", \"5m\" or \"1h\"";
        let Some(text) = value.get_ref().as_str() else {
            self.mismatch(value, "a time", hint.to_owned());
            return None;
        };
        let parsed = humantime::parse_duration(text);
        if parsed.is_ok() {
            self.reading.show(value.span());
        }
        match parsed {
            // A day is far beyond any sensible time-out, and far below what overflows a clock.
            Ok(duration) if duration <= LONGEST => Some(duration),
            Ok(_) => {
                self.reading
                    .mistake(value.span(), "longer than 30 days", hint);
                None
            }
            Err(_) => {
                self.reading.mistake(value.span(), "not a time", hint);
                None
            }
        }
    }

    /// A number of bytes, such as `"64KiB"` or `65536`.
    pub(super) fn size(&mut self, key: &'static str) -> Option<Spanned<u64>> {
        let value = self.value(key)?;
        let bytes = match value.get_ref() {
            DeValue::Integer(integer) => integer.to_string().parse().ok(),
            DeValue::String(text) => text.parse().ok().map(|bytesize::ByteSize(bytes)| bytes),
            _ => None,
        };
        if bytes.is_some() {
            self.reading.show(value.span());
        } else {
            let hint = format!("{key} = \"64KiB\", \"10MB\", or a number of bytes");
            self.reading.mistake(value.span(), "not a size", hint);
        }
        Some(Spanned::new(value.span(), bytes?))
    }

    /// A table of fixed name within this one.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Self> {
        let (name, value) = self.entry(key)?;
        let Some(entries) = value.get_ref().as_table() else {
            self.mismatch(value, "a table", format!("{key} = {{ … }}"));
            return None;
        };
        Some(Self::new(self.reading, name.span(), entries))
    }

    /// The tables `[key.NAME]`, in the order of the file; `None` where the file has none.
    pub(super) fn named(&mut self, key: &'static str) -> Option<Vec<Named<'a>>> {
        let (header, value) = self.entry(key)?;
        let form = format!("each {key} is a table with a name of its own: [{key}.NAME]");
        let Some(tables) = value.get_ref().as_table() else {
            self.reading
                .mistake(header.span(), format!("{key} without a name"), form);
            return Some(Vec::new());
        };
        let mut tables: Vec<_> = tables.iter().collect();
        tables.sort_by_key(|(name, _)| name.span().start);
        let named = tables.into_iter().filter_map(|(name, value)| {
            let Some(entries) = value.get_ref().as_table() else {
                self.reading.mistake(
                    name.span(),
                    format!("a key where a name belongs, below {key}"),
                    form.clone(),
                );
                return None;
            };
            if !is_name(name.get_ref()) {
                self.reading.mistake(
                    name.span(),
                    "not a name for a table",
                    "a name is made of a-z, 0-9, `_` and `-`, and has at most 64 characters",
                );
            }
            let table = Self::new(self.reading, name.span(), entries);
            Some(Named {
                name: Arc::from(&**name.get_ref()),
                table,
            })
        });
        Some(named.collect())
    }

    /// All keys with string values, as in `set_headers`; the values might be secrets by mistake.
    pub(super) fn pairs(mut self) -> Vec<(Spanned<String>, Spanned<String>)> {
        let entries = self.entries();
        let pairs = entries.into_iter();
        pairs
            .filter_map(|(key, value)| Some((key, self.string(value)?)))
            .collect()
    }

    /// All keys with their values, in the order of the file.
    pub(super) fn entries(&self) -> Vec<(Spanned<String>, &'a Spanned<DeValue<'a>>)> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let owned =
            |key: &Spanned<DeString<'_>>| Spanned::new(key.span(), key.get_ref().to_string());
        let entries = entries.into_iter();
        entries.map(|(key, value)| (owned(key), value)).collect()
    }

    /// A value of whatever type.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entry(key).map(|(_, value)| value)
    }

    /// Where the key stands, if it is there.
    pub(super) fn key(&mut self, key: &'static str) -> Option<Span> {
        self.entry(key).map(|(name, _)| name.span())
    }

    /// Whether a key is there, without asking for it.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// All keys, and whether each is a table.
    pub(super) fn keys(&self) -> Vec<(&'a Spanned<DeString<'a>>, bool)> {
        self.entries
            .iter()
            .map(|(key, value)| (key, value.get_ref().is_table()))
            .collect()
    }

    /// Refuses keys that have a meaning, but not here, or not in this version.
    pub(super) fn refuse(&mut self, keys: &[&'static str], wrong: impl Fn(&str) -> Wrong) {
        self.refused.extend(keys);
        for key in keys {
            if let Some((name, _)) = self.entries.get_key_value(*key) {
                self.reading.wrong(name.span(), wrong(key));
            }
        }
    }

    /// Refuses keys of later versions.
    pub(super) fn later(&mut self, keys: &[&'static str]) {
        self.refuse(keys, |key| {
            Wrong::new(
                format!("`{key}` is not in this version yet"),
                "leave it out; it is described for a later version",
            )
        });
    }

    /// A key that must be there is not.
    pub(super) fn missing(&self, what: impl Into<String>, hint: impl Into<String>) {
        self.reading
            .mistake(self.span.clone(), what.into(), hint.into());
    }

    /// Ends the reading: every key that was neither asked for nor refused is unknown.
    pub(super) fn done(self) {
        for (key, _) in self.entries {
            let known = |name: &&str| *name == &**key.get_ref();
            if !self.asked.iter().chain(&self.refused).any(known) {
                let mut asked = self.asked.clone();
                asked.sort_unstable();
                asked.dedup();
                let hint = suggest(key.get_ref(), asked.into_iter(), KEYS_ARE);
                self.reading.mistake(key.span(), "unknown key", hint);
            }
        }
    }

    fn entry(
        &mut self,
        key: &'static str,
    ) -> Option<(&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>)> {
        self.asked.push(key);
        self.entries.get_key_value(key)
    }

    fn string(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Spanned<String>> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.mismatch(value, "a string", "put it in quotes".to_owned());
        }
        Some(Spanned::new(value.span(), text?.to_owned()))
    }

    fn integer(&self, value: &Spanned<DeValue<'_>>, least: u32, hint: String) -> Option<u32> {
        let Some(integer) = value.get_ref().as_integer() else {
            self.mismatch(value, "a number", hint);
            return None;
        };
        let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok();
        if number.is_some() {
            self.reading.show(value.span());
        }
        let number = number.filter(|number| *number >= least);
        if number.is_none() {
            let what = format!("not a whole number from {least} to {}", u32::MAX);
            self.reading.mistake(value.span(), what, hint);
        }
        number
    }

    fn mismatch(&self, value: &Spanned<DeValue<'_>>, wanted: &str, hint: String) {
        let found = value.get_ref().type_str();
        let article = if matches!(found, "integer" | "array") {
            "an"
        } else {
            "a"
        };
        let what = format!("{wanted} is wanted here, this is {article} {found}");
        self.reading.mistake(value.span(), what, hint);
    }
}

/// The one of `known` that was probably meant, or all of them.
pub(super) fn suggest<'n>(
    written: &str,
    known: impl Iterator<Item = &'n str> + Clone,
    all: &str,
) -> String {
    match nearest(written, known.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("{all} {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// The one of `known` that was probably meant: so near that the rest is a slip and no secret.
pub(super) fn nearest<'n>(written: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let written = written.to_ascii_lowercase();
    let near = known.map(|name| (strsim::osa_distance(&written, name), name));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= (name.len() / 3).clamp(1, MOST_SLIPS)).then_some(name)
}

fn is_name(name: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(is_part)
}

/// Letters that differ from the word that was meant.
const MOST_SLIPS: usize = 3;

/// A time below it is a slip of the unit.
const SHORTEST: Duration = Duration::from_millis(1);

const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

pub(super) const KEYS_ARE: &str = "the keys here are";
