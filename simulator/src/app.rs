//! What every handler shares: the world behind its lock, the keys, the clock.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicI64, Ordering},
};

use time::{Duration, OffsetDateTime};
use tokio::sync::Notify;

use crate::{
    keys::{Keys, Signer},
    settings::{KeyMode, Settings},
    world::{World, script::Rotation},
};

/// One running simulator.
pub(crate) struct App {
    pub(crate) settings: Arc<Settings>,
    pub(crate) keys: Keys,
    /// Where people reach it.
    pub(crate) public_url: String,
    /// Tells the courier that the agenda has changed.
    pub(crate) agenda_changed: Notify,
    world: Mutex<World>,
    advanced_seconds: AtomicI64,
}

impl App {
    pub(crate) fn new(settings: Arc<Settings>, keys: Keys, public_url: String, world: World) -> Self {
        Self {
            settings,
            keys,
            public_url,
            agenda_changed: Notify::new(),
            world: Mutex::new(world),
            advanced_seconds: AtomicI64::new(0),
        }
    }

    /// The world, for one short and complete change: never held over a signature or an await.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine's clock, which signatures are stamped with and checked against.
    pub(crate) fn clock() -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    /// The world's time: the clock, put forward by hand. Deadlines and waits follow it.
    pub(crate) fn now(&self) -> OffsetDateTime {
        Self::clock() + Duration::seconds(self.advanced_seconds.load(Ordering::Relaxed))
    }

    pub(crate) fn advance(&self, seconds: u32) {
        self.advanced_seconds.fetch_add(seconds.into(), Ordering::Relaxed);
        self.agenda_changed.notify_one();
    }

    /// The key that signs an answer; `asked` is the request's `Wechatpay-Serial`.
    pub(crate) fn answering_key(
        &self,
        mode: Option<KeyMode>,
        rotation: Option<Rotation>,
        asked: Option<&str>,
    ) -> &Signer {
        match mode.unwrap_or(self.settings.key_mode) {
            KeyMode::PublicKey => &self.keys.public,
            KeyMode::Both if asked.is_some_and(|serial| serial == self.keys.public_key_id) => &self.keys.public,
            KeyMode::Both | KeyMode::Certificate => self.certificate(rotation),
        }
    }

    /// The key that signs a callback: in the middle of the switch every second one comes with the public key.
    pub(crate) fn callback_key(&self, mode: Option<KeyMode>, rotation: Option<Rotation>, turn: u64) -> &Signer {
        match mode.unwrap_or(self.settings.key_mode) {
            KeyMode::PublicKey => &self.keys.public,
            KeyMode::Both if turn.is_multiple_of(2) => &self.keys.public,
            KeyMode::Both | KeyMode::Certificate => self.certificate(rotation),
        }
    }

    fn certificate(&self, rotation: Option<Rotation>) -> &Signer {
        let [first, second] = &self.keys.platform_certificates;
        match rotation {
            Some(Rotation::Signing) => &second.signer,
            Some(Rotation::Listed) | None => &first.signer,
        }
    }

    /// Whether a `Wechatpay-Serial` names any key of ours.
    pub(crate) fn knows_serial(&self, serial: &str) -> bool {
        serial == self.keys.public_key_id
            || self.keys.platform_certificates.iter().any(|certificate| certificate.serial_no == serial)
    }
}
