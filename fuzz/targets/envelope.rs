//! A delivery from the broker: properties and headers, and the message in the body.
//!
//! Input: `type`, `message_id` and headers, line by line; an empty line; the body.

use holdfast::{
    broker::envelope,
    domain::{json::has_nul, message::Message},
    spans::TraceParent,
};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{OPENID, assert_silent, lines, parts, with_person};

pub(crate) fn check(data: &[u8]) -> bool {
    let (head, body) = parts(data);
    let body = with_person(body);
    let mut properties = BasicProperties::default();
    let mut headers = FieldTable::default();
    for (name, value) in lines(head) {
        let (Ok(name), Ok(short)) = (ShortString::try_new(name), ShortString::try_new(value)) else {
            continue;
        };
        match name.as_str() {
            "type" => properties = properties.with_type(short),
            "message_id" => properties = properties.with_message_id(short),
            _ => drop(headers.insert(name, typed(value))),
        }
    }
    let kind = properties.kind().as_ref().map_or("", |kind| kind.as_str()).to_owned();
    match envelope::read(&properties.with_headers(headers), &body) {
        (marks, Ok(message)) => {
            assert!(marks.attempt >= 1);
            if let Some(trace) = &marks.trace {
                assert_eq!(TraceParent::parse(&trace.to_string()), Some(*trace));
            }
            assert_eq!(message.kind(), kind);
            assert!(!has_nul(&serde_json::from_slice(&message.body()).expect("JSON")), "PostgreSQL stores no NUL");
            assert!(message.money_fen().is_none_or(|fen| fen.is_amount()));
            assert_eq!(Message::read(&kind, &message.body()).expect("reads back"), message);
            true
        }
        (_, Err(unreadable)) => {
            assert_silent(&format!("{unreadable} {unreadable:?}"), &[OPENID]);
            false
        }
    }
}

/// A number as the smallest type that holds it, as clients of other languages send it; else a text.
fn typed(value: &str) -> AMQPValue {
    let Ok(number) = value.parse::<i64>() else {
        return AMQPValue::LongString(value.into());
    };
    (i8::try_from(number).map(AMQPValue::ShortShortInt))
        .or_else(|_| u8::try_from(number).map(AMQPValue::ShortShortUInt))
        .or_else(|_| i16::try_from(number).map(AMQPValue::ShortInt))
        .or_else(|_| u16::try_from(number).map(AMQPValue::ShortUInt))
        .or_else(|_| i32::try_from(number).map(AMQPValue::LongInt))
        .or_else(|_| u32::try_from(number).map(AMQPValue::LongUInt))
        .unwrap_or(AMQPValue::LongLongInt(number))
}
