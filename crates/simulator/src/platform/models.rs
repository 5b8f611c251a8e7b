//! The foundation models of this platform, and the text that they generate: always an echo of the prompt.

use serde_json::{Value, json};

use crate::sha256_hex;

/// A foundation model.
#[derive(Clone, Copy)]
pub(crate) struct Model {
    pub(crate) id: &'static str,
    provider: &'static str,
    functions: &'static [&'static str],
}

impl Model {
    pub(crate) fn find(id: &str) -> Option<Self> {
        MODELS.iter().copied().find(|model| model.id == id)
    }

    /// Its entry in `foundation_model_specs`.
    pub(crate) fn spec(self) -> Value {
        let functions: Vec<Value> = self
            .functions
            .iter()
            .map(|function| json!({ "id": function }))
            .collect();
        json!({
            "model_id": self.id,
            "label": self.id.rsplit('/').next(),
            "provider": self.provider,
            "source": self.provider,
            "functions": functions,
            "short_description": "A model that echoes its prompt.",
            "model_limits": { "max_sequence_length": 131_072, "max_output_tokens": 16_384 },
            "lifecycle": [{ "id": "available", "start_date": "2026-01-15" }],
        })
    }

    /// Whether it passes `filters`: terms joined by commas, of which `function_*` and `modelid_*` are looked at.
    pub(crate) fn passes(self, filters: &str) -> bool {
        let terms = filters.split(':').next().unwrap_or_default();
        terms.split(',').all(|term| {
            if let Some(function) = term.strip_prefix("function_") {
                self.functions.contains(&function)
            } else if let Some(id) = term.strip_prefix("modelid_") {
                self.id == id
            } else {
                true
            }
        })
    }
}

/// What every model generates.
pub(crate) fn echo(prompt: &str) -> String {
    format!("You said: {prompt}")
}

/// The text in pieces that join to the whole, a word and the space before it each.
pub(crate) fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut start = 0;
    for (at, _) in text.char_indices().filter(|(_, c)| *c == ' ') {
        if at > start {
            tokens.push(&text[start..at]);
            start = at;
        }
    }
    if start < text.len() {
        tokens.push(&text[start..]);
    }
    tokens
}

/// The token counts of one completion.
pub(crate) fn usage(prompt: &str, text: &str) -> Value {
    let prompt_tokens = tokens(prompt).len();
    let completion_tokens = tokens(text).len();
    json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    })
}

/// An id that depends on nothing but the prompt.
pub(crate) fn completion_id(prompt: &str) -> String {
    format!("chatcmpl-{}", &sha256_hex(prompt.as_bytes())[..32])
}

/// The text of the last message from the user; its content is a string or a list of parts.
pub(crate) fn last_user_message(messages: &Value) -> Option<String> {
    let message = messages
        .as_array()?
        .iter()
        .rev()
        .find(|message| message["role"] == "user")?;
    match &message["content"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(
            parts
                .iter()
                .filter_map(|part| part["text"].as_str())
                .collect(),
        ),
        _ => None,
    }
}

pub(crate) const MODELS: [Model; 4] = [
    Model {
        id: "ibm/granite-3-3-8b-instruct",
        provider: "IBM",
        functions: &["text_generation", "text_chat"],
    },
    Model {
        id: "ibm/slate-125m-english-rtrvr-v2",
        provider: "IBM",
        functions: &["embedding"],
    },
    Model {
        id: "meta-llama/llama-3-3-70b-instruct",
        provider: "Meta",
        functions: &["text_generation", "text_chat"],
    },
    Model {
        id: "mistralai/mistral-medium-2505",
        provider: "Mistral AI",
        functions: &["text_generation", "text_chat"],
    },
];

/// When every answer was made, so that equal requests have equal answers.
pub(crate) const CREATED: u64 = 1_768_464_000;
/// [`CREATED`], written out.
pub(crate) const CREATED_AT: &str = "2026-01-15T08:00:00.000Z";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_join_to_the_text() {
        assert_eq!(tokens("You said: hi"), ["You", " said:", " hi"]);
        for text in ["", " ", "a", "  two  spaces ", "grüße an alle\n"] {
            assert_eq!(tokens(text).concat(), text);
        }
    }

    #[test]
    fn filters_select_models() {
        let embedding = MODELS
            .iter()
            .filter(|model| model.passes("function_embedding:and"));
        assert_eq!(embedding.count(), 1);
        assert!(
            MODELS
                .iter()
                .all(|model| model.passes("!lifecycle_withdrawn"))
        );
    }

    #[test]
    fn a_message_is_text_or_parts() {
        let messages = json!([
            { "role": "system", "content": "be brief" },
            { "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] },
            { "role": "assistant", "content": "c" },
        ]);
        assert_eq!(last_user_message(&messages).as_deref(), Some("ab"));
        assert_eq!(last_user_message(&json!([])), None);
    }
}
