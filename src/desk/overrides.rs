//! Proposing an override, and the second person's word on it.

use uuid::Uuid;

use crate::{
    broker::Publisher,
    domain::{
        message::{Message, OrderOverride},
        money::Fen,
        overrides::{OverrideDocument, OverrideStatus, Proposal},
    },
    store::{
        self, Database, StoreError,
        overrides::{OverrideFilter, Proposed},
    },
};

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("there is no such order in the books")]
    NoSuchOrder,
    #[error("there is no such override")]
    NoSuchOverride,
    #[error("not possible: {0}")]
    NotPossible(&'static str),
    #[error("another decision about this order is still open: {0}")]
    AnotherIsOpen(Uuid),
    #[error("a second operator must agree: nobody approves their own proposal")]
    SamePerson,
    #[error("it is {} already", .0.as_str())]
    NotProposed(OverrideStatus),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Decides, or asks for a second person when the money at stake, with what operators moved for the order before, is above
/// `second_person`. The same proposal twice is
/// one.
pub async fn propose(
    db: &Database,
    publisher: &Publisher,
    proposal: &Proposal,
    second_person: Fen,
) -> Result<OverrideDocument, Refusal> {
    if store::overrides::find(db.pool(), proposal.override_id).await?.is_some() {
        // Whoever wrote it down may have died before the worker was told.
        return hand_over(db, publisher, proposal.override_id).await;
    }
    let mut step = db.begin("override.propose").await?;
    match store::overrides::propose(&mut step, proposal, second_person).await? {
        Proposed::Written => step.commit().await?,
        Proposed::NoSuchOrder => return Err(Refusal::NoSuchOrder),
        Proposed::NotPossible(why) => return Err(Refusal::NotPossible(why)),
        Proposed::Known => {
            drop(step);
            return match store::overrides::find(db.pool(), proposal.override_id).await? {
                Some(known) => Ok(known),
                None => Err(another(db, proposal).await?),
            };
        }
    }
    tracing::info!(order_id = %proposal.order_id, action = proposal.action.as_str(), operator = proposal.operator,
        "an override was proposed");
    metrics::counter!("overrides_proposed_total", "action" => proposal.action.as_str()).increment(1);
    hand_over(db, publisher, proposal.override_id).await
}

async fn another(db: &Database, proposal: &Proposal) -> Result<Refusal, StoreError> {
    for status in [OverrideStatus::Proposed, OverrideStatus::Approved] {
        let order_id = Some(proposal.order_id.clone());
        let filter = OverrideFilter { status: Some(status), order_id, after: None };
        if let Some(open) = store::overrides::list(db.pool(), &filter, 1).await?.pop() {
            return Ok(Refusal::AnotherIsOpen(open.override_id));
        }
    }
    Ok(Refusal::NotPossible("another decision about this order has just been settled: look again"))
}

/// The second person agrees.
pub async fn approve(
    db: &Database,
    publisher: &Publisher,
    id: Uuid,
    operator: &str,
) -> Result<OverrideDocument, Refusal> {
    if !store::overrides::decide(db, id, OverrideStatus::Approved, operator).await? {
        return match store::overrides::find(db.pool(), id).await? {
            None => Err(Refusal::NoSuchOverride),
            Some(known) if known.status == OverrideStatus::Proposed => Err(Refusal::SamePerson),
            // Approved by this very person before: a repeated request.
            Some(known)
                if known.decided_by.as_deref() == Some(operator) && known.status != OverrideStatus::Withdrawn =>
            {
                hand_over(db, publisher, id).await
            }
            Some(known) => Err(Refusal::NotProposed(known.status)),
        };
    }
    hand_over(db, publisher, id).await
}

/// Whoever proposed it, or the second person, wants it no more.
pub async fn withdraw(db: &Database, id: Uuid, operator: &str) -> Result<OverrideDocument, Refusal> {
    let withdrawn = store::overrides::decide(db, id, OverrideStatus::Withdrawn, operator).await?;
    let now = store::overrides::find(db.pool(), id).await?.ok_or(Refusal::NoSuchOverride)?;
    if withdrawn || now.status == OverrideStatus::Withdrawn { Ok(now) } else { Err(Refusal::NotProposed(now.status)) }
}

/// Tells the worker of what is approved. With the broker away the sweep will.
async fn hand_over(db: &Database, publisher: &Publisher, id: Uuid) -> Result<OverrideDocument, Refusal> {
    let document = store::overrides::find(db.pool(), id).await?.ok_or(Refusal::NoSuchOverride)?;
    if document.status == OverrideStatus::Approved {
        let message = Message::OrderOverride(OrderOverride { override_id: id, order_id: document.order_id.clone() });
        if let Err(error) = publisher.publish(&message).await {
            tracing::warn!(%error, override_id = %id, "an override waits for the sweep");
        }
    }
    Ok(document)
}
