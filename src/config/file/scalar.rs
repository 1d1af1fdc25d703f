//! The building blocks of the mirror: values with their places, maps in the order of the file, scalars as written.
//!
//! A scalar with a unit or a word such as `off` is kept as text: what it means is said in `units`, so that all values
//! that mean nothing are listed at once. Never an opinion about a value.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor, value};
use serde_yaml::Spanned;

use crate::config::diagnostic::Place;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(in crate::config) struct At<T> {
    pub(in crate::config) value: T,
    pub(in crate::config) place: Place,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        Ok(Self {
            value: spanned.value,
            place: Place::from(&spanned.referenced),
        })
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A number, a word, or a number with a unit, as written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub(in crate::config) struct Scalar(pub(in crate::config) String);

impl JsonSchema for Scalar {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

/// A map in the order of the file.
#[derive(Debug)]
pub(in crate::config) struct Named<T>(pub(in crate::config) Vec<(At<String>, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

struct NamedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
    type Value = Named<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Named(entries))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Named_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    }
}

/// One value, or a list of them.
#[derive(Debug, Default)]
pub(in crate::config) struct OneOrMany(pub(in crate::config) Vec<At<String>>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Result<String, Vec<At<String>>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or a list of values")
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Ok(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Err(values))
            }
        }
        struct AnyForm(Result<String, Vec<At<String>>>);
        impl<'de> Deserialize<'de> for AnyForm {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Form).map(Self)
            }
        }
        let At {
            value: AnyForm(form),
            place,
        } = At::deserialize(deserializer)?;
        Ok(Self(form.map_or_else(
            |list| list,
            |value| vec![At { value, place }],
        )))
    }
}

impl JsonSchema for OneOrMany {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "OneOrMany".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" } },
        ] })
    }
}

/// A secret: where it is found, never itself.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Secret {
    /// In this variable of the environment.
    Env(String),
    /// In this file, without its last line break; a relative path begins at the configuration's own directory.
    File(String),
}

/// One secret, or a list of them.
#[derive(Debug)]
pub(in crate::config) struct SecretList(pub(in crate::config) Vec<At<Secret>>);

impl<'de> Deserialize<'de> for SecretList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// One has the place of the whole value, which is known around it only.
        enum Form {
            One(Secret),
            Many(Vec<At<Secret>>),
        }
        struct FormVisitor;
        impl<'de> Visitor<'de> for FormVisitor {
            type Value = Form;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`{ env: NAME }`, `{ file: PATH }`, or a list of these")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Form, A::Error> {
                from_map(map).map(Form::One)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Form, A::Error> {
                let mut secrets = Vec::new();
                while let Some(secret) = list.next_element()? {
                    secrets.push(secret);
                }
                Ok(Form::Many(secrets))
            }
        }
        impl<'de> Deserialize<'de> for Form {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(FormVisitor)
            }
        }
        let At { value, place } = At::deserialize(deserializer)?;
        Ok(Self(match value {
            Form::One(value) => vec![At { value, place }],
            Form::Many(list) => list,
        }))
    }
}

impl JsonSchema for SecretList {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "SecretList".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let secret = generator.subschema_for::<Secret>();
        json_schema!({ "anyOf": [secret, { "type": "array", "items": secret, "minItems": 1 }] })
    }
}

/// A key that may be left away, but not left empty: what is behind it is too important to be forgotten.
pub(super) fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// What a map says, when a value may also be a scalar.
pub(super) fn from_map<'de, T: Deserialize<'de>, A: MapAccess<'de>>(map: A) -> Result<T, A::Error> {
    T::deserialize(value::MapAccessDeserializer::new(map))
}

/// What can be switched off by a word, or described by a map.
#[derive(Debug)]
pub(in crate::config) enum OffOr<T> {
    /// A word, which should be `off`.
    Word(At<Scalar>),
    /// The map.
    Map(T),
}

/// What the map of an [`OffOr`] holds, for whoever wrote something else.
pub(super) trait Form {
    const EXPECTED: &str;
}

enum WordOrMap<T> {
    Word(String),
    Map(T),
}

impl<'de, T: Form + Deserialize<'de>> Deserialize<'de> for WordOrMap<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrMapVisitor<T>(PhantomData<T>);
        impl<'de, T: Form + Deserialize<'de>> Visitor<'de> for WordOrMapVisitor<T> {
            type Value = WordOrMap<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }
            fn visit_bool<E>(self, word: bool) -> Result<Self::Value, E> {
                Ok(WordOrMap::Word(if word { "on" } else { "off" }.to_owned()))
            }
            fn visit_str<E>(self, word: &str) -> Result<Self::Value, E> {
                Ok(WordOrMap::Word(word.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                from_map(map).map(WordOrMap::Map)
            }
        }
        deserializer.deserialize_any(WordOrMapVisitor(PhantomData))
    }
}

impl<'de, T: Form + Deserialize<'de>> Deserialize<'de> for OffOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let At { value, place } = At::deserialize(deserializer)?;
        Ok(match value {
            WordOrMap::Word(word) => Self::Word(At {
                value: Scalar(word),
                place,
            }),
            WordOrMap::Map(map) => Self::Map(map),
        })
    }
}

impl<T: JsonSchema> JsonSchema for OffOr<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("OffOr_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [map, { "enum": ["off", false] }] })
    }
}

/// A number of places, or the rule by which it is found.
#[derive(Debug)]
pub(in crate::config) enum NumberOr<T> {
    /// So many.
    Number(Scalar),
    /// As many as a rule says.
    Map(Box<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NumberOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for NumberVisitor<T> {
            type Value = NumberOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of places")
            }
            fn visit_u64<E>(self, number: u64) -> Result<NumberOr<T>, E> {
                Ok(NumberOr::Number(Scalar(number.to_string())))
            }
            fn visit_i64<E>(self, number: i64) -> Result<NumberOr<T>, E> {
                Ok(NumberOr::Number(Scalar(number.to_string())))
            }
            fn visit_f64<E>(self, number: f64) -> Result<NumberOr<T>, E> {
                Ok(NumberOr::Number(Scalar(number.to_string())))
            }
            fn visit_bool<E>(self, word: bool) -> Result<NumberOr<T>, E> {
                Ok(NumberOr::Number(Scalar(
                    if word { "on" } else { "off" }.to_owned(),
                )))
            }
            fn visit_str<E>(self, text: &str) -> Result<NumberOr<T>, E> {
                Ok(NumberOr::Number(Scalar(text.to_owned())))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NumberOr<T>, A::Error> {
                from_map(map).map(|rule| NumberOr::Map(Box::new(rule)))
            }
        }
        deserializer.deserialize_any(NumberVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for NumberOr<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("NumberOr_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 0, "maximum": 1_000_000_000 }, map] })
    }
}
