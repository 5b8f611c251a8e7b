//! Patterns of `allow`, `deny` and `public`: `GET /ml/v1/*`.

use http::Method;
use toml::Spanned;

use super::clean_segments;
use crate::config::{
    Pattern,
    reading::{Reading, Wrong},
};

impl Pattern {
    /// Whether every request fits.
    pub(super) fn is_everything(&self) -> bool {
        self.methods.is_empty() && self.segments.is_empty() && self.rest
    }
}

/// The patterns that are right; `None` where one is wrong.
pub(super) fn patterns(reading: &Reading<'_>, texts: &[Spanned<String>]) -> Option<Vec<Pattern>> {
    let patterns: Vec<_> = texts
        .iter()
        .filter_map(|text| {
            parse_pattern(text.get_ref())
                .map_err(|wrong| reading.wrong(text.span(), wrong))
                .ok()
        })
        .collect();
    (patterns.len() == texts.len()).then_some(patterns)
}

/// Reads `[METHOD[,METHOD] ]PATH`, where the last segment may be `*`; `*` alone is everything.
pub(crate) fn parse_pattern(text: &str) -> Result<Pattern, Wrong> {
    if text == "*" {
        return Ok(Pattern {
            methods: Vec::new(),
            segments: Vec::new(),
            rest: true,
        });
    }
    let (methods, path) = match text.split_once(' ') {
        Some((methods, path)) => (
            methods.split(',').map(method).collect::<Result<_, _>>()?,
            path,
        ),
        None => (Vec::new(), text),
    };
    let (path, rest) = match path.strip_suffix("/*") {
        Some("") => ("/", true),
        Some(path) => (path, true),
        None => (path, false),
    };
    if path.contains('*') {
        return Err(Wrong::new(
            "`*` stands for the rest of a path, as its last segment",
            "\"GET /ml/v1/*\", \"/ml/*\", or \"*\" for everything",
        ));
    }
    let mut segments = clean_segments(path)?;
    if !rest && path.ends_with('/') {
        segments.push(String::new());
    }
    Ok(Pattern {
        methods,
        segments,
        rest,
    })
}

fn method(text: &str) -> Result<Method, Wrong> {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    known.into_iter().find(|method| method.as_str() == text).ok_or_else(|| {
        Wrong::new(
            "not a method",
            "GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS, in capitals, before the path: \"GET /v2/*\"",
        )
    })
}
