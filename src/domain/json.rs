//! JSON that others wrote: read so that PostgreSQL can store every text of it, and reported without quoting it.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::text::{misleads, plain};

/// No text of WeChat's documents that is kept is longer, in characters; the longest known ones have some hundred.
const PLAIN_MAX: usize = 2_000;

/// Reads a message body. NUL, which PostgreSQL stores neither in `text` nor in `jsonb`, becomes U+FFFD in every text
/// and name.
///
/// # Errors
/// The bytes are no JSON of this shape.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    // JSON writes NUL only as this escape. An escaped backslash before it costs a needless second reading.
    const NUL: &[u8] = br"\u0000";
    if bytes.windows(NUL.len()).any(|window| window == NUL) {
        let mut value = serde_json::from_slice(bytes)?;
        each_text(&mut value, &|text| text.contains('\0').then(|| text.replace('\0', "\u{FFFD}")));
        serde_json::from_value(value)
    } else {
        serde_json::from_slice(bytes)
    }
}

/// Reads a document of WeChat's, signed or not: every text becomes one plain line (see [`plain`]), so that whatever is
/// kept of it can be stored, logged and shown.
///
/// # Errors
/// The bytes are no JSON of this shape.
pub fn read_plain<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    let mut value = serde_json::from_slice(bytes)?;
    each_text(&mut value, &|text| text.contains(misleads).then(|| plain(text, PLAIN_MAX)));
    serde_json::from_value(value)
}

/// Replaces texts and names, where `replaced` gives another one.
fn each_text(value: &mut Value, replaced: &impl Fn(&str) -> Option<String>) {
    match value {
        Value::String(text) => {
            if let Some(other) = replaced(text) {
                *text = other;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_text(item, replaced)),
        Value::Object(members) => {
            let renamed: Vec<(String, String)> =
                members.keys().filter_map(|name| Some((name.clone(), replaced(name)?))).collect();
            for (name, other) in renamed {
                if let Some(member) = members.remove(&name) {
                    members.insert(other, member);
                }
            }
            members.values_mut().for_each(|member| each_text(member, replaced));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether a text or a name anywhere in the value has a NUL.
pub fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(members) => members.iter().any(|(name, member)| name.contains('\0') || has_nul(member)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Says where JSON went wrong without quoting it: serde's own words repeat the value, which may be an openid.
pub fn json_fault(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Io => "unreadable",
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Data => "JSON of another shape",
        serde_json::error::Category::Eof => "cut short",
    };
    format!("{kind} at line {} column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// E2: no NUL of a message or of a signed document gets further than its reading.
    #[test]
    fn e2_nul_ends_where_json_is_read() {
        let body = br#"{"a\u0000b": ["x\u0000y", {"z": "\u0000"}], "n": 1, "keep": "\\u0000"}"#;
        let clean = json!({"a\u{FFFD}b": ["x\u{FFFD}y", {"z": "\u{FFFD}"}], "n": 1, "keep": "\\u0000"});
        assert!(has_nul(&serde_json::from_slice(body).unwrap()));
        assert_eq!(read::<Value>(body).unwrap(), clean);
        assert!(!has_nul(&clean));
        assert_eq!(read_plain::<Value>(body).unwrap(), clean);
    }

    #[test]
    fn a_document_of_wechats_is_read_as_plain_lines() {
        let body = json!({"bank": "招商\n银行\u{202E}", "list": ["a\tb"], "sum": 5}).to_string();
        let plain = json!({"bank": "招商\u{FFFD}银行\u{FFFD}", "list": ["a\u{FFFD}b"], "sum": 5});
        assert_eq!(read_plain::<Value>(body.as_bytes()).unwrap(), plain);
        // A message keeps its line breaks.
        assert_eq!(read::<Value>(body.as_bytes()).unwrap()["bank"], "招商\n银行\u{202E}");
    }
}
