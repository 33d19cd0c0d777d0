//! `payment_audit_log`: one row per change of an order, chained by hash to the order's previous one.

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
    pub actor: &'static str,
    pub reason: Option<String>,
    pub request_id: Option<String>,
    pub before: Option<Value>,
    pub after: Value,
    pub prev_hash: Vec<u8>,
}

impl AuditRow {
    /// SHA-256 over the previous hash and every column, each with its length, so that no two rows
    /// with different contents are hashed alike.
    pub fn hash(&self, at: OffsetDateTime) -> Vec<u8> {
        let micros = (at.unix_timestamp_nanos() / 1_000).to_string();
        let version = self.version.to_string();
        let json = |value: &Value| value.to_string();
        let columns = [
            Some(self.order_id.as_str().to_owned()),
            Some(version),
            Some(micros),
            Some(self.event.to_owned()),
            self.from.map(|status| status.as_str().to_owned()),
            Some(self.to.as_str().to_owned()),
            Some(self.actor.to_owned()),
            self.reason.clone(),
            self.request_id.clone(),
            self.before.as_ref().map(json),
            Some(json(&self.after)),
        ];
        let mut hash = Sha256::new().chain_update(&self.prev_hash);
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
    .bind(rows.iter().map(|row| row.actor).collect::<Vec<_>>())
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
            actor: "worker:payments",
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
