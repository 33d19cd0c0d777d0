//! The acknowledgements of one channel: each as its batch ends, and together once the process is stopping.
//!
//! Of single acknowledgements a quorum queue applies about 32 ahead (RabbitMQ's `quorum_commands_soft_limit`); more wait
//! in the broker's side of the channel, and a channel that closes then forgets them. A worker that is told to stop mostly
//! finishes all it has in hand within a moment and closes. So it waits for the last one, and one acknowledgement covers all.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lapin::{message::Delivery, options::BasicAckOptions, types::ShortString};
use tokio_util::sync::CancellationToken;

use super::link::answered;
use crate::{crash, domain::message::Queue};

pub(super) struct Acks {
    queue: Queue,
    /// One batch at a time: everything before its last message is settled too.
    in_order: bool,
    stop: CancellationToken,
    open: Mutex<Open>,
}

/// By delivery tag, which a channel counts up.
#[derive(Default)]
struct Open {
    in_hand: BTreeSet<u64>,
    /// Finished since the process was told to stop.
    finished: BTreeMap<u64, Delivery>,
}

impl Acks {
    pub(super) fn new(queue: Queue, in_order: bool, stop: CancellationToken) -> Self {
        Self { queue, in_order, stop, open: Mutex::default() }
    }

    pub(super) fn taken(&self, deliveries: &[Delivery]) {
        self.open().in_hand.extend(deliveries.iter().map(|delivery| delivery.delivery_tag));
    }

    /// Acknowledges, or keeps for the end if the process is stopping.
    pub(super) async fn finished(&self, mut deliveries: Vec<Delivery>) {
        {
            let mut open = self.open();
            for delivery in &deliveries {
                open.in_hand.remove(&delivery.delivery_tag);
            }
            if self.stop.is_cancelled() {
                open.finished.extend(deliveries.into_iter().map(|delivery| (delivery.delivery_tag, delivery)));
                return;
            }
        }
        let last = deliveries.pop();
        if !self.in_order {
            for delivery in deliveries {
                self.send(&delivery, false).await;
            }
        }
        if let Some(last) = last {
            self.send(&last, self.in_order).await;
        }
    }

    /// Acknowledges what was kept: at once up to the first message that was given up unfinished, one by one from there.
    pub(super) async fn send_kept(&self) {
        let (mut together, alone) = {
            let mut open = self.open();
            let mut together = mem::take(&mut open.finished);
            let alone = open.in_hand.first().map(|unfinished| together.split_off(unfinished)).unwrap_or_default();
            (together, alone)
        };
        if let Some((_, last)) = together.pop_last() {
            self.send(&last, true).await;
        }
        for delivery in alone.values() {
            self.send(delivery, false).await;
        }
    }

    async fn send(&self, delivery: &Delivery, multiple: bool) {
        let kind = delivery.properties.kind().as_ref().map_or("unknown", ShortString::as_str);
        let sent = answered(delivery.acker.ack(BasicAckOptions { multiple }));
        // `false` or an error: the channel is gone and the message will come again, to find its work done.
        if !matches!(crash::around("ack", kind, sent).await, Ok(true)) {
            let outcome = "acknowledged_too_late";
            metrics::counter!("messages_total", "queue" => self.queue.name(), "outcome" => outcome).increment(1);
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
