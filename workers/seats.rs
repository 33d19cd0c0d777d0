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
        ids::{OrderId, ScheduleId},
        message::{Message, OrderSubmitted, WaitlistChange},
        seats::{Allotment, Wish, allot},
    },
    store::{
        self, Database, Step, StoreError,
        hold::{Decision, SeatsWanted, Session},
        sealed::PersonalKeys,
        waitlist::Terms,
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
        self.take_in(batch).await?;

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
        // What concerns the sessions as a whole follows from the first message that touched them.
        let mut of_sessions = super::sold_out_alarms(&self.db, &schedules).await?;
        if ids.len() < batch.len() {
            of_sessions.extend(super::offers_made(&self.db, &self.cache, &schedules, self.alarms).await?);
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
                    Some(_) => park("foreign_order", format!("{} belongs to another user", order.order_id)),
                    None => park("no_such_schedule", format!("there is no session {}", order.schedule_id)),
                },
            })
            .collect())
    }
}

fn park(class: &'static str, error: String) -> Verdict {
    Verdict::Park { class, error }
}

impl Seats {
    /// Takes a batch into the books. Orders and changes of the waiting list keep their turns: whoever joined before
    /// somebody else ordered has the seat that was free.
    async fn take_in(&self, batch: &[Received<Arrival>]) -> Result<(), StoreError> {
        let mut step = self.db.begin("seats.take_in").await?;
        let schedules = batch.iter().map(|received| received.message.schedule_id()).collect();
        let sessions = store::hold::lock_sessions(&mut step, &schedules).await?;
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
            taken += self.take_orders(&mut step, &submitted, &sessions).await?;
            self.change_waitlists(&mut step, &changes).await?;
        }
        step.commit().await?;
        metrics::counter!("orders_taken_total").increment(taken);
        Ok(())
    }

    /// Decides and stores the orders that are not in the books yet; says how many.
    async fn take_orders(
        &self,
        step: &mut Step<'_>,
        submitted: &[Submitted<'_>],
        sessions: &HashMap<ScheduleId, Session>,
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
        let decided = self.decide(step, &new, sessions).await?;
        let users = new.iter().map(|order| (&order.user_id, order.openid.as_ref()));
        store::user::upsert(step, &self.personal, users).await?;
        store::hold::record(step, &decided, self.terms.deadlines).await?;
        Ok(new.len() as u64)
    }

    async fn change_waitlists(&self, step: &mut Step<'_>, changes: &[&WaitlistChange]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        store::waitlist::change(step, &self.personal, changes).await?;
        for schedule in changes.iter().map(|change| change.schedule_id).collect::<BTreeSet<_>>() {
            store::waitlist::offer_free_seats(step, schedule, &self.terms).await?;
        }
        Ok(())
    }

    async fn decide<'a>(
        &self,
        step: &mut Step<'_>,
        new: &[Submitted<'a>],
        sessions: &HashMap<ScheduleId, Session>,
    ) -> Result<Vec<(Submitted<'a>, Decision)>, StoreError> {
        let mut wanted: HashMap<ScheduleId, SeatsWanted> = HashMap::new();
        for order in new {
            let seats = wanted.entry(order.schedule_id).or_default();
            seats.most += 1;
            seats.these.extend(order.seat_no);
        }
        let mut free = store::hold::free_seats(step, &wanted).await?;
        let mut decided: Vec<(Submitted<'a>, Decision)> = Vec::with_capacity(new.len());
        for order in new {
            let session = &sessions[&order.schedule_id];
            let seats = free.entry(order.schedule_id).or_default();
            decided.push((order, decide_one(order, session, seats)));
        }
        self.suggest(step, &mut decided).await?;
        Ok(decided)
    }

    /// Gives every rejected order what could be booked instead, as it is after this batch.
    async fn suggest(&self, step: &mut Step<'_>, decided: &mut [(Submitted<'_>, Decision)]) -> Result<(), StoreError> {
        let mut gone: HashMap<ScheduleId, HashSet<_>> = HashMap::new();
        let mut refused = BTreeSet::new();
        for (order, decision) in decided.iter() {
            match decision {
                Decision::Held(seat) => drop(gone.entry(order.schedule_id).or_default().insert(*seat)),
                Decision::Rejected { .. } => drop(refused.insert(order.schedule_id)),
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
            if let Decision::Rejected { alternatives, .. } = decision {
                *alternatives = suggestions.get(&order.schedule_id).cloned().unwrap_or_default();
            }
        }
        Ok(())
    }
}

fn decide_one(order: &OrderSubmitted, session: &Session, free: &mut BTreeSet<crate::domain::ids::SeatNo>) -> Decision {
    let rejected = |reason| Decision::Rejected { reason, alternatives: Alternatives::default() };
    if !session.open {
        return rejected("schedule-closed");
    }
    if order.amount_fen != session.price_fen {
        return rejected("amount-mismatch");
    }
    match allot(order.seat_no.map_or(Wish::Any, Wish::This), free) {
        Allotment::Seat(seat) => Decision::Held(seat),
        Allotment::SeatTaken => rejected("seat-taken"),
        Allotment::SoldOut => rejected("sold-out"),
    }
}
