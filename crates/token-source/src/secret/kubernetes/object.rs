//! A Secret as the API sends it, of which only name and values are kept; they are wiped when dropped and never shown.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kube::{
    Resource,
    core::{NamespaceResourceScope, ObjectMeta},
};
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Deserializer, de};

/// One Secret.
#[derive(Clone, Deserialize)]
pub(super) struct Object {
    #[serde(rename = "metadata")]
    names: Names,
    #[serde(default)]
    data: Option<Content>,
    /// Not read: in its annotations, `kubectl apply` leaves the values a second time.
    #[serde(skip)]
    metadata: ObjectMeta,
}

#[derive(Clone, Deserialize)]
struct Names {
    #[serde(default)]
    name: String,
}

/// The values of a Secret.
#[derive(Clone, Default, PartialEq, Deserialize)]
pub(super) struct Content(BTreeMap<String, Value>);

#[derive(Clone, PartialEq)]
struct Value(Zeroizing<Vec<u8>>);

impl Object {
    /// Its values, if it is the one of that name.
    pub(super) fn content_of(self, name: &str) -> Option<Content> {
        (self.names.name == name).then(|| self.data.unwrap_or_default())
    }
}

impl Content {
    pub(super) fn value(&self, key: &str) -> Option<&Zeroizing<Vec<u8>>> {
        self.0.get(key).map(|Value(value)| value)
    }
}

/// The client asks for it; nothing is shown.
impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").finish_non_exhaustive()
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Base64;

        impl de::Visitor<'_> for Base64 {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                // Room for all from the start: a vector that grows leaves copies behind.
                let mut value = Zeroizing::new(Vec::with_capacity(text.len()));
                match BASE64_STANDARD.decode_vec(text, &mut value) {
                    Ok(()) => Ok(Value(value)),
                    Err(_) => Err(E::custom("not base64")),
                }
            }
        }

        deserializer.deserialize_str(Base64)
    }
}

impl Resource for Object {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Secret".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "secrets".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
