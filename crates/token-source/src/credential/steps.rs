//! `steps`: a login that no other kind knows, as up to three requests that are made of templates.

use std::fmt;

use http::{HeaderName, Method};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};

use super::{Place, Text, place_of};
use crate::connect::Origin;

/// Up to three requests in turn; the answer to the last has the token.
///
/// The values of the templates are counted through: first the inputs, then what each step takes. A template names
/// only what is there when its step is made.
#[derive(Debug, Clone)]
pub struct Steps {
    /// What the login begins with.
    pub inputs: Vec<Text>,
    /// The requests; from one to [`MOST_STEPS`](Self::MOST_STEPS).
    pub steps: Vec<Step>,
    /// Dotted path of the token in the last answer; `None`: one of the platform's names for it.
    pub token: Option<String>,
    /// Dotted path of the token's lifetime in seconds; `None`: `expires_in`.
    pub expires_in: Option<String>,
    /// Dotted path of the token's end in seconds since 1970; `None`: `expiration`.
    pub expiration: Option<String>,
}

/// One request, and what is taken from its answer.
#[derive(Debug, Clone)]
pub struct Step {
    /// How it asks.
    pub method: Method,
    /// Whom it asks; without a base path.
    pub origin: Origin,
    /// The path; begins with a slash.
    pub path: Template,
    /// The query, without its question mark.
    pub query: Option<Template>,
    /// Headers besides those that any request has.
    pub headers: Vec<(HeaderName, Template)>,
    /// What it sends.
    pub content: Content,
    /// Dotted paths into the JSON of its answer; each becomes a value for later steps.
    pub takes: Vec<String>,
}

/// What a step sends.
#[derive(Debug, Clone)]
pub enum Content {
    /// Nothing.
    Nothing,
    /// `application/json`
    Json(Json),
    /// `application/x-www-form-urlencoded`
    Form(Vec<(String, Template)>),
}

/// JSON with templates for texts.
#[derive(Debug, Clone)]
pub enum Json {
    /// A text.
    Text(Template),
    /// A whole number.
    Integer(i64),
    /// A finite number.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// `[…]`
    List(Vec<Self>),
    /// `{…}`
    Object(Vec<(String, Self)>),
}

/// A text with values to be put in: `Bearer {token}`. `{{` is a brace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// Which of the values, and its name.
    Value {
        number: usize,
        name: String,
    },
}

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace that is not closed.
    #[error("a `{{` without its `}}`")]
    Unclosed,
    /// A name that no value has; it may be a secret in the wrong place.
    #[error("there is no value of this name")]
    Unknown(String),
}

impl Steps {
    /// A login that needs more is not one of a platform.
    pub const MOST_STEPS: usize = 3;

    pub(super) fn places(&self) -> Vec<Place<'_>> {
        let inputs = self.inputs.iter();
        inputs
            .filter_map(|input| place_of(INPUTS, Some(input)))
            .collect()
    }
}

impl Step {
    /// Every template of it.
    pub fn templates(&self) -> Vec<&Template> {
        let mut templates = vec![&self.path];
        templates.extend(&self.query);
        templates.extend(self.headers.iter().map(|(_, template)| template));
        match &self.content {
            Content::Nothing => {}
            Content::Json(json) => json.collect(&mut templates),
            Content::Form(pairs) => templates.extend(pairs.iter().map(|(_, template)| template)),
        }
        templates
    }
}

impl Json {
    fn collect<'a>(&'a self, templates: &mut Vec<&'a Template>) {
        match self {
            Self::Text(template) => templates.push(template),
            Self::List(list) => list.iter().for_each(|json| json.collect(templates)),
            Self::Object(pairs) => pairs.iter().for_each(|(_, json)| json.collect(templates)),
            Self::Integer(_) | Self::Float(_) | Self::Boolean(_) => {}
        }
    }
}

impl Template {
    /// Reads `text`, in which `{name}` is the value of that name; `names` are those that there are.
    ///
    /// # Errors
    /// [`TemplateError`], of which the first counts.
    pub fn parse(text: &str, names: &[&str]) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('{') {
                literal.push('{');
                rest = after;
                continue;
            }
            let (name, after) = after.split_once('}').ok_or(TemplateError::Unclosed)?;
            let value = names.iter().position(|known| *known == name);
            let value = value.ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Value {
                number: value,
                name: name.to_owned(),
            });
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self(pieces))
    }

    /// The text with `stand_in` for each value, to look at what is around them.
    pub fn with_stand_ins(&self, stand_in: &str) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Literal(text) => text.as_str(),
            Piece::Value { .. } => stand_in,
        });
        pieces.collect()
    }

    /// Which values it puts in, in turn.
    pub fn values(&self) -> impl Iterator<Item = usize> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Literal(_) => None,
            Piece::Value { number, .. } => Some(*number),
        })
    }

    /// The text with each value put in as `encode` writes it; the literals stay as they are.
    pub(crate) fn render<'v, T: AsRef<str>>(
        &self,
        values: &'v [SecretString],
        encode: impl Fn(&'v str) -> T,
    ) -> Zeroizing<String> {
        // All the room at once: a string that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(ROOM));
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Value { number, .. } => {
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "put where the operator wants it in the request"
                    )]
                    let value = values[*number].expose_secret();
                    text.push_str(encode(value).as_ref());
                }
            }
        }
        text
    }
}

/// With the names of its values, not as it was written: a brace is a brace.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Literal(text) => f.write_str(text),
            Piece::Value { name, .. } => write!(f, "{{{name}}}"),
        })
    }
}

/// The key of the configuration, to name what is wrong by.
pub(crate) const INPUTS: &str = "inputs";

/// For any value that is not absurd.
const ROOM: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str, values: &[&str]) -> Result<String, TemplateError> {
        let template = Template::parse(text, &["user", "key"])?;
        let values: Vec<SecretString> = values.iter().map(|&value| value.into()).collect();
        Ok(template
            .render(&values, |value| value.to_owned())
            .to_string())
    }

    #[test]
    fn values_are_put_in_by_name() {
        let cases = [
            ("", ""),
            ("plain", "plain"),
            ("{user}", "u"),
            ("{user}:{key}", "u:{user}"),
            ("a {user} b", "a u b"),
            ("{{user}", "{user}"),
            ("{{{user}}", "{u}"),
            ("}{{}", "}{}"),
        ];
        for (text, expected) in cases {
            assert_eq!(
                render(text, &["u", "{user}"]).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn a_template_is_shown_with_the_names_of_its_values() {
        let template = Template::parse("/a/{user}/{{{key}", &["user", "key"]).unwrap();
        assert_eq!(template.to_string(), "/a/{user}/{{key}");
    }

    #[test]
    fn what_is_no_template_is_told() {
        for text in ["{", "a {user", "{{{"] {
            assert_eq!(
                render(text, &["u", "k"]),
                Err(TemplateError::Unclosed),
                "{text}"
            );
        }
        for (text, name) in [
            ("{}", ""),
            ("{User}", "User"),
            ("{ user }", " user "),
            ("{a{user}", "a{user"),
        ] {
            let unknown = TemplateError::Unknown(name.to_owned());
            assert_eq!(render(text, &["u", "k"]), Err(unknown), "{text}");
        }
    }
}
