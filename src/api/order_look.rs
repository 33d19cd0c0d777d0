//! A customer who looks at an unpaid order may have paid it: WeChat is asked soon, so that a callback that got lost
//! costs them seconds. The worker of alarms asks; here the alarm is set off.

use std::sync::Arc;

use time::Duration;

use super::{Api, names};
use crate::domain::{
    document::OrderDocument,
    message::{Alarm, Message, OrderAlarm},
    order::Status,
};

/// At most one question to WeChat per order in this time, and none so soon after a change: the callback comes first.
const EVERY: Duration = Duration::seconds(15);

/// In the background: the customer's answer waits for nothing of this. With Redis or the broker away nothing
/// happens; the alarms that were set when the order was made go off all the same.
pub(super) fn looked(api: &Api, order: &OrderDocument) {
    let can_be_paid = matches!(order.status, Status::AwaitingPayment | Status::Lapsed);
    if !can_be_paid || (api.now)() - order.updated_at < EVERY {
        return;
    }
    let api = Arc::clone(api);
    let order_id = order.order_id.clone();
    tokio::spawn(async move {
        let first = api.cache.first_look(&order_id, EVERY.whole_seconds().unsigned_abs()).await;
        if first != Ok(true) {
            return;
        }
        let alarm = Message::OrderAlarm(OrderAlarm { order_id, alarm: Alarm::Check, after_ms: 0 });
        match api.publisher.publish(&alarm).await {
            Ok(()) => metrics::counter!(names::LOOKS).increment(1),
            Err(error) => tracing::debug!(key = alarm.key(), %error, "a look was not published"),
        }
    });
}
