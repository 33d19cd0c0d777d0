//! `payment_audit_log`: one row per change of an order, chained by hash to the order's previous one.

use std::borrow::Cow;

use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::types::Json;
use time::OffsetDateTime;

use super::{Step, StoreError};
use crate::domain::{ids::OrderId, order::Status};

/// The hash an order's first row is chained to.
pub(super) const GENESIS: [u8; 32] = [0; 32];

/// One change of one order.
#[derive(Debug, Clone)]
pub struct AuditRow {
    pub order_id: OrderId,
    /// The version the order has after the change.
    pub version: i32,
    pub event: &'static str,
    pub from: Option<Status>,
    pub to: Status,
    /// `worker:seats`, `user:…`, `operator:…`
    pub actor: Cow<'static, str>,
    pub reason: Option<String>,
    pub request_id: Option<String>,
    pub before: Option<Value>,
    pub after: Value,
    pub prev_hash: Vec<u8>,
}

impl AuditRow {
    /// The row's link of the chain; see [`Said::hash`].
    pub fn hash(&self, at: OffsetDateTime) -> Vec<u8> {
        let said = Said {
            order_id: &self.order_id,
            version: self.version,
            at,
            event: self.event,
            from: self.from,
            to: self.to,
            actor: &self.actor,
            reason: self.reason.as_deref(),
            request_id: self.request_id.as_deref(),
            before: self.before.as_ref(),
            after: &self.after,
        };
        said.hash(&self.prev_hash)
    }
}

/// What a row says, whether it is to be written or was read back.
pub(super) struct Said<'a> {
    pub(super) order_id: &'a OrderId,
    pub(super) version: i32,
    pub(super) at: OffsetDateTime,
    pub(super) event: &'a str,
    pub(super) from: Option<Status>,
    pub(super) to: Status,
    pub(super) actor: &'a str,
    pub(super) reason: Option<&'a str>,
    pub(super) request_id: Option<&'a str>,
    pub(super) before: Option<&'a Value>,
    pub(super) after: &'a Value,
}

impl Said<'_> {
    /// SHA-256 over the previous hash and every column, each with its length, so that no two rows
    /// with different contents are hashed alike.
    pub(super) fn hash(&self, prev_hash: &[u8]) -> Vec<u8> {
        let micros = (self.at.unix_timestamp_nanos() / 1_000).to_string();
        let columns = [
            Some(self.order_id.to_string()),
            Some(self.version.to_string()),
            Some(micros),
            Some(self.event.to_owned()),
            self.from.map(|status| status.as_str().to_owned()),
            Some(self.to.as_str().to_owned()),
            Some(self.actor.to_owned()),
            self.reason.map(ToOwned::to_owned),
            self.request_id.map(ToOwned::to_owned),
            self.before.map(Value::to_string),
            Some(self.after.to_string()),
        ];
        let mut hash = Sha256::new().chain_update(prev_hash);
        for column in &columns {
            match column {
                Some(text) => {
                    hash.update((text.len() as u64).to_be_bytes());
                    hash.update(text);
                }
                None => hash.update(u64::MAX.to_be_bytes()),
            }
        }
        hash.finalize().to_vec()
    }
}

/// Appends the rows, all at the transaction's time.
pub(super) async fn append(step: &mut Step<'_>, rows: &[AuditRow]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let at = step.now;
    let hashes: Vec<Vec<u8>> = rows.iter().map(|row| row.hash(at)).collect();
    sqlx::query(
        "INSERT INTO payment_audit_log
                (order_id, version, at, event, from_status, to_status, actor, reason, request_id, before, after, prev_hash, hash)
         SELECT order_id, version, $1, event, from_status, to_status, actor, reason, request_id, before, after, prev_hash, hash
           FROM unnest($2::text[], $3::int[], $4::text[], $5::order_status[], $6::order_status[], $7::text[], $8::text[],
                       $9::text[], $10::jsonb[], $11::jsonb[], $12::bytea[], $13::bytea[])
             AS t(order_id, version, event, from_status, to_status, actor, reason, request_id, before, after, prev_hash, hash)",
    )
    .bind(at)
    .bind(rows.iter().map(|row| row.order_id.clone()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.version).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.event).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.from).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.to).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.actor.as_ref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.reason.clone()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.request_id.clone()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.before.clone().map(Json)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| Json(row.after.clone())).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.prev_hash.clone()).collect::<Vec<_>>())
    .bind(&hashes)
    .execute(&mut *step.transaction)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> AuditRow {
        AuditRow {
            order_id: OrderId::try_from("hf00000001".to_owned()).unwrap(),
            version: 2,
            event: "paid",
            from: Some(Status::Held),
            to: Status::Confirmed,
            actor: "worker:payments".into(),
            reason: None,
            request_id: Some("r".into()),
            before: None,
            after: serde_json::json!({"seat_no": 1}),
            prev_hash: GENESIS.to_vec(),
        }
    }

    #[test]
    fn s1_4_every_column_is_under_the_hash() {
        let at = OffsetDateTime::UNIX_EPOCH;
        let original = row().hash(at);
        let changed = [
            AuditRow { version: 3, ..row() },
            AuditRow { from: None, ..row() },
            AuditRow { reason: Some("r".into()), request_id: None, ..row() },
            AuditRow { after: serde_json::json!({"seat_no": 2}), ..row() },
            AuditRow { prev_hash: vec![1; 32], ..row() },
        ];
        for row in changed {
            assert_ne!(row.hash(at), original, "{row:?}");
        }
        assert_ne!(row().hash(at + std::time::Duration::from_micros(1)), original);
    }
}
