//! How mistakes are told: what, where (`file:line:col`, a caret) and what to do, never with a secret.

use std::{fmt, ops::Range};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// Everything that is wrong with what the operator asked for; its text is for the operator's eyes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In the order of the file; at least one is an error.
    pub mistakes: Vec<Mistake>,
}

/// One thing that is wrong; holds nothing that could be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Whether it stops the proxy.
    pub severity: Severity,
    /// Where it is.
    pub place: Place,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

/// Whether a mistake stops the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not, unless `--strict` is asked for: a file that may still come.
    Warning,
}

/// Where a mistake is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// There is no file to point at.
    Nowhere,
    /// A flag of the command line.
    Flag(&'static str),
    /// An environment variable, by its name.
    Variable(String),
    /// A file as a whole.
    File(String),
    /// A spot of a file.
    Spot(Spot),
}

/// A spot of a file, with the line to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The file's name as the operator gave it.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The line, each character that could belong to a secret replaced by `*`, comments left out.
    pub shown: String,
    /// What the caret is put under: bytes of `shown`.
    pub caret: Range<usize>,
}

impl std::error::Error for Report {}

/// In one line: `proxy.toml:3:1`, `--upstream`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str("the configuration"),
            Self::Flag(flag) => f.write_str(flag),
            Self::Variable(name) => write!(f, "${name}"),
            Self::File(file) => f.write_str(file),
            Self::Spot(spot) => write!(f, "{}:{}:{}", spot.file, spot.line, spot.column),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.mistakes {
            writeln!(f, "{mistake}\n")?;
        }
        f.write_str(&count(&self.mistakes))
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = match &self.place {
            Place::Flag(flag) => format!("{flag}: {}", self.what),
            Place::Variable(name) => format!("${name}: {}", self.what),
            Place::Nowhere | Place::File(_) | Place::Spot(_) => self.what.clone(),
        };
        let group = Group::with_title(level.primary_title(title.as_str()));
        let group = match &self.place {
            Place::Nowhere | Place::Flag(_) | Place::Variable(_) => group,
            Place::File(file) => group.element(Origin::path(file.as_str())),
            Place::Spot(spot) => group.element(
                Snippet::source(spot.shown.as_str())
                    .line_start(spot.line)
                    .path(spot.file.as_str())
                    .annotation(AnnotationKind::Primary.span(spot.caret.clone())),
            ),
        };
        let group = group.element(Level::HELP.message(self.hint.as_str()));
        f.write_str(&Renderer::plain().render(&[group]))
    }
}

/// `2 mistakes, 1 warning`.
fn count(mistakes: &[Mistake]) -> String {
    let warnings = mistakes
        .iter()
        .filter(|mistake| mistake.severity == Severity::Warning)
        .count();
    let errors = mistakes.len() - warnings;
    let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    match (errors, warnings) {
        (_, 0) => plural(errors, "mistake"),
        (0, _) => plural(warnings, "warning"),
        _ => format!(
            "{}, {}",
            plural(errors, "mistake"),
            plural(warnings, "warning")
        ),
    }
}
