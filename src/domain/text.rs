//! Texts that people and other systems write.
//!
//! What is kept as its author wrote it is parsed into [`Line`] or [`Words`] and refused when it does not fit. What must
//! be kept although nobody chose it (WeChat's error texts, header values, fields of a signed callback) goes through
//! [`plain`]. PostgreSQL refuses NUL in `text` and `\u0000` in `jsonb`; a line break or an escape sequence changes what
//! a terminal, a log or a list shows; a bidirectional control makes a text read as another one.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ids::{CourseId, Malformed};

/// One line of 1 to `MAX` characters, trimmed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Line<const MAX: usize>(String);

/// A course's title, as customers read it.
pub type Title = Line<100>;
/// Why an operator does something, or what came of a case.
pub type Sentence = Line<500>;

/// A course without a title is called by its id, whose letters a title has too.
impl From<&CourseId> for Title {
    fn from(course: &CourseId) -> Self {
        Self(course.as_str().to_owned())
    }
}

/// Several lines of 1 to `MAX` characters together, trimmed. Lines end with `\n`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Words<const MAX: usize>(String);

/// What is known about a cause of dead letters, and why something was done to them.
pub type Note = Words<2_000>;

/// Why a text does not fit. Displayed, it completes a sentence that begins with the field's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("must have 1 to {0} characters")]
    Length(usize),
    #[error("must be one line of 1 to {0} characters, without control characters")]
    Control(usize),
    #[error("must have 1 to {0} characters, and no control characters but line breaks")]
    ControlInWords(usize),
}

impl<const MAX: usize> TryFrom<&str> for Line<MAX> {
    type Error = Unfit;

    fn try_from(text: &str) -> Result<Self, Unfit> {
        let text = text.trim();
        if text.chars().any(misleads) {
            return Err(Unfit::Control(MAX));
        }
        if is_blank(text) || text.chars().count() > MAX { Err(Unfit::Length(MAX)) } else { Ok(Self(text.to_owned())) }
    }
}

impl<const MAX: usize> TryFrom<&str> for Words<MAX> {
    type Error = Unfit;

    fn try_from(text: &str) -> Result<Self, Unfit> {
        let text = text.trim().replace("\r\n", "\n");
        if text.chars().any(|letter| misleads(letter) && letter != '\n' && letter != '\t') {
            return Err(Unfit::ControlInWords(MAX));
        }
        if is_blank(&text) || text.chars().count() > MAX { Err(Unfit::Length(MAX)) } else { Ok(Self(text)) }
    }
}

macro_rules! text_like {
    ($name:ident) => {
        impl<const MAX: usize> $name<MAX> {
            /// In characters.
            pub const MAX: usize = MAX;

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl<const MAX: usize> TryFrom<String> for $name<MAX> {
            type Error = Unfit;

            fn try_from(text: String) -> Result<Self, Unfit> {
                Self::try_from(text.as_str())
            }
        }
        impl<const MAX: usize> std::str::FromStr for $name<MAX> {
            type Err = Unfit;

            fn from_str(text: &str) -> Result<Self, Unfit> {
                Self::try_from(text)
            }
        }
        impl<const MAX: usize> From<$name<MAX>> for String {
            fn from(text: $name<MAX>) -> Self {
                text.0
            }
        }
        impl<const MAX: usize> fmt::Display for $name<MAX> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_like!(Line);
text_like!(Words);

/// WeChat Pay, refund request: `reason` has at most 80 bytes.
const REFUND_REASON_BYTES: usize = 80;

/// Why money goes back, as the customer reads it in WeChat: one line of 1 to 80 bytes of UTF-8, trimmed.
///
/// # Errors
/// The text does not fit.
pub fn refund_reason(text: &str) -> Result<String, Malformed> {
    let line = Line::<REFUND_REASON_BYTES>::try_from(text).ok().filter(|line| line.0.len() <= REFUND_REASON_BYTES);
    line.map(String::from).ok_or(Malformed("must be one line of 1 to 80 bytes, without control characters"))
}

/// Whether a character does something else to a reader than being read: control characters, line and paragraph
/// separators, bidirectional controls (U+202E and the like), and the code points that are no characters.
pub fn misleads(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}'
            | '\u{FDD0}'..='\u{FDEF}' | '\u{FFF9}'..='\u{FFFB}')
        || u32::from(letter) & 0xFFFE == 0xFFFE
}

/// Whether a text has nothing that can be seen.
fn is_blank(text: &str) -> bool {
    let unseen = |letter: char| {
        letter.is_whitespace()
            || misleads(letter)
            || matches!(letter,
                '\u{00AD}' | '\u{034F}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180E}'
                | '\u{200B}'..='\u{200D}' | '\u{2060}'..='\u{2064}' | '\u{2800}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}'
                | '\u{FFA0}' | '\u{E0000}'..='\u{E0FFF}')
    };
    text.chars().all(unseen)
}

/// Another's text in a form that can be stored, logged and printed: trimmed, one line, at most `longest` characters,
/// with U+FFFD (the replacement character) for what [`misleads`].
pub fn plain(text: &str, longest: usize) -> String {
    text.trim().chars().take(longest).map(|letter| if misleads(letter) { '\u{FFFD}' } else { letter }).collect()
}

/// The same for a page of our own that quotes others: line feeds stay.
pub fn escaped_page(page: &str) -> String {
    page.split('\n').map(escaped).collect::<Vec<_>>().join("\n")
}

/// The same for a JSON document: valid JSON of the same value, in which nothing misleads a terminal.
pub fn escaped_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for letter in json.chars() {
        if misleads(letter) {
            let mut units = [0; 2];
            shown.extend(letter.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// A text as a terminal may show it: what [`misleads`] is written as its escape (`\u{1b}`), everything else as it is.
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if misleads(letter) {
            shown.extend(letter.escape_unicode());
        } else {
            shown.push(letter);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// E2, E3: what PostgreSQL, a terminal or a reader cannot bear is no line.
    #[test]
    fn e3_a_line_is_one_line_that_can_be_read() {
        for text in [
            "",
            " ",
            "\u{3000}",
            "\u{200B}\u{200B}",
            "\u{3164}",
            "a\0b",
            "a\nb",
            "a\r\nb",
            "a\tb",
            "a\u{1b}[31mb",
            "a\u{85}b",
            "a\u{2028}b",
            "a\u{202E}b",
            "\u{2066}a",
            "a\u{FFFE}",
            "\u{200E}a",
        ] {
            assert!(Line::<100>::try_from(text).is_err(), "{text:?}");
        }
        for text in ["陶艺体验课", "  Töpfern für Anfänger ", "👩\u{200D}🎨 morning", "e\u{301}", "a"] {
            assert_eq!(Line::<100>::try_from(text).unwrap().as_str(), text.trim());
        }
    }

    /// E3: a limit counts characters, not bytes.
    #[test]
    fn e3_characters_are_counted() {
        let longest = "课".repeat(100);
        assert_eq!(Title::try_from(longest.as_str()).unwrap().as_str(), longest);
        assert_eq!(Title::try_from("课".repeat(101).as_str()), Err(Unfit::Length(100)));
        assert_eq!(Words::<3>::try_from("一\r\n二").unwrap().as_str(), "一\n二");
        assert!(Words::<10>::try_from("a\0").is_err());
    }

    #[test]
    fn a_strangers_text_becomes_one_plain_line() {
        assert_eq!(plain(" a\0b\u{1b}[0m\nc\u{202E} ", 100), "a\u{FFFD}b\u{FFFD}[0m\u{FFFD}c\u{FFFD}");
        assert_eq!(plain("余额不足", 2), "余额");
        assert_eq!(escaped("a\u{1b}[31m\nb\u{202E}课"), "a\\u{1b}[31m\\u{a}b\\u{202e}课");
        assert_eq!(escaped_page("a\n\u{9b}b\r\n"), "a\n\\u{9b}b\\u{d}\n");
        let value = serde_json::json!(["\u{7f}\u{202E}", "\u{1FFFE}", "课\n"]);
        let shown = escaped_json(&value.to_string());
        assert_eq!(shown, r#"["\u007f\u202e","\ud83f\udffe","课\n"]"#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    proptest! {
        #[test]
        fn e2_any_text_is_refused_or_bearable(text in any::<String>()) {
            if let Ok(line) = Line::<50>::try_from(text.as_str()) {
                prop_assert!((1..=50).contains(&line.as_str().chars().count()));
                prop_assert!(!line.as_str().chars().any(misleads));
                prop_assert_eq!(Line::<50>::try_from(line.as_str()), Ok(line.clone()));
            }
            prop_assert!(!plain(&text, 20).chars().any(misleads));
            prop_assert!(plain(&text, 20).chars().count() <= 20);
            prop_assert!(!escaped(&text).chars().any(misleads));
        }
    }
}
