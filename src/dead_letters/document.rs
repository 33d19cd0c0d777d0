//! The documents that the API, the console and the command line share.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::{
    dead_letter::{Difference, LetterState, ReplayResult, ReplayState},
    document::OrderDocument,
    ids::OrderId,
    money::Fen,
    prospect::Prospect,
};

/// A dead letter.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LetterDocument {
    /// Digest of the message: the same letter has the same id, whoever reads it.
    #[schema(example = "0b6f1c2d9e8a7b6c5d4e3f2a1b0c9d8e")]
    pub letter_id: String,
    pub state: LetterState,
    /// The dead-letter queue.
    #[schema(example = "prepay.dead")]
    pub queue: String,
    /// The work queue that a replay publishes it to; null when nobody can tell.
    #[schema(example = "prepay")]
    pub work_queue: Option<String>,
    /// The AMQP `type`.
    #[schema(example = "order.held")]
    pub kind: String,
    /// The business key.
    #[schema(example = "hf2m6qk0c9v1x8y4zt3w7p5rab/held")]
    pub message_id: Option<String>,
    #[schema(example = "hf2m6qk0c9v1x8y4zt3w7p5rab")]
    pub order_id: Option<String>,
    /// `x-error-class`; `delivery_limit` when the broker gave it up, `unlabelled` when nobody said why.
    #[schema(example = "wechat_refused")]
    pub error_class: String,
    pub error: String,
    /// Letters that failed alike share it.
    #[schema(example = "3f9a0c1b2d4e")]
    pub cause: String,
    pub worker: Option<String>,
    pub attempt: i32,
    /// The first failure, else when it was seen first.
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub failed_at: OffsetDateTime,
    /// The replay after which it was parked again.
    pub replay_id: Option<Uuid>,
    /// What would come of it now, by the books; nothing was asked of WeChat.
    pub effect: Prospect,
    /// The money it is about.
    #[schema(value_type = i64, example = 20000)]
    pub money_fen: Fen,
    /// Of it, what is neither a seat nor back yet: above 0 it cannot be discarded.
    #[schema(value_type = i64, example = 0)]
    pub open_fen: Fen,
    /// The next deadline of its order.
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_deadline: Option<OffsetDateTime>,
}

/// A dead letter with everything that is known about it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LetterDetail {
    #[serde(flatten)]
    pub letter: LetterDocument,
    /// Ours; the broker's own are left out.
    #[schema(value_type = Object)]
    pub headers: Map<String, Value>,
    /// Openids are masked.
    pub body: String,
    /// Why it cannot be read as a message of this release.
    pub unreadable: Option<String>,
    /// The order as it is now.
    pub order: Option<OrderDocument>,
    /// What it came to in each replay, newest first.
    pub replays: Vec<LetterReplay>,
    /// What operators did to it, newest first.
    pub acts: Vec<ActDocument>,
    /// What people know about its cause.
    pub notes: Vec<NoteDocument>,
}

/// A letter's part in a replay.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LetterReplay {
    pub replay_id: Uuid,
    pub result: ReplayResult,
    pub detail: Option<String>,
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub published_at: Option<OffsetDateTime>,
}

/// Letters that have something in common.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GroupDocument {
    /// What they have in common: the cause's name, or the effect.
    #[schema(example = "3f9a0c1b2d4e")]
    pub group: String,
    /// Of the newest of them.
    pub queue: String,
    pub kind: String,
    pub error_class: String,
    /// Its error, numbers and names replaced by `#`.
    pub pattern: String,
    pub letters: i64,
    /// How many orders they are about.
    pub orders: i64,
    /// The first of them, at most 20.
    #[schema(value_type = Vec<String>)]
    pub order_ids: Vec<OrderId>,
    /// Each order counts once.
    #[schema(value_type = i64)]
    pub money_fen: Fen,
    #[schema(value_type = i64)]
    pub open_fen: Fen,
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_deadline: Option<OffsetDateTime>,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub oldest: OffsetDateTime,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub newest: OffsetDateTime,
    /// What would come of them: how many by effect.
    #[schema(value_type = Object, example = json!({"would_confirm": 12, "done_already": 3}))]
    pub effects: BTreeMap<&'static str, i64>,
    pub notes: Vec<NoteDocument>,
}

/// A replay: a set of letters, frozen when it was asked for, and how far it is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReplayDocument {
    pub replay_id: Uuid,
    /// SHA-256 over the patch and the letters' ids in their order: the set that was looked at.
    pub hash: String,
    pub state: ReplayState,
    /// Why it paused by itself.
    pub paused_why: Option<String>,
    pub reason: String,
    /// `operator:…`
    pub created_by: String,
    /// How the set was asked for.
    #[schema(value_type = Object)]
    pub asked: Value,
    #[schema(value_type = Option<Object>)]
    pub patch: Option<Value>,
    /// What would have happened when the set was frozen: by effect how many letters and orders, and the money they are
    /// about.
    #[schema(value_type = Object, example = json!({"would_confirm": {"letters": 12, "orders": 12, "money_fen": 240000}}))]
    pub effects: Value,
    pub canary: i32,
    pub per_second: i32,
    pub stop_percent: i32,
    /// All of the set; the following five add up to it.
    pub letters: i64,
    pub pending: i64,
    /// With the broker; what came of them is not known yet.
    pub published: i64,
    /// The books say that nothing of them is left to be done.
    pub done: i64,
    pub parked_again: i64,
    pub skipped: i64,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: OffsetDateTime,
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<OffsetDateTime>,
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<OffsetDateTime>,
    /// What the patch changes in the first letter; empty without a patch.
    pub differences: Vec<Difference>,
}

/// One letter of a replay.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ItemDocument {
    /// Its place in the set: 1, 2, 3 …
    pub place: i32,
    pub letter_id: String,
    pub kind: String,
    pub message_id: Option<String>,
    pub order_id: Option<String>,
    /// What would have come of it when the set was frozen.
    pub effect: String,
    pub result: ReplayResult,
    /// Why it was skipped or parked again.
    pub detail: Option<String>,
    #[serde(with = "crate::domain::calendar::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub published_at: Option<OffsetDateTime>,
}

/// Something an operator did.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ActDocument {
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub at: OffsetDateTime,
    #[schema(example = "operator:ann")]
    pub actor: String,
    /// `plan`, `start`, `pause`, `cancel`, `discard`, `restore`, `note`; `stop`: a replay paused by itself.
    #[schema(example = "discard")]
    pub act: String,
    pub reason: String,
    pub replay_id: Option<Uuid>,
    /// Of a replay they are its items.
    pub letters: Vec<String>,
    #[schema(value_type = Object)]
    pub details: Value,
}

/// What somebody wrote about a cause.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NoteDocument {
    pub author: String,
    pub note: String,
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub written_at: OffsetDateTime,
}

/// What came of discarding or restoring.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct OutcomeDocument {
    /// The letters it was done to.
    pub letters: Vec<String>,
    pub refused: Vec<RefusedLetter>,
}

/// A letter that stays as it is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RefusedLetter {
    pub letter_id: String,
    pub why: String,
    #[schema(value_type = i64)]
    pub open_fen: Fen,
}

/// What WeChat says now of the order or the refund that a letter is about.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WechatWord {
    /// `order` or `refund`.
    pub asked: &'static str,
    /// `out_trade_no` or `out_refund_no`.
    pub number: String,
    /// WeChat's own word, such as `SUCCESS` or `NOTPAY`; null when its answer proved nothing.
    pub state: Option<String>,
    pub transaction_id: Option<String>,
    #[schema(value_type = Option<i64>)]
    pub total_fen: Option<Fen>,
    /// Why it proved nothing.
    pub doubt: Option<String>,
}
