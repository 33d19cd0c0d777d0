//! Reads what callers send, field by field, so that they learn everything that is wrong at once.

use std::borrow::Cow;

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use futures_util::StreamExt as _;
use serde_json::{Map, Value, map::Entry};

use super::problem::{FieldError, Kind, Problem};
use crate::domain::{
    calendar::Moment,
    ids::{CourseId, Malformed},
    json::has_nul,
    money::Fen,
    text::{Line, Note, Sentence},
};

/// What is read and thrown away of a body that is too large: whoever closes while the other still sends breaks
/// the connection, and an honest caller would never see the answer.
const DRAINED_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The bytes of a body of at most `limit`, with more refused as `too-large`.
pub(super) async fn bytes(headers: &HeaderMap, body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    let too_large = || Problem::new(Kind::TooLarge).detail(format!("The body may have at most {limit} bytes."));
    // Who asks before sending need not send.
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if headers.contains_key(header::EXPECT) && announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut whole = Vec::new();
    let mut seen = 0usize;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::new(Kind::Unreadable).detail("The body did not arrive whole."))?;
        seen = seen.saturating_add(chunk.len());
        if seen <= limit {
            whole.extend_from_slice(&chunk);
        } else if seen > DRAINED_BYTES_MAX {
            break;
        }
    }
    if seen <= limit { Ok(whole) } else { Err(too_large()) }
}

/// The members of a JSON object body.
pub(super) async fn json_object(headers: &HeaderMap, body: Body, limit: usize) -> Result<Fields, Problem> {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase());
    if media_type.as_deref() != Some("application/json") {
        return Err(Problem::new(Kind::UnsupportedMediaType));
    }
    let bytes = bytes(headers, body, limit).await?;
    let value = serde_json::from_slice(&bytes).map_err(|error| {
        // Where, but not what: serde's own words may quote the body.
        let place = format!("line {} column {}", error.line(), error.column());
        Problem::new(Kind::Unreadable).detail(format!("The body is not JSON: see {place}."))
    })?;
    match value {
        Value::Object(members) => Ok(Fields::new(members)),
        _ => Err(Problem::invalid(vec![FieldError { field: String::new(), problem: "must be a JSON object".into() }])),
    }
}

/// Members still to be read, and what was wrong with those read so far.
pub(super) struct Fields {
    members: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Fields {
    pub(super) fn new(members: Map<String, Value>) -> Self {
        Self { members, errors: Vec::new() }
    }

    /// The parameters of a query string; one that is there twice says two things, and is wrong.
    pub(super) fn of_query(parameters: Vec<(String, String)>) -> Self {
        let mut fields = Self::new(Map::new());
        for (name, value) in parameters {
            match fields.members.entry(name) {
                Entry::Vacant(place) => drop(place.insert(Value::String(value))),
                Entry::Occupied(earlier) => {
                    let name = earlier.key().clone();
                    fields.wrong(&name, "is given twice");
                }
            }
        }
        fields
    }

    /// A member that must be there.
    pub(super) fn required<T, E: ToString>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Value) -> Result<T, E>,
    ) -> Option<T> {
        if self.members.get(name).is_none_or(Value::is_null) {
            self.members.remove(name);
            self.wrong(name, "is missing");
            return None;
        }
        self.optional(name, read)
    }

    /// A member that may be absent or null.
    pub(super) fn optional<T, E: ToString>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Value) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.members.remove(name).filter(|value| !value.is_null())?;
        // PostgreSQL stores no NUL, in `text` or in `jsonb`.
        if has_nul(&value) {
            self.wrong(name, "must not contain NUL");
            return None;
        }
        read(&value).map_err(|problem| self.wrong(name, &problem.to_string())).ok()
    }

    /// A member that somebody else is to read as well.
    pub(super) fn put_back(&mut self, name: &str, value: Value) {
        self.members.insert(name.to_owned(), value);
    }

    pub(super) fn wrong(&mut self, name: &str, problem: &str) {
        self.errors.push(FieldError { field: name.chars().take(64).collect(), problem: problem.to_owned() });
    }

    /// Everything was read: refuses when anything was wrong or is left over.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        // A caller with a thousand unknown members need not hear about each.
        let unknown: Vec<String> = self.members.keys().take(20).cloned().collect();
        for name in unknown {
            self.wrong(&name, "is unknown");
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }
}

pub(super) fn text(value: &Value) -> Result<&str, &'static str> {
    value.as_str().ok_or("must be a string")
}

/// A time with any offset.
pub(super) fn moment(value: &Value) -> Result<Moment, Malformed> {
    Moment::parse(text(value).map_err(Malformed)?)
}

pub(super) fn course_id(value: &Value) -> Result<CourseId, Malformed> {
    CourseId::try_from(text(value).map_err(Malformed)?)
}

/// An amount that a person names.
pub(super) fn amount_fen(value: &Value) -> Result<Fen, Malformed> {
    Fen::amount(number(value))
}

/// One line of at most `MAX` characters.
pub(super) fn line<const MAX: usize>(value: &Value) -> Result<String, Cow<'static, str>> {
    let line = Line::<MAX>::try_from(text(value)?);
    line.map(String::from).map_err(|unfit| unfit.to_string().into())
}

/// A sentence or two that a person wrote for others: one line of 1 to 500 characters.
pub(super) fn sentence(value: &Value) -> Result<String, Cow<'static, str>> {
    line::<{ Sentence::MAX }>(value)
}

/// Lines that a person wrote for others: 1 to 2 000 characters.
pub(super) fn note(value: &Value) -> Result<String, Cow<'static, str>> {
    let note = Note::try_from(text(value)?);
    note.map(String::from).map_err(|unfit| unfit.to_string().into())
}

/// A whole number; one that 64 bits do not hold, or a fraction, is out of every range.
pub(super) fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(i64::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: Value) -> Fields {
        match json {
            Value::Object(members) => Fields::new(members),
            _ => unreachable!("the tests give objects"),
        }
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let mut fields = fields(serde_json::json!({"a": 1, "b": "x", "c": null, "extra": [], "more": {}}));
        assert_eq!(fields.required("a", |value| text(value).map(String::from)), None);
        assert_eq!(fields.required("b", |value| text(value).map(String::from)), Some("x".into()));
        assert_eq!(fields.required("c", |value| text(value).map(String::from)), None);
        assert_eq!(fields.optional("d", |value| text(value).map(String::from)), None);
        let problem = fields.finish().unwrap_err();
        let document = problem.document(super::super::language::Language::English, "r");
        assert_eq!(
            serde_json::to_value(document).unwrap()["errors"],
            serde_json::json!([
                {"field": "a", "problem": "must be a string"},
                {"field": "c", "problem": "is missing"},
                {"field": "extra", "problem": "is unknown"},
                {"field": "more", "problem": "is unknown"},
            ])
        );
    }
}
