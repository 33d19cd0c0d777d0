//! Callbacks: what is told to the merchant, when, and how often (WeChat Pay: callbacks, resend schedule).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    World,
    agenda::{Event, Slot},
    fault::{CallbackFault, Forgery},
    letter::{Letter, News},
    play::KeysInForce,
};

/// Waits between attempts in seconds: fifteen resends in about a day.
const RESENDS: [u64; 15] = [15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10_800, 10_800, 10_800, 21_600, 21_600];

/// Something the merchant is to be told.
pub(super) struct Subject {
    pub(super) news: News,
    pub(super) out_trade_no: String,
    /// WeChat's own number of it.
    pub(super) number: String,
    /// Empty when nobody wants to be told.
    pub(super) notify_url: String,
    pub(super) resource: Value,
}

/// One callback on its way: every attempt carries the same id and the same ciphertext.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Callback {
    pub(super) letter: Letter,
    forgery: Option<Forgery>,
    /// Attempts that are forged; those after are right.
    forged: u32,
    attempts: u32,
    /// When the next attempt is due; its place in the agenda is not kept over a restart.
    pub(super) due: OffsetDateTime,
    #[serde(skip)]
    slot: Option<Slot>,
}

/// One attempt to be made now.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) letter: Letter,
    pub(crate) forgery: Option<Forgery>,
    /// A copy beside the schedule, whose fate changes nothing.
    pub(crate) copy: bool,
    pub(crate) keys: KeysInForce,
}

impl World {
    /// Puts a callback on its way, unless the script has other plans.
    pub(super) fn announce(&mut self, subject: Subject, now: OffsetDateTime) {
        let fault = self.play.draw(subject.news.operation(), &subject.out_trade_no, now).callback;
        if subject.notify_url.is_empty() || matches!(fault, Some((CallbackFault::Never, _))) {
            return;
        }
        let (fault, forged) = fault.unzip();
        let mut resource = subject.resource;
        if let Some(fault) = fault {
            fault.falsify(&mut resource);
        }
        let mut numbers = self.numbers_of(&["callback", subject.news.event_type(), &subject.number]);
        let (high, low) = (numbers.next(), numbers.next() >> 16);
        let id = format!("{:08x}-{:04x}-5000-8000-{low:012x}", high >> 32, high & 0xFFFF);
        let callback = Callback {
            letter: Letter {
                id: id.clone(),
                notify_url: subject.notify_url,
                create_time: super::china(now),
                news: subject.news,
                nonce: numbers.text(12),
                apiv3_key: self.apiv3_keys,
                plaintext: resource.to_string(),
            },
            forgery: fault.and_then(CallbackFault::forgery),
            forged: forged.unwrap_or_default(),
            attempts: 0,
            due: now,
            slot: None,
        };
        self.callbacks.insert(id.clone(), callback);
        match fault {
            Some(CallbackFault::LateMs(late)) => self.send_at(&id, now + Duration::from_millis(late)),
            Some(CallbackFault::Twice) => {
                self.send_at(&id, now);
                self.agenda.note(now, Event::SendCopy { letter: self.callbacks[&id].letter.clone() });
            }
            // Sent once more although it has been accepted.
            Some(CallbackFault::AgainMs(later)) => {
                self.send_at(&id, now);
                let at = now + Duration::from_millis(later);
                self.agenda.note(at, Event::SendCopy { letter: self.callbacks[&id].letter.clone() });
            }
            // Overtaken by the next one; alone, it goes out when a resend would.
            Some(CallbackFault::Reordered) if self.held_back.is_none() => {
                self.send_at(&id, now + self.sped_up(RESENDS[0]));
                self.held_back = Some(id);
            }
            _ => self.send_at(&id, now),
        }
    }

    /// Sends a test callback to the address that the merchant names, if it names one.
    pub(crate) fn echo(&mut self, parameters: &Value, now: OffsetDateTime) {
        let text = |member: &str| parameters[member].as_str().unwrap_or_default().to_owned();
        let subject = Subject {
            news: News::Echo,
            out_trade_no: text("echo_message"),
            number: self.next_number().to_string(),
            notify_url: text("notify_url"),
            resource: json!({"echo_message": parameters["echo_message"]}),
        };
        self.announce(subject, now);
    }

    pub(super) fn send_at(&mut self, id: &str, at: OffsetDateTime) {
        let slot = self.agenda.note(at, Event::Send { callback: id.to_owned() });
        if let Some(callback) = self.callbacks.get_mut(id) {
            callback.slot = Some(slot);
            callback.due = at;
            self.journal.record("callback", callback);
        }
    }

    /// Everything that has become due: refunds settle here, attempts are handed out to be made.
    pub(crate) fn take_due(&mut self, now: OffsetDateTime) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        while let Some(event) = self.agenda.take_due(now) {
            let (letter, forgery, attempt) = match event {
                Event::Settle { out_refund_no } => {
                    self.settle(&out_refund_no, now);
                    continue;
                }
                Event::SendCopy { letter } => (letter, None, None),
                Event::Send { callback } => {
                    let Some(callback) = self.callbacks.get_mut(&callback) else {
                        continue;
                    };
                    callback.attempts += 1;
                    callback.slot = None;
                    let forgery = callback.forgery.filter(|_| callback.attempts <= callback.forged);
                    (callback.letter.clone(), forgery, Some(callback.attempts))
                }
            };
            let attempt_no = attempt.map_or_else(|| "copy".to_owned(), |attempt| attempt.to_string());
            let chance = self.numbers_of(&["signer", &letter.id, &attempt_no]).next().is_multiple_of(2);
            let keys = KeysInForce { chance, ..self.play.keys() };
            attempts.push(Attempt { letter, forgery, copy: attempt.is_none(), keys });
        }
        attempts
    }

    /// When [`World::take_due`] will next have something.
    pub(crate) fn next_due(&self) -> Option<OffsetDateTime> {
        self.agenda.next()
    }

    /// What became of an attempt. Success ends a callback, anything else is tried again until the schedule ends.
    pub(crate) fn attempted(&mut self, id: &str, accepted: bool, now: OffsetDateTime) {
        if let Some(callback) = self.callbacks.get(id) {
            let wait = RESENDS.get((callback.attempts as usize).saturating_sub(1)).copied();
            match wait {
                Some(seconds) if !accepted => self.send_at(id, now + self.sped_up(seconds)),
                _ => {
                    self.callbacks.remove(id);
                    self.journal.record("told", &id);
                }
            }
        }
        if let Some(held) = self.held_back.take()
            && held != id
            && let Some(slot) = self.callbacks.get(&held).and_then(|callback| callback.slot)
        {
            self.agenda.strike(slot);
            self.send_at(&held, now);
        }
    }

    /// How many callbacks have not been accepted yet.
    pub(crate) fn callbacks_under_way(&self) -> usize {
        self.callbacks.len()
    }

    pub(super) fn sped_up(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds).div_f64(self.settings.callback_speed)
    }
}
