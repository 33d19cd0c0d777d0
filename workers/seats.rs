//! Worker `seats`: sets a seat aside for each submitted order, first come, first served.
//!
//! Consumes   order.submitted, waitlist.change   from queues `orders.0` … `orders.7`, in batches, in arrival order
//! Changes    payment_orders, seat_reservations, free_seats, users, waitlist, notifications
//! Emits      order.held, order.alarm (hold, payment, check, sold_out), notification.due
//! Calls      nobody
//! Retries    while PostgreSQL is away, with the batch in hand; never on a refusal
//! Safe twice because an order that is in the books keeps what was decided

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    broker::consume::{Fault, Handler, Received, Shape, Verdict},
    cache::Cache,
    domain::{
        document::{Alternatives, Snapshot},
        ids::{OrderId, ScheduleId, SeatNo, UserId},
        limits::{Holding, Limit},
        message::{Message, OrderSubmitted, WaitlistChange},
        seats::{Allotment, Wish, allot},
        session_rules::Sale,
    },
    store::{
        self, Database, Step, StoreError,
        hold::{Decision, SeatsWanted, Session},
        sealed::PersonalKeys,
        waitlist::{OffersOf, Terms},
    },
};

use super::AlarmTimes;

pub struct Seats {
    pub db: Database,
    pub cache: Cache,
    pub personal: Arc<PersonalKeys>,
    pub terms: Terms,
    pub alarms: AlarmTimes,
}

/// What arrives in the line of a session.
#[derive(Debug, Clone)]
pub enum Arrival {
    Order(OrderSubmitted),
    Waitlist(WaitlistChange),
}

impl Arrival {
    fn schedule_id(&self) -> ScheduleId {
        match self {
            Self::Order(order) => order.schedule_id,
            Self::Waitlist(change) => change.schedule_id,
        }
    }
}

impl TryFrom<Message> for Arrival {
    type Error = Message;

    fn try_from(message: Message) -> Result<Self, Message> {
        match message {
            Message::OrderSubmitted(order) => Ok(Self::Order(order)),
            Message::WaitlistChange(change) => Ok(Self::Waitlist(change)),
            other => Err(other),
        }
    }
}

type Submitted<'a> = &'a OrderSubmitted;

impl Handler for Seats {
    type Message = Arrival;
    const NAME: &'static str = "seats";
    const SHAPE: Shape = Shape { batch: 128, concurrent: 1 };

    async fn handle(&self, batch: &[Received<Arrival>]) -> Result<Vec<Verdict>, Fault> {
        let refused = self.take_in(batch).await?;
        self.tell_refused(&refused).await;
        let refused: HashSet<OrderId> = refused.into_iter().map(|refusal| refusal.snapshot.document.order_id).collect();

        let mut ids: Vec<OrderId> = Vec::with_capacity(batch.len());
        for received in batch {
            match &received.message {
                Arrival::Order(order) => ids.push(order.order_id.clone()),
                Arrival::Waitlist(_) => {}
            }
        }
        let schedules: BTreeSet<ScheduleId> = batch.iter().map(|received| received.message.schedule_id()).collect();
        let schedules: Vec<ScheduleId> = schedules.into_iter().collect();
        let snapshots = store::order::snapshots(self.db.pool(), &ids).await?;
        super::tell_cache(&self.cache, &snapshots, &schedules).await;
        let stored: HashMap<&OrderId, &Snapshot> =
            snapshots.iter().map(|snapshot| (&snapshot.document.order_id, snapshot)).collect();

        let mut notices: HashMap<OrderId, Vec<Message>> = HashMap::new();
        for (order, notice) in super::notifications_due(&self.db, &ids).await? {
            notices.entry(order).or_default().push(notice);
        }
        // What concerns the sessions as a whole follows from the batch's first message.
        let mut of_sessions = super::sold_out_alarms(&self.db, &ids).await?;
        if ids.len() < batch.len() {
            let lines = OffersOf::Lines(&schedules);
            of_sessions.extend(super::offers_made(&self.db, &self.cache, lines, self.alarms).await?);
        }
        Ok(batch
            .iter()
            .map(|received| match &received.message {
                Arrival::Waitlist(_) => Verdict::Done(std::mem::take(&mut of_sessions)),
                Arrival::Order(order) => match stored.get(&order.order_id) {
                    Some(snapshot) if snapshot.owner == order.user_id => {
                        let mut follow_ups = std::mem::take(&mut of_sessions);
                        follow_ups.extend(notices.remove(&order.order_id).unwrap_or_default());
                        follow_ups.extend(super::follow_ups_of_held(snapshot, self.alarms));
                        Verdict::Done(follow_ups)
                    }
                    // In no book, and not parked: what became of it was told.
                    None if refused.contains(&order.order_id) => Verdict::Done(std::mem::take(&mut of_sessions)),
                    Some(_) => park("foreign_order", format!("{} belongs to another user", order.order_id)),
                    None => park("no_such_schedule", format!("there is no session {}", order.schedule_id)),
                },
            })
            .collect())
    }
}

/// An order that a rule refused: told where its customer looks, and in no book.
struct Refusal {
    snapshot: Snapshot,
    limit: Option<Limit>,
}

fn park(class: &'static str, error: String) -> Verdict {
    Verdict::Park { class, error }
}

impl Seats {
    /// Takes a batch into the books. Orders and changes of the waiting list keep their turns: whoever joined before
    /// somebody else ordered has the seat that was free.
    async fn take_in(&self, batch: &[Received<Arrival>]) -> Result<Vec<Refusal>, StoreError> {
        let mut step = self.db.begin("seats.take_in").await?;
        let schedules = batch.iter().map(|received| received.message.schedule_id()).collect();
        let sessions = store::hold::lock_sessions(&mut step, &schedules).await?;
        let customers = batch.iter().filter_map(|received| match &received.message {
            Arrival::Order(order) => Some(&order.user_id),
            Arrival::Waitlist(_) => None,
        });
        store::limits::lock_customers(&mut step, customers).await?;
        let mut refused = Vec::new();
        let is_order = |received: &Received<Arrival>| matches!(received.message, Arrival::Order(_));
        let mut taken = 0;
        for turn in batch.chunk_by(|one, next| is_order(one) == is_order(next)) {
            let (mut submitted, mut changes) = (Vec::new(), Vec::new());
            for received in turn.iter().filter(|received| sessions.contains_key(&received.message.schedule_id())) {
                match &received.message {
                    Arrival::Order(order) => submitted.push(order),
                    Arrival::Waitlist(change) => changes.push(change),
                }
            }
            taken += self.take_orders(&mut step, &submitted, &sessions, &mut refused).await?;
            self.change_waitlists(&mut step, &changes).await?;
        }
        step.commit().await?;
        metrics::counter!("orders_taken_total").increment(taken);
        Ok(refused)
    }

    /// Tells who waits for a refused order, and the ingress. After the commit; without Redis the order reads as unknown.
    async fn tell_refused(&self, refused: &[Refusal]) {
        let snapshots: Vec<Snapshot> = refused.iter().map(|refusal| refusal.snapshot.clone()).collect();
        let limited: Vec<_> = refused
            .iter()
            .filter_map(|Refusal { snapshot, limit }| {
                limit.map(|limit| (snapshot.document.schedule_id, snapshot.owner.clone(), limit))
            })
            .collect();
        let _ = self.cache.store_refused(&snapshots).await;
        let _ = self.cache.mark_limited(&limited).await;
        for snapshot in &snapshots {
            let reason = snapshot.document.reason.clone().unwrap_or_default();
            metrics::counter!("orders_refused_by_rule_total", "reason" => reason).increment(1);
        }
    }

    /// Decides and stores the orders that are not in the books yet; says how many.
    async fn take_orders(
        &self,
        step: &mut Step<'_>,
        submitted: &[Submitted<'_>],
        sessions: &HashMap<ScheduleId, Session>,
        refused: &mut Vec<Refusal>,
    ) -> Result<u64, StoreError> {
        let known = store::hold::known(step, submitted.iter().map(|order| &order.order_id)).await?;
        let mut seen = HashSet::new();
        let new: Vec<Submitted<'_>> = submitted
            .iter()
            .copied()
            .filter(|order| !known.contains(&order.order_id) && seen.insert(&order.order_id))
            .collect();
        if new.is_empty() {
            return Ok(0);
        }
        let mut decided = Vec::with_capacity(new.len());
        for (order, decision) in self.decide(step, &new, sessions).await? {
            match decision {
                Outcome::Stored(decision) => decided.push((order, decision)),
                Outcome::Refused { reason, limit, alternatives } => {
                    let sale = (reason == NOT_ON_SALE).then(|| sessions[&order.schedule_id].times);
                    let snapshot = Snapshot::of_refused(order, step.now, reason, alternatives, sale);
                    refused.push(Refusal { snapshot, limit });
                }
            }
        }
        if decided.is_empty() {
            return Ok(0);
        }
        let users = decided.iter().map(|(order, _)| (&order.user_id, order.openid.as_ref()));
        store::user::upsert(step, &self.personal, users).await?;
        store::hold::record(step, &decided, self.terms.deadlines).await?;
        Ok(decided.len() as u64)
    }

    async fn change_waitlists(&self, step: &mut Step<'_>, changes: &[&WaitlistChange]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        store::waitlist::change(step, &self.personal, changes).await?;
        for schedule in changes.iter().map(|change| change.schedule_id).collect::<BTreeSet<_>>() {
            store::waitlist::offer_free_seats(step, schedule, &self.terms, None).await?;
        }
        Ok(())
    }

    async fn decide<'a>(
        &self,
        step: &mut Step<'_>,
        new: &[Submitted<'a>],
        sessions: &HashMap<ScheduleId, Session>,
    ) -> Result<Vec<(Submitted<'a>, Outcome)>, StoreError> {
        let mut wanted: HashMap<ScheduleId, SeatsWanted> = HashMap::new();
        for order in new {
            let seats = wanted.entry(order.schedule_id).or_default();
            seats.most += 1;
            seats.these.extend(order.seat_no);
        }
        let mut free = store::hold::free_seats(step, &wanted).await?;
        let customers = new.iter().map(|order| (order.schedule_id, &order.user_id)).collect();
        let mut holdings = store::limits::holdings(step, &customers).await?;
        // Unpaid orders count over all sessions of the batch.
        let mut unpaid_now: HashMap<&UserId, i64> = HashMap::new();
        let mut decided: Vec<(Submitted<'a>, Outcome)> = Vec::with_capacity(new.len());
        for order in new {
            let session = &sessions[&order.schedule_id];
            let seats = free.entry(order.schedule_id).or_default();
            let holding = holdings.entry((order.schedule_id, order.user_id.clone())).or_default();
            let unpaid_now = unpaid_now.entry(&order.user_id).or_default();
            let has = Holding { unpaid: holding.unpaid + *unpaid_now, ..*holding };
            let outcome = decide_one(
                order,
                session,
                seats,
                has.reached(session.seats_per_customer.into(), self.terms.unpaid_per_customer),
            );
            let outcome = match outcome {
                Outcome::Stored(Decision::Held(seat)) => {
                    holding.seats += 1;
                    *unpaid_now += 1;
                    Outcome::Stored(Decision::Held(seat))
                }
                // One row and one message: who was told once is only answered.
                Outcome::Stored(Decision::Rejected { reason, .. }) if holding.rejected => {
                    Outcome::Refused { reason, limit: None, alternatives: Some(Alternatives::default()) }
                }
                Outcome::Stored(rejected) => {
                    holding.rejected = true;
                    Outcome::Stored(rejected)
                }
                refused @ Outcome::Refused { .. } => refused,
            };
            decided.push((order, outcome));
        }
        self.suggest(step, &mut decided).await?;
        Ok(decided)
    }

    /// Gives every rejected order what could be booked instead, as it is after this batch.
    async fn suggest(&self, step: &mut Step<'_>, decided: &mut [(Submitted<'_>, Outcome)]) -> Result<(), StoreError> {
        let mut gone: HashMap<ScheduleId, HashSet<_>> = HashMap::new();
        let mut refused = BTreeSet::new();
        for (order, decision) in decided.iter() {
            match decision {
                Outcome::Stored(Decision::Held(seat)) => drop(gone.entry(order.schedule_id).or_default().insert(*seat)),
                Outcome::Stored(Decision::Rejected { .. }) | Outcome::Refused { alternatives: Some(_), .. } => {
                    refused.insert(order.schedule_id);
                }
                Outcome::Refused { alternatives: None, .. } => {}
            }
        }
        if refused.is_empty() {
            return Ok(());
        }
        let refused: Vec<ScheduleId> = refused.into_iter().collect();
        let mut suggestions = store::schedule::alternatives(step, &refused).await?;
        for (schedule, alternatives) in &mut suggestions {
            if let Some(gone) = gone.get(schedule) {
                alternatives.seats.retain(|seat| !gone.contains(seat));
            }
        }
        for (order, decision) in decided {
            if let Outcome::Stored(Decision::Rejected { alternatives, .. })
            | Outcome::Refused { alternatives: Some(alternatives), .. } = decision
            {
                *alternatives = suggestions.get(&order.schedule_id).cloned().unwrap_or_default();
            }
        }
        Ok(())
    }
}

/// As documents and problems call it.
const NOT_ON_SALE: &str = "not-on-sale";

/// What becomes of one order.
enum Outcome {
    /// It goes into the books.
    Stored(Decision),
    /// It is answered and nothing else: no row, no message. `alternatives` where the answer tells them.
    Refused { reason: &'static str, limit: Option<Limit>, alternatives: Option<Alternatives> },
}

fn decide_one(order: &OrderSubmitted, session: &Session, free: &mut BTreeSet<SeatNo>, limit: Option<Limit>) -> Outcome {
    let rejected = |reason| Outcome::Stored(Decision::Rejected { reason, alternatives: Alternatives::default() });
    let refused = |reason| Outcome::Refused { reason, limit, alternatives: None };
    if !session.takes_place {
        return rejected("schedule-closed");
    }
    match session.sale {
        Sale::Open => {}
        Sale::NotYet | Sale::Over => return Outcome::Refused { reason: NOT_ON_SALE, limit: None, alternatives: None },
    }
    if order.amount_fen != session.price_fen {
        return rejected("amount-mismatch");
    }
    if limit.is_some() {
        return refused("limit-reached");
    }
    match allot(order.seat_no.map_or(Wish::Any, Wish::This), free) {
        Allotment::Seat(seat) => Outcome::Stored(Decision::Held(seat)),
        Allotment::SeatTaken => rejected("seat-taken"),
        Allotment::SoldOut => rejected("sold-out"),
    }
}
