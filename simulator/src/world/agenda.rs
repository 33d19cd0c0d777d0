//! What is to happen later, in order of time.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::letter::Letter;

/// A place in the agenda; equal times keep the order in which they were noted.
pub(super) type Slot = (OffsetDateTime, u64);

/// One thing to come.
#[derive(Debug)]
pub(super) enum Event {
    /// Send this callback.
    Send { callback: String },
    /// Send this letter once more beside its schedule.
    SendCopy { letter: Letter },
    /// The money of this refund arrives, or does not.
    Settle { out_refund_no: String },
}

#[derive(Debug, Default)]
pub(super) struct Agenda {
    events: BTreeMap<Slot, Event>,
    noted: u64,
}

impl Agenda {
    pub(super) fn note(&mut self, at: OffsetDateTime, event: Event) -> Slot {
        self.noted += 1;
        self.events.insert((at, self.noted), event);
        (at, self.noted)
    }

    pub(super) fn strike(&mut self, slot: Slot) {
        self.events.remove(&slot);
    }

    pub(super) fn next(&self) -> Option<OffsetDateTime> {
        self.events.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn take_due(&mut self, now: OffsetDateTime) -> Option<Event> {
        let first = self.events.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }
}
