//! What one reading of the configuration brings to light: mistakes, waivers, and which parts of the text are known
//! to be no secret and may be shown.

use std::{borrow::Cow, cell::RefCell, ops::Range, path::Path};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Waiver,
    report::{Mistake, Place, Severity, Spot},
    source::Environment,
    wire::nearest,
};

/// Bytes of the text.
pub(super) type Span = Range<usize>;

/// What is wrong with a value, by whoever looks at the value alone and does not know where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) what: Cow<'static, str>,
    pub(super) hint: Cow<'static, str>,
}

impl Wrong {
    pub(super) fn new(
        what: impl Into<Cow<'static, str>>,
        hint: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            what: what.into(),
            hint: hint.into(),
        }
    }
}

/// A text that is being read, and what was found out about it so far.
pub(super) struct Reading<'a> {
    pub(super) environment: &'a Environment,
    /// What relative paths are relative to.
    pub(super) folder: &'a Path,
    file: &'a str,
    text: &'a str,
    /// Every value of the text that is no table or list.
    values: RefCell<Vec<Span>>,
    /// The values that may be shown.
    open: RefCell<Vec<Span>>,
    noted: RefCell<Vec<Note>>,
    waivers: RefCell<Vec<Waiver>>,
}

/// A mistake before its line is masked: what may be shown is known only at the end of the reading.
#[derive(PartialEq)]
struct Note {
    severity: Severity,
    span: Option<Span>,
    wrong: Wrong,
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        file: &'a str,
        text: &'a str,
        folder: &'a Path,
        environment: &'a Environment,
    ) -> Self {
        Self {
            environment,
            folder,
            file,
            text,
            values: RefCell::default(),
            open: RefCell::default(),
            noted: RefCell::default(),
            waivers: RefCell::default(),
        }
    }

    /// The tables of the text; `None` where it is not TOML, which is then noted.
    pub(super) fn parse(&self) -> Option<DeTable<'a>> {
        let (root, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            note_values(root.get_ref(), &mut self.values.borrow_mut());
            return Some(root.into_inner());
        }
        for error in errors.iter().take(SYNTAX_ERRORS) {
            // Only message and span: the error's own text repeats the line, and with it a secret written there.
            self.note(
                Severity::Error,
                error.span(),
                Wrong::new(
                    format!("this is not TOML: {}", error.message()),
                    "words are masked here, one of them might be a secret; see the line in the file",
                ),
            );
        }
        None
    }

    pub(super) fn mistake(
        &self,
        span: Span,
        what: impl Into<Cow<'static, str>>,
        hint: impl Into<Cow<'static, str>>,
    ) {
        self.note(Severity::Error, Some(span), Wrong::new(what, hint));
    }

    pub(super) fn wrong(&self, span: Span, wrong: Wrong) {
        self.note(Severity::Error, Some(span), wrong);
    }

    /// A mistake of the file as a whole.
    pub(super) fn mistake_of_file(
        &self,
        what: impl Into<Cow<'static, str>>,
        hint: impl Into<Cow<'static, str>>,
    ) {
        self.note(Severity::Error, None, Wrong::new(what, hint));
    }

    pub(super) fn warning(
        &self,
        span: Span,
        what: impl Into<Cow<'static, str>>,
        hint: impl Into<Cow<'static, str>>,
    ) {
        self.note(Severity::Warning, Some(span), Wrong::new(what, hint));
    }

    /// Lets the value at `span` be shown: it stands where no secret is expected, or has proved not to be one.
    pub(super) fn show(&self, span: Span) {
        self.open.borrow_mut().push(span);
    }

    /// Lets a text be shown if it is one of `known`, or was meant to be.
    pub(super) fn show_if_near<'n>(
        &self,
        text: &Spanned<String>,
        known: impl Iterator<Item = &'n str>,
    ) {
        if nearest(text.get_ref(), known).is_some() {
            self.show(text.span());
        }
    }

    pub(super) fn waive(&self, kind: &'static str, place: String) {
        self.waivers.borrow_mut().push(Waiver { kind, place });
    }

    /// The waivers, and the mistakes in the order of the text.
    pub(super) fn finish(self) -> (Vec<Waiver>, Vec<Mistake>) {
        let lines = Lines {
            text: self.text,
            values: self.values.into_inner(),
            open: self.open.into_inner(),
        };
        let mut noted = self.noted.into_inner();
        noted.sort_by_key(|note| note.span.as_ref().map(|span| span.start));
        let mistakes = noted
            .into_iter()
            .map(
                |Note {
                     severity,
                     span,
                     wrong,
                 }| Mistake {
                    severity,
                    place: match span {
                        Some(span) => Place::Spot(lines.spot(self.file, &span)),
                        None => Place::File(self.file.to_owned()),
                    },
                    what: wrong.what.into_owned(),
                    hint: wrong.hint.into_owned(),
                },
            )
            .collect();
        (self.waivers.into_inner(), mistakes)
    }

    fn note(&self, severity: Severity, span: Option<Span>, wrong: Wrong) {
        let note = Note {
            severity,
            span,
            wrong,
        };
        let mut noted = self.noted.borrow_mut();
        // A rule that holds for each listener finds the same mistake once for each.
        if !noted.contains(&note) {
            noted.push(note);
        }
    }
}

fn note_values(table: &DeTable<'_>, values: &mut Vec<Span>) {
    table.values().for_each(|value| note_value(value, values));
}

fn note_value(value: &Spanned<DeValue<'_>>, values: &mut Vec<Span>) {
    match value.get_ref() {
        DeValue::Table(table) => note_values(table, values),
        DeValue::Array(list) => list.iter().for_each(|value| note_value(value, values)),
        _ => values.push(value.span()),
    }
}

/// The lines of a text as they may be shown.
struct Lines<'a> {
    text: &'a str,
    /// Empty where the text is not TOML: nobody knows then what is a value.
    values: Vec<Span>,
    open: Vec<Span>,
}

impl Lines<'_> {
    fn spot(&self, file: &str, span: &Span) -> Spot {
        let start = self.text.floor_char_boundary(span.start);
        let line_start = self.text[..start]
            .rfind('\n')
            .map_or(0, |newline| newline + 1);
        let line = self.text[line_start..].lines().next().unwrap_or_default();
        let mut shown = String::with_capacity(line.len());
        let mut caret = None;
        let mut caret_end = 0;
        for (offset, character) in line.char_indices() {
            let at = line_start + offset;
            if character == '#' && !self.values.is_empty() && self.value_at(at).is_none() {
                break; // a comment: it might hold a secret that was commented out
            }
            if at == start {
                caret = Some(shown.len());
            }
            shown.push(if self.may_show(at, character) {
                character
            } else {
                '*'
            });
            if at < span.end {
                caret_end = shown.len();
            }
        }
        let shown = shown.trim_end().to_owned();
        let caret = caret.unwrap_or(shown.len()).min(shown.len());
        Spot {
            file: file.to_owned(),
            line: self.text[..line_start].matches('\n').count() + 1,
            column: self.text[line_start..start].chars().count() + 1,
            caret: caret..caret_end.clamp(caret, shown.len()),
            shown,
        }
    }

    fn may_show(&self, at: usize, character: char) -> bool {
        if self.values.is_empty() {
            return character.is_ascii_whitespace() || "=[]{}\"',".contains(character);
        }
        match self.value_at(at) {
            None => true,
            Some(value) => {
                let is_quote =
                    matches!(character, '"' | '\'') && (at == value.start || at + 1 == value.end);
                is_quote || self.open.iter().any(|span| span.contains(&at))
            }
        }
    }

    fn value_at(&self, at: usize) -> Option<&Span> {
        self.values.iter().find(|value| value.contains(&at))
    }
}

/// One missing quote makes an error of each line after it; the first ones tell.
const SYNTAX_ERRORS: usize = 5;
