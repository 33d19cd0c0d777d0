//! What every write but the order itself has in common: the caller's pace, the broker's confirm, the count.

use std::time::Duration;

use super::{
    Inner,
    auth::Caller,
    names,
    problem::{Kind, Problem},
};
use crate::domain::message::Message;

const BROKER_RETRY: Duration = Duration::from_secs(2);

/// Refuses a caller who asks for too much at once; orders and all other writes share one limit.
pub(super) async fn pace(api: &Inner, caller: &Caller) -> Result<(), Problem> {
    let paced = api.limits.orders.take(&api.cache, caller.user.as_str()).await;
    paced.map_err(|wait| Problem::new(Kind::TooManyRequests).retry_after(wait))
}

/// Publishes; afterwards the broker has it.
pub(super) async fn hand_over(api: &Inner, message: Message) -> Result<(), Problem> {
    let sent = api.publisher.publish(&message).await;
    sent.map_err(|error| {
        tracing::warn!(kind = message.kind(), key = message.key(), %error, "a request could not be published");
        Problem::new(Kind::BrokerUnavailable)
            .detail("The broker has not confirmed the request. Repeating it is safe.")
            .retry_after(BROKER_RETRY)
    })
}

/// Counts an answer under the kind of its message.
pub(super) fn counted<T>(kind: &'static str, answer: Result<T, Problem>) -> Result<T, Problem> {
    let outcome = answer.as_ref().map_or_else(|problem| problem.kind.slug(), |_| "taken");
    metrics::counter!(names::WRITES, "kind" => kind, "outcome" => outcome).increment(1);
    answer
}
