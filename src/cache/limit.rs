//! Customers whom the seats worker has just refused for a limit: repeated requests are refused at once, without a message.
//! The mark lasts seconds and is lifted with each order of the customer that ends or is paid; the worker decides.

use super::{Cache, CacheAway};
use crate::domain::{
    ids::{ScheduleId, UserId},
    limits::Limit,
};

/// A mark whose lifting was lost on the way to Redis refuses a customer for no longer than this.
const MARK_SECONDS: u64 = 5;

impl Cache {
    /// Adds to a pipeline the question whose answer [`reached`] takes.
    pub(super) fn ask_limits(&self, pipeline: &mut redis::Pipeline, schedule: ScheduleId, user: &UserId) {
        pipeline.cmd("MGET").arg(self.seats_key(schedule, user)).arg(self.unpaid_key(user));
    }

    /// Marks customers who have reached a limit.
    ///
    /// # Errors
    /// Redis is unavailable: their next requests are refused by the worker.
    pub async fn mark_limited(&self, limited: &[(ScheduleId, UserId, Limit)]) -> Result<(), CacheAway> {
        if limited.is_empty() {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        for (schedule, user, limit) in limited {
            let (key, most) = match limit {
                Limit::Seats(most) => (self.seats_key(*schedule, user), most),
                Limit::Unpaid(most) => (self.unpaid_key(user), most),
            };
            pipeline.set_ex(key, *most, MARK_SECONDS).ignore();
        }
        let mut connection = self.connection();
        self.call("mark_limited", pipeline.query_async::<()>(&mut connection)).await
    }

    /// Lifts the marks of customers whose orders have ended or are paid.
    ///
    /// # Errors
    /// Redis is unavailable: the marks end by themselves.
    pub async fn lift_limits(&self, of: &[(ScheduleId, &UserId)]) -> Result<(), CacheAway> {
        if of.is_empty() {
            return Ok(());
        }
        let mut delete = redis::cmd("DEL");
        for (schedule, user) in of {
            delete.arg(self.seats_key(*schedule, user)).arg(self.unpaid_key(user));
        }
        self.run("lift_limits", &delete).await
    }

    fn seats_key(&self, schedule: ScheduleId, user: &UserId) -> String {
        self.key("limited", format_args!("{schedule}/{user}"))
    }

    fn unpaid_key(&self, user: &UserId) -> String {
        self.key("limited", format_args!("unpaid/{user}"))
    }
}

/// The limit that the marks tell of: of seats first.
pub(super) fn reached(marks: &[Option<i64>]) -> Option<Limit> {
    match marks {
        [Some(most), ..] => Some(Limit::Seats(*most)),
        [None, Some(most)] => Some(Limit::Unpaid(*most)),
        _ => None,
    }
}
