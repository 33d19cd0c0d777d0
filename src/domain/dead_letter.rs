//! A dead letter, as people look at it: what failed alike, what may be shown, and how it may be mended.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{hex::hex, ids::OrderId, message::Message};

/// What is shown in place of an openid.
const MASKED: &str = "…";
/// Longest body that is shown whole, in characters; ours are far shorter.
const LONGEST_SHOWN: usize = 16_000;

/// Where a letter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LetterState {
    /// In its dead-letter queue.
    Parked,
    /// Published to its work queue again.
    Replayed,
    /// Put away by an operator; it can be restored.
    Discarded,
    /// Taken out of its queue by other means than ours.
    Gone,
}

impl LetterState {
    pub const ALL: [Self; 4] = [Self::Parked, Self::Replayed, Self::Discarded, Self::Gone];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
            Self::Gone => "gone",
        }
    }
}

/// How far a replay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// The set is frozen; nothing was published.
    Planned,
    Running,
    Paused,
    Cancelled,
    Finished,
}

impl ReplayState {
    pub const ALL: [Self; 5] = [Self::Planned, Self::Running, Self::Paused, Self::Cancelled, Self::Finished];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Finished => "finished",
        }
    }
}

/// What became of one letter of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayResult {
    Pending,
    /// With the broker; what came of it is not known yet.
    Published,
    /// The books say that nothing of it is left to be done.
    Done,
    ParkedAgain,
    /// Not published; the detail says why.
    Skipped,
}

impl ReplayResult {
    pub const ALL: [Self; 5] = [Self::Pending, Self::Published, Self::Done, Self::ParkedAgain, Self::Skipped];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Published => "published",
            Self::Done => "done",
            Self::ParkedAgain => "parked_again",
            Self::Skipped => "skipped",
        }
    }
}

/// The body as people may see it: openids masked, whatever cannot be read as text replaced.
pub fn shown(body: &[u8]) -> String {
    match serde_json::from_slice::<Value>(body) {
        Ok(mut value) => {
            mask(&mut value);
            value.to_string()
        }
        Err(_) => {
            let text: String = String::from_utf8_lossy(body).chars().take(LONGEST_SHOWN).collect();
            // PostgreSQL's texts hold no NUL.
            mask_text(&text.replace('\0', "\u{fffd}"))
        }
    }
}

fn is_personal(name: &str) -> bool {
    name.contains("openid")
}

fn mask(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if is_personal(name) && !member.is_null() {
                    *member = MASKED.into();
                } else {
                    mask(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// For a body that is no JSON, as one that was cut off: what stands in quotes after `openid":` is masked.
fn mask_text(text: &str) -> String {
    let mut parts = text.split("openid");
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked.push_str("openid");
        // `":"value"…`: between the third quote and the fourth.
        let quotes: Vec<usize> = part.match_indices('"').map(|(at, _)| at).take(3).collect();
        match quotes[..] {
            [.., opening] if quotes.len() >= 2 => {
                let (opening, closing) = if quotes.len() == 3 { (quotes[1], opening) } else { (opening, part.len()) };
                masked.push_str(&part[..=opening]);
                masked.push_str(MASKED);
                masked.push_str(&part[closing..]);
            }
            _ => masked.push_str(MASKED),
        }
    }
    masked
}

/// The order that a letter is about. Of an unreadable one its words may still tell.
pub fn order_of(kind: &str, shown: &str, message_id: Option<&str>) -> Option<OrderId> {
    if let Ok(message) = Message::read(kind, shown.as_bytes()) {
        return message.order_id();
    }
    let body: Option<Value> = serde_json::from_str(shown).ok();
    let named = body.as_ref().and_then(|body| {
        let names = [&body["order_id"], &body["payment"]["out_trade_no"], &body["facts"]["out_trade_no"]];
        names.into_iter().find_map(Value::as_str).map(str::to_owned)
    });
    let named = named.or_else(|| message_id?.split_once('/').map(|(order, _)| order.to_owned()))?;
    OrderId::try_from(named).ok()
}

/// What letters that failed alike have in common: the error without what differs from one to the next.
pub fn pattern(error: &str) -> String {
    let is_name = |word: &str| word.bytes().any(|byte| byte.is_ascii_digit());
    let words = error.split_whitespace().map(|word| if is_name(word) { "#" } else { word });
    let words: Vec<&str> = words.collect();
    words.join(" ").chars().take(200).collect()
}

/// The name of a cause: 12 hex digits.
pub fn cause(queue: &str, kind: &str, class: &str, error: &str) -> String {
    let mut hash = Sha256::new();
    for part in [queue, kind, class, &pattern(error)] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize()[..6])
}

/// Why a patch cannot be applied to a letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unpatchable {
    #[error("an openid is not changed by hand")]
    Personal,
    #[error(
        "{0} is an amount, a name or WeChat's own word, which no patch changes: decide about the order by an override"
    )]
    Guarded(String),
    #[error("{0}")]
    Schema(String),
    #[error("its business key would be {0}: that is another message")]
    Key(String),
}

/// Applies a JSON merge patch (RFC 7396). The result must be a message of the same kind with the same business key.
///
/// # Errors
/// See [`Unpatchable`].
pub fn mend(kind: &str, body: &[u8], message_id: Option<&str>, patch: &Value) -> Result<Vec<u8>, Unpatchable> {
    if names_personal(patch) {
        return Err(Unpatchable::Personal);
    }
    // What is no JSON has nothing to keep.
    let mut value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let before = value.clone();
    merge(&mut value, patch);
    let was_readable = Message::read(kind, body).is_ok();
    if let Some(path) = guarded_change(&before, &value, was_readable) {
        return Err(Unpatchable::Guarded(path));
    }
    let mended = value.to_string().into_bytes();
    let message = Message::read(kind, &mended).map_err(|unreadable| Unpatchable::Schema(unreadable.to_string()))?;
    let key_before = Message::read(kind, body).map(|message| message.key()).ok();
    let key = message.key();
    if key_before.as_deref().or(message_id) == Some(&key) { Ok(mended) } else { Err(Unpatchable::Key(key)) }
}

/// Members that say how much money moves, by whose will, and whose it is. What another one says of money is WeChat's
/// signed word: `payment` and `facts` as a whole.
const GUARDED: [&str; 12] = [
    "amount_fen",
    "payment",
    "facts",
    "source",
    "user_id",
    "operator",
    "requested_by",
    "requested_at",
    "receipt",
    "paid_at",
    "submitted_at",
    "override_id",
];

/// The first guarded member that differs, as a JSON pointer. In a letter that cannot be read one that is missing or empty
/// may be filled in.
fn guarded_change(before: &Value, after: &Value, was_readable: bool) -> Option<String> {
    GUARDED.into_iter().find_map(|name| {
        let (before, after) = (&before[name], &after[name]);
        let is_filled_in = !was_readable && (before.is_null() || before.as_str() == Some(""));
        (before != after && !is_filled_in).then(|| format!("/{name}"))
    })
}

fn names_personal(patch: &Value) -> bool {
    match patch {
        Value::Object(members) => members.iter().any(|(name, member)| is_personal(name) || names_personal(member)),
        Value::Array(items) => items.iter().any(names_personal),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(members) = target {
        for (name, change) in changes {
            if change.is_null() {
                members.remove(name);
            } else {
                merge(members.entry(name.clone()).or_insert(Value::Null), change);
            }
        }
    }
}

/// One member that a patch changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Difference {
    /// Its place in the body, as a JSON pointer (RFC 6901).
    #[schema(example = "/payment/currency")]
    pub path: String,
    /// Null when it was not there.
    pub before: Value,
    /// Null when it is taken away.
    pub after: Value,
}

/// What is different between two bodies as they are shown, member by member.
pub fn differences(before: &str, after: &str) -> Vec<Difference> {
    let read = |text| serde_json::from_str(text).unwrap_or_else(|_| Value::String(String::from(text)));
    let mut found = Vec::new();
    compare(String::new(), &read(before), &read(after), &mut found);
    found
}

fn compare(path: String, before: &Value, after: &Value, found: &mut Vec<Difference>) {
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let place = format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
                compare(place, one.get(name).unwrap_or(&Value::Null), other.get(name).unwrap_or(&Value::Null), found);
            }
        }
        (one, other) if one == other => {}
        (one, other) => found.push(Difference { path, before: one.clone(), after: other.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn p4_no_openid_is_shown_whole_or_cut_off() {
        let body = json!({ "openid": "o-secret", "payment": { "payer_openid": "o-secret", "total_fen": 1 }, "a": [{ "openid": "o-secret" }] });
        let whole = shown(body.to_string().as_bytes());
        assert!(!whole.contains("o-secret") && whole.contains("total_fen"), "{whole}");
        for cut in [
            r#"{"a":1,"openid":"o-secret","b"#,
            r#"{"a":1,"openid":"o-secret"#,
            r#"{"openid" : "o-secret", "payer_openid":"o-secret"#,
        ] {
            let text = shown(cut.as_bytes());
            assert!(!text.contains("o-secret"), "{text}");
        }
        assert!(shown(br#"{"a":1,"openid":"o-secret","b"#).ends_with(r#"","b"#));
    }

    #[test]
    fn errors_that_differ_in_their_numbers_have_one_cause() {
        let cause = |error| cause("prepay.dead", "order.held", "wechat_refused", error);
        assert_eq!(cause("hf0001 is refused, request 7a"), cause("hf0002 is refused, request 8b"));
        assert_ne!(cause("hf0001 is refused"), cause("hf0001 is closed"));
    }

    #[test]
    fn p4_a_patch_mends_the_body_and_keeps_the_business_key() {
        let broken = br#"{"order_id":"hf00000001","kind":"refundd","extra":{"a":1}}"#;
        let id = Some("hf00000001/notify/refunded");
        let mended =
            mend("notification.due", broken, id, &json!({ "kind": "refunded", "extra": { "a": null } })).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&mended).unwrap(),
            json!({ "order_id": "hf00000001", "kind": "refunded", "extra": {} })
        );
        let other = mend("notification.due", broken, id, &json!({ "kind": "refunded", "order_id": "hf00000002" }));
        assert_eq!(other, Err(Unpatchable::Key("hf00000002/notify/refunded".into())));
        assert!(matches!(mend("notification.due", broken, id, &json!({})), Err(Unpatchable::Schema(_))));
        assert_eq!(mend("notification.due", broken, id, &json!({ "openid": "o" })), Err(Unpatchable::Personal));
    }

    /// B7: no patch changes how much money moves, or by whose will.
    #[test]
    fn b7_amounts_and_names_are_not_patched() {
        let refund = json!({
            "refund_id": "hf00000001-k", "order_id": "hf00000001", "amount_fen": 100, "reason": "r",
            "requested_by": "user:ann", "request_id": "q",
        });
        let body = refund.to_string();
        for patch in [
            json!({ "amount_fen": 20_000 }),
            json!({ "amount_fen": null }),
            json!({ "requested_by": "operator:olga" }),
            json!({ "reason": "x", "requested_by": null }),
        ] {
            let mended = mend("refund.requested", body.as_bytes(), None, &patch);
            assert!(matches!(mended, Err(Unpatchable::Guarded(_))), "{patch}: {mended:?}");
        }
        assert!(mend("refund.requested", body.as_bytes(), None, &json!({ "reason": "x" })).is_ok());
        let seen = json!({ "payment": { "total_fen": 1 }, "source": { "by": "query" }, "request_id": "" }).to_string();
        let mended = mend("payment.seen", seen.as_bytes(), None, &json!({ "payment": { "total_fen": 2 } }));
        assert_eq!(mended, Err(Unpatchable::Guarded("/payment".into())));
    }

    #[test]
    fn a_difference_names_its_place() {
        let found = differences(r#"{"a":{"b":1,"c":2}}"#, r#"{"a":{"b":3,"d/e":4}}"#);
        let paths: Vec<&str> = found.iter().map(|difference| difference.path.as_str()).collect();
        assert_eq!(paths, ["/a/b", "/a/c", "/a/d~1e"]);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_shown(body in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(!shown(&body).contains('\0'));
        }

        #[test]
        fn any_text_after_openid_is_answered(text in ".{0,60}") {
            let _ = mask_text(&format!("\"openid{text}"));
        }
    }
}
