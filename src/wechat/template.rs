//! Values of a template message, brought to the rule of their key.
//!
//! The letters before a key's number (`thing4`, `amount2`) decide what its value may be; a value that breaks the
//! rule refuses the whole message (47003). So each is cut or cleaned here on its way out, and a long course name
//! costs some characters instead of the message.

use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

use crate::domain::{calendar::in_china, text::misleads};

const CHINA_TIME: &[FormatItem<'_>] =
    format_description!("[year]年[month padding:none]月[day padding:none]日 [hour]:[minute]");

/// A moment for a `time` or `date` key: `2025年11月25日 09:30`, China time.
pub fn time_value(at: OffsetDateTime) -> String {
    in_china(at).format(CHINA_TIME).expect("the format has only parts that every date has")
}

/// Money for an `amount` key: `200.00元`.
pub fn amount_value(fen: u64) -> String {
    format!("{}.{:02}元", fen / 100, fen % 100)
}

/// The value as WeChat will take it under this key. Text that would be left empty reads 无 ("none").
pub fn fit(key: &str, value: &str) -> String {
    let value: String = value.chars().map(|c| if misleads(c) { ' ' } else { c }).collect();
    let value = value.trim();
    match key.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "thing" => or_none(cut(value, 20)),
        "short_thing" => or_none(cut(value, 5)),
        // Ten characters of Chinese, or twenty Latin ones.
        "name" if value.is_ascii() => or_none(cut(value, 20)),
        "name" => or_none(cut(value, 10)),
        "phrase" => or_none(keep(value, 5, |c| ('\u{4e00}'..='\u{9fff}').contains(&c))),
        "number" => decimal(value, 32),
        "amount" => amount(value),
        "letter" => keep(value, 32, |c| c.is_ascii_alphabetic()),
        "symbol" => keep(value, 5, |c| !c.is_alphanumeric() && !c.is_whitespace()),
        "character_string" => keep(value, 32, |c| c.is_ascii_graphic()),
        "phone_number" => keep(value, 17, |c| c.is_ascii_digit() || "+-()".contains(c)),
        "car_number" => keep(value, 8, char::is_alphanumeric),
        // `time`, `date` and `const` cannot be mended by cutting, and keys of older templates have no rule.
        _ => value.to_owned(),
    }
}

/// Cut to `max` characters, with a mark where something was lost.
fn cut(value: &str, max: usize) -> String {
    if value.chars().count() <= max {
        return value.to_owned();
    }
    let kept: String = value.chars().take(max.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

fn keep(value: &str, max: usize, allowed: impl Fn(char) -> bool) -> String {
    value.chars().filter(|c| allowed(*c)).take(max).collect()
}

fn or_none(value: String) -> String {
    if value.is_empty() { "无".to_owned() } else { value }
}

/// Digits with at most one point between them.
fn decimal(value: &str, max: usize) -> String {
    let mut pointed = false;
    let digits = keep(value, usize::MAX, |c| c.is_ascii_digit() || c == '.');
    let digits: String = digits
        .trim_start_matches('.')
        .chars()
        .filter(|c| *c != '.' || !std::mem::replace(&mut pointed, true))
        .take(max)
        .collect();
    digits.trim_end_matches('.').to_owned()
}

/// One currency sign, ten digits with decimals, 元.
fn amount(value: &str) -> String {
    let sign = value.chars().next().filter(|c| "¥￥$€£".contains(*c));
    let unit = if value.ends_with('元') { "元" } else { "" };
    // Ten digits and their point.
    let digits = decimal(value, 11);
    let digits = if digits.contains('.') { digits.as_str() } else { digits.get(..10).unwrap_or(&digits) };
    format!("{}{digits}{unit}", sign.map_or_else(String::new, String::from))
}
