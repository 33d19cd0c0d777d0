//! Worker `seats`: sets a seat aside for each submitted order, first come, first served.
//!
//! Consumes   order.submitted              from queues `orders.0` … `orders.7`, in batches, in arrival order
//! Changes    payment_orders, seat_reservations, free_seats, users, notifications
//! Emits      order.held, order.alarm (hold, payment), notification.due
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
        message::{Alarm, Message, OrderAlarm, OrderHeld, OrderSubmitted},
        order::Status,
        seats::{Allotment, Wish, allot},
    },
    store::{
        self, Database, Step, StoreError,
        hold::{Deadlines, Decision, SeatsWanted, Session},
        user::PersonalKey,
    },
};

pub struct Seats {
    pub db: Database,
    pub cache: Cache,
    pub personal: Arc<PersonalKey>,
    pub deadlines: Deadlines,
}

type Submitted<'a> = &'a OrderSubmitted;

impl Handler for Seats {
    type Message = OrderSubmitted;
    const NAME: &'static str = "seats";
    const SHAPE: Shape = Shape { batch: 128, concurrent: 1 };

    async fn handle(&self, batch: &[Received<OrderSubmitted>]) -> Result<Vec<Verdict>, Fault> {
        let submitted: Vec<Submitted<'_>> = batch.iter().map(|received| &received.message).collect();
        let nowhere = self.take_in(&submitted).await?;

        let ids: Vec<OrderId> = submitted.iter().map(|order| order.order_id.clone()).collect();
        let stored: HashMap<OrderId, Snapshot> = store::order::snapshots(self.db.pool(), &ids)
            .await?
            .into_iter()
            .map(|snapshot| (snapshot.document.order_id.clone(), snapshot))
            .collect();
        let snapshots: Vec<Snapshot> = stored.values().cloned().collect();
        let schedules: BTreeSet<ScheduleId> = submitted.iter().map(|order| order.schedule_id).collect();
        super::tell_cache(&self.cache, &snapshots, &schedules.into_iter().collect::<Vec<_>>()).await;

        let mut notices: HashMap<OrderId, Vec<Message>> = HashMap::new();
        for (order, notice) in super::notifications_due(&self.db, &ids).await? {
            notices.entry(order).or_default().push(notice);
        }
        Ok(submitted
            .iter()
            .map(|order| match stored.get(&order.order_id) {
                Some(snapshot) if snapshot.owner == order.user_id => {
                    let mut follow_ups = notices.remove(&order.order_id).unwrap_or_default();
                    follow_ups.extend(self.what_follows(snapshot));
                    Verdict::Done(follow_ups)
                }
                Some(_) => Verdict::Park {
                    class: "foreign_order",
                    error: format!("{} belongs to another user", order.order_id),
                },
                None => Verdict::Park {
                    class: "no_such_schedule",
                    error: format!(
                        "there is no session {}",
                        nowhere.get(&order.order_id).unwrap_or(&order.schedule_id)
                    ),
                },
            })
            .collect())
    }
}

impl Seats {
    /// Decides and stores what is not in the books yet. Answers the orders that name no session of ours.
    async fn take_in(&self, submitted: &[Submitted<'_>]) -> Result<HashMap<OrderId, ScheduleId>, StoreError> {
        let mut step = self.db.begin("seats.take_in").await?;
        let schedules = submitted.iter().map(|order| order.schedule_id).collect();
        let sessions = store::hold::lock_sessions(&mut step, &schedules).await?;
        let known = store::hold::known(&mut step, submitted.iter().map(|order| &order.order_id)).await?;

        let mut seen = HashSet::new();
        let (new, nowhere): (Vec<Submitted<'_>>, Vec<Submitted<'_>>) = submitted
            .iter()
            .copied()
            .filter(|order| !known.contains(&order.order_id) && seen.insert(&order.order_id))
            .partition(|order| sessions.contains_key(&order.schedule_id));
        if !new.is_empty() {
            let decided = self.decide(&mut step, &new, &sessions).await?;
            let users = new.iter().map(|order| (&order.user_id, order.openid.as_ref()));
            store::user::upsert(&mut step, &self.personal, users).await?;
            store::hold::record(&mut step, &decided, self.deadlines).await?;
        }
        step.commit().await?;
        for order in &new {
            metrics::counter!("orders_taken_total").increment(1);
            tracing::debug!(order_id = %order.order_id, schedule_id = %order.schedule_id, "taken in");
        }
        Ok(nowhere.iter().map(|order| (order.order_id.clone(), order.schedule_id)).collect())
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

    /// What a stored order still needs from others. Derived, so that it is the same after a crash.
    fn what_follows(&self, snapshot: &Snapshot) -> Vec<Message> {
        let order_id = &snapshot.document.order_id;
        if snapshot.document.status != Status::Held {
            return Vec::new();
        }
        let alarm = |alarm, after: time::Duration| {
            let after_ms = u64::try_from(after.whole_milliseconds()).unwrap_or(0);
            Message::OrderAlarm(OrderAlarm { order_id: order_id.clone(), alarm, after_ms })
        };
        vec![
            Message::OrderHeld(OrderHeld { order_id: order_id.clone() }),
            alarm(Alarm::Hold, self.deadlines.hold),
            alarm(Alarm::Payment, self.deadlines.payment),
        ]
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
