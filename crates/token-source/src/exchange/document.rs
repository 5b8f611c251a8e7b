//! The JSON object of an answer, read by dotted paths and wiped when nobody needs it any more.

use secrecy::zeroize::Zeroize as _;
use serde_json::Value;

/// No `Debug`: the answer of a token endpoint is all secret.
pub(super) struct Document(Value);

impl Document {
    /// `None` where it is no JSON object.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let document = Self(serde_json::from_slice(body).ok()?);
        document.0.is_object().then_some(document)
    }

    /// What is at a path such as `data.0.token`: names of objects, and numbers of lists, counted from 0.
    pub(super) fn at(&self, path: &str) -> Option<&Value> {
        path.split('.')
            .try_fold(&self.0, |value, name| match value {
                Value::Object(object) => object.get(name),
                Value::Array(list) => list.get(name.parse::<usize>().ok()?),
                _ => None,
            })
    }

    /// A text at a path that is not empty.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.at(path)?.as_str().filter(|text| !text.is_empty())
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(list) => list.iter_mut().for_each(wipe),
        Value::Object(object) => object.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_through_objects_and_lists() {
        let json = br#"{"a":{"b":"x","c":["y",{"d":"z"}]},"e":"","n":7}"#;
        let document = Document::parse(json).unwrap();
        for (path, expected) in [
            ("a.b", Some("x")),
            ("a.c.0", Some("y")),
            ("a.c.1.d", Some("z")),
            ("a.c.2", None),
            ("a.c.x", None),
            ("a.b.c", None),
            ("a", None),
            ("e", None),
            ("n", None),
            ("", None),
        ] {
            assert_eq!(document.text(path), expected, "{path}");
        }
        for other in [&b""[..], b"[]", b"\"a\"", b"{"] {
            assert!(Document::parse(other).is_none());
        }
    }

    #[test]
    fn all_texts_are_wiped() {
        let mut value = serde_json::json!({ "a": "s", "b": [{ "c": "s" }, "s"], "d": 1 });
        wipe(&mut value);
        assert_eq!(
            value,
            serde_json::json!({ "a": "", "b": [{ "c": "" }, ""], "d": 1 })
        );
    }
}
