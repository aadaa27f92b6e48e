//! JSON as a reader without arbitrary precision sees it.
//!
//! With that feature of `serde_json`, which the node needs and cargo so gives to all of this build,
//! a number behind `#[serde(flatten)]` or in a tagged enum no longer reads as one. The types of the
//! crates have such places; their users do not have the feature.

use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

/// A value whose numbers are plain ones.
pub struct Plain(pub Value);

impl<'de> IntoDeserializer<'de, Error> for Plain {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Plain {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(bool) => visitor.visit_bool(bool),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap()),
            },
            Value::String(string) => visitor.visit_string(string),
            Value::Array(list) => visitor.visit_seq(SeqDeserializer::new(list.into_iter().map(Plain))),
            Value::Object(map) => visitor
                .visit_map(MapDeserializer::new(map.into_iter().map(|(name, value)| (name, Plain(value))))),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::String(variant) => {
                let variant: serde::de::value::StringDeserializer<Error> = variant.into_deserializer();
                variant.deserialize_enum(name, variants, visitor)
            }
            other => Plain(other).deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
