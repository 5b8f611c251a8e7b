//! Templates of a `steps` credential: `{name}` for a value, and no secret between the values.

use std::ops::Range;

use token_source::credential::steps::{Template, TemplateError};
use toml::Spanned;

use super::header;
use crate::config::{reading::Reading, wire::suggest};

/// Reads the templates of one step.
pub(super) struct Templates<'a> {
    pub(super) reading: &'a Reading<'a>,
    /// The values that there are when the step is made.
    pub(super) names: Vec<&'a str>,
}

impl Templates<'_> {
    /// The template that a text is; `None` where a mistake was noted.
    pub(super) fn read(&self, text: &Spanned<String>) -> Option<Template> {
        let (what, hint) = match Template::parse(text.get_ref(), &self.names) {
            Ok(template) => return Some(template),
            Err(error @ TemplateError::Unclosed) => {
                let hint = "`{name}` puts a value in, `{{` is a brace";
                (error.to_string(), hint.to_owned())
            }
            Err(error @ TemplateError::Unknown(_)) if self.names.is_empty() => {
                let hint = "there are none here: they come from `inputs`, and from `take` of earlier steps";
                (error.to_string(), hint.to_owned())
            }
            Err(TemplateError::Unknown(name)) => (
                TemplateError::Unknown(String::new()).to_string(),
                suggest(&name, self.names.iter().copied(), "the values here are"),
            ),
        };
        self.reading.mistake(text.span(), what, hint);
        None
    }

    /// Names are sent as they are written: one with a brace was meant for a template. `None` where that was noted.
    pub(super) fn refuse_braces(&self, span: Range<usize>, name: &str) -> Option<()> {
        if !name.contains(['{', '}']) {
            return Some(());
        }
        let hint = "values are put in on the right side only: name = \"{value}\"";
        let what = "a name is sent as it is written, nothing is put into it";
        self.reading.mistake(span, what, hint);
        None
    }

    /// The template under a name, where a secret would be recognised that is written there.
    pub(super) fn read_named(&self, name: &str, text: &Spanned<String>) -> Option<Template> {
        let template = self.read(text)?;
        let is_written = template.values().next().is_none() && !text.get_ref().is_empty();
        if is_written && (names_a_secret(name) || header::is_credential(text.get_ref())) {
            self.reading.mistake(
                text.span(),
                "this looks like a credential",
                "a secret is never written in the configuration: inputs = { key = { file = \"…\" } }, and \"{key}\" here",
            );
            return None;
        }
        Some(template)
    }
}

/// Whether a value under this name is likely a secret; `subject_token_type` is none.
pub(super) fn names_a_secret(name: &str) -> bool {
    header::names_a_credential(name) && !name.to_ascii_lowercase().ends_with("type")
}
