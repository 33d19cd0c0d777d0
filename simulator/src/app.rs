//! What every handler shares: the world behind its lock, the keys, the clock.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use anyhow::{Context as _, Result};
use time::{Duration, OffsetDateTime};
use tokio::sync::Notify;

use crate::{
    keys::{Keys, Signer},
    platform::Platform,
    settings::{KeyMode, Settings},
    world::{World, play::KeysInForce, script::Rotation},
};

/// One running simulator.
pub(crate) struct App {
    pub(crate) settings: Arc<Settings>,
    pub(crate) keys: Keys,
    pub(crate) platform: Platform,
    /// Where people reach it.
    pub(crate) public_url: String,
    /// Tells the courier that the agenda has changed.
    pub(crate) agenda_changed: Notify,
    state: Mutex<State>,
    advanced_seconds: AtomicI64,
    skew_seconds: AtomicI64,
}

struct State {
    world: World,
    journal: Option<File>,
}

impl State {
    /// A last line without its end was being written when the earlier life ended: nobody had been told of it.
    fn recall(settings: Arc<Settings>, path: &Path) -> Result<Self> {
        let mut journal = File::options().read(true).append(true).create(true).open(path)?;
        let mut lines = String::new();
        journal.read_to_string(&mut lines)?;
        lines.truncate(lines.rfind('\n').map_or(0, |end| end + 1));
        journal.set_len(lines.len() as u64)?;
        let world = World::recall(settings, &lines)?;
        Ok(Self { world, journal: Some(journal) })
    }
}

impl App {
    pub(crate) fn new(settings: Settings, keys: Keys, public_url: String) -> Result<Self> {
        let settings = Arc::new(settings);
        let state = match &settings.state {
            None => State { world: World::new(Arc::clone(&settings)), journal: None },
            Some(path) => State::recall(Arc::clone(&settings), path)
                .with_context(|| format!("cannot go on from {}", path.display()))?,
        };
        Ok(Self {
            settings,
            platform: Platform::new(&keys),
            keys,
            public_url,
            agenda_changed: Notify::new(),
            state: Mutex::new(state),
            advanced_seconds: AtomicI64::new(0),
            skew_seconds: AtomicI64::new(0),
        })
    }

    /// One short look at the world, or one complete change, written down before anybody can see it.
    /// Never held over a signature or an await.
    pub(crate) fn change<T>(&self, deed: impl FnOnce(&mut World) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = deed(&mut state.world);
        let records = state.world.take_records();
        if let Some(journal) = state.journal.as_mut().filter(|_| !records.is_empty())
            && let Err(reason) = journal.write_all(records.as_bytes())
        {
            tracing::error!(%reason, "the journal could not be written; a restart will not remember this");
        }
        result
    }

    /// The clock that signatures are stamped with and checked against: the machine's, or wrong on purpose.
    pub(crate) fn clock(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + Duration::seconds(self.skew_seconds.load(Ordering::Relaxed))
    }

    /// The world's time: the machine's clock, put forward by hand. Deadlines and waits follow it.
    pub(crate) fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + Duration::seconds(self.advanced_seconds.load(Ordering::Relaxed))
    }

    pub(crate) fn advance(&self, seconds: u32) {
        self.advanced_seconds.fetch_add(seconds.into(), Ordering::Relaxed);
        self.agenda_changed.notify_one();
    }

    /// How far WeChat's stamping clock is off.
    pub(crate) fn skew(&self, seconds: i32) {
        self.skew_seconds.store(seconds.into(), Ordering::Relaxed);
    }

    /// The key that signs an answer; `asked` is the request's `Wechatpay-Serial`.
    pub(crate) fn answering_key(&self, keys: KeysInForce, asked: Option<&str>) -> Signer {
        let asked = asked.and_then(|serial| self.platform.asked_for(serial));
        match (keys.mode.unwrap_or(self.settings.key_mode), asked) {
            (KeyMode::PublicKey | KeyMode::Both, Some(asked)) => asked,
            (KeyMode::PublicKey, None) => self.platform.newest_public(false),
            (KeyMode::Both | KeyMode::Certificate, _) => self.certificate(keys).clone(),
        }
    }

    /// The key that signs a callback: in the middle of the switch some come with the public key, and while there are
    /// two of those, some with either.
    pub(crate) fn callback_key(&self, keys: KeysInForce) -> Signer {
        match keys.mode.unwrap_or(self.settings.key_mode) {
            KeyMode::PublicKey => self.platform.newest_public(keys.chance),
            KeyMode::Both if keys.chance => self.platform.newest_public(false),
            KeyMode::Both | KeyMode::Certificate => self.certificate(keys).clone(),
        }
    }

    fn certificate(&self, keys: KeysInForce) -> &Signer {
        let [first, second] = &self.keys.platform_certificates;
        match keys.rotation {
            None | Some(Rotation::Listed) => &first.signer,
            Some(Rotation::Overlap) if !keys.chance => &first.signer,
            Some(Rotation::Overlap | Rotation::Signing | Rotation::Finished) => &second.signer,
        }
    }

    /// Whether a `Wechatpay-Serial` names any key of ours.
    pub(crate) fn knows_serial(&self, serial: &str) -> bool {
        self.platform.public(serial).is_some()
            || self.keys.platform_certificates.iter().any(|certificate| certificate.serial_no == serial)
    }
}
