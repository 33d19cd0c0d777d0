//! The audit log read again from its first row: each order's history must lead to where the order is, along the
//! state table and without a gap, and its chain of hashes must hold. Streamed: memory does not grow with the log.

use futures_util::TryStreamExt;
use serde_json::{Value, json};
use sqlx::{FromRow, PgConnection, types::Json};
use time::OffsetDateTime;

use super::{
    StoreError,
    audit::{GENESIS, Said},
    promise::Item,
};
use crate::domain::{
    ids::OrderId,
    order::{self, Status},
};

/// An order beside one row of its history.
#[derive(FromRow)]
struct Line {
    order_id: OrderId,
    status: Status,
    order_version: i32,
    audit_head: Vec<u8>,
    /// Where the order's audit log was when its older months were pruned.
    #[sqlx(flatten)]
    pruned: Pruned,
    #[sqlx(flatten)]
    row: Row,
}

#[derive(FromRow)]
struct Pruned {
    pruned_version: Option<i32>,
    pruned_status: Option<Status>,
    pruned_hash: Option<Vec<u8>>,
}

#[derive(FromRow)]
struct Row {
    version: i32,
    at: OffsetDateTime,
    event: String,
    from_status: Option<Status>,
    to_status: Status,
    actor: String,
    reason: Option<String>,
    request_id: Option<String>,
    before: Option<Json<Value>>,
    after: Json<Value>,
    prev_hash: Vec<u8>,
    hash: Vec<u8>,
}

/// Where the history of an order has led so far.
struct Reached {
    order_id: OrderId,
    status: Status,
    version: i32,
    hash: Vec<u8>,
}

impl Reached {
    fn nowhere(order_id: OrderId) -> Self {
        Self { order_id, status: Status::Submitted, version: 0, hash: GENESIS.to_vec() }
    }

    /// Goes on behind what was pruned, when the next row, or the end, does.
    fn skip_pruned(&mut self, pruned: &Pruned, next: Option<i32>) {
        if let (Some(version), Some(status), Some(hash)) =
            (pruned.pruned_version, pruned.pruned_status, &pruned.pruned_hash)
            && version > self.version
            && next.is_none_or(|next| next == version + 1)
        {
            self.version = version;
            self.status = status;
            self.hash.clone_from(hash);
        }
    }

    /// What is wrong with the next row; then goes on from there, so that one fault is told once.
    fn follow(&mut self, row: &Row) -> Faults {
        let history = if row.version != self.version + 1 {
            Some("a version is missing")
        } else if row.from_status != Some(self.status) {
            Some("it does not begin where the one before ended")
        } else if !order::leads(self.status, row.to_status) {
            Some("no event leads there")
        } else {
            None
        };
        let said = Said {
            order_id: &self.order_id,
            version: row.version,
            at: row.at,
            event: &row.event,
            from: row.from_status,
            to: row.to_status,
            actor: &row.actor,
            reason: row.reason.as_deref(),
            request_id: row.request_id.as_deref(),
            before: row.before.as_ref().map(|Json(value)| value),
            after: &row.after,
        };
        let chain = if row.prev_hash != self.hash {
            Some("it is not chained to the one before")
        } else if said.hash(&row.prev_hash) != row.hash {
            Some("it does not say what was hashed")
        } else {
            None
        };
        self.version = row.version;
        self.status = row.to_status;
        self.hash.clone_from(&row.hash);
        Faults { history, chain }
    }
}

struct Faults {
    history: Option<&'static str>,
    chain: Option<&'static str>,
}

pub(super) const ITEMS: usize = 2;

/// Reads all histories in this transaction's snapshot.
pub(super) async fn histories(tx: &mut PgConnection) -> Result<[Item; ITEMS], StoreError> {
    let mut replay = Item::new("history_replays", "an order's status and version are where its audit log leads");
    let mut chain = Item::new("history_unbroken", "no row of the audit log was changed, lost or slipped in");
    // The primary keys of both tables have this order, so nothing needs to be sorted.
    let mut lines = sqlx::query_as::<_, Line>(
        "SELECT order_id, o.status, o.version AS order_version, o.audit_head, a.version, a.at, a.event, a.from_status,
                a.to_status, a.actor, a.reason, a.request_id, a.before, a.after, a.prev_hash, a.hash,
                p.version AS pruned_version, p.to_status AS pruned_status, p.hash AS pruned_hash
           FROM payment_orders o JOIN payment_audit_log a USING (order_id)
           LEFT JOIN audit_log_pruned p USING (order_id)
          ORDER BY order_id, a.version",
    )
    .fetch(&mut *tx);
    let mut reached: Option<(Reached, Line)> = None;
    while let Some(line) = lines.try_next().await? {
        let mut so_far = match reached.take() {
            Some((so_far, _)) if so_far.order_id == line.order_id => so_far,
            earlier => {
                close(earlier, &mut replay, &mut chain);
                Reached::nowhere(line.order_id.clone())
            }
        };
        so_far.skip_pruned(&line.pruned, Some(line.row.version));
        let faults = so_far.follow(&line.row);
        let told = |what| json!({ "order_id": line.order_id, "version": line.row.version, "what": what });
        faults.history.into_iter().for_each(|what| replay.offend(told(what)));
        faults.chain.into_iter().for_each(|what| chain.offend(told(what)));
        chain.checked += 1;
        reached = Some((so_far, line));
    }
    close(reached, &mut replay, &mut chain);
    Ok([replay, chain])
}

/// The history of one order is read: did it lead to where the order is?
fn close(reached: Option<(Reached, Line)>, replay: &mut Item, chain: &mut Item) {
    let Some((mut reached, line)) = reached else { return };
    reached.skip_pruned(&line.pruned, None);
    replay.checked += 1;
    if (reached.status, reached.version) != (line.status, line.order_version) {
        replay.offend(json!({
            "order_id": line.order_id, "what": "the order is not where its history ends", "status": line.status,
            "version": line.order_version, "history_status": reached.status, "history_version": reached.version,
        }));
    }
    if reached.hash != line.audit_head {
        chain.offend(json!({ "order_id": line.order_id, "what": "the order's head is not the chain's last hash" }));
    }
}
