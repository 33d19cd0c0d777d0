//! What a simulator is told at its start.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// Settings of one simulator. `Default` suits tests: fixed names, real resend times, nothing kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The one appid that is bound to [`Settings::mchid`]; also the Official Account's.
    pub appid: String,
    /// The one merchant.
    pub mchid: String,
    /// The Official Account's secret.
    pub official_account_secret: String,
    /// Template ids of the account. Empty: every id is known.
    pub templates: Vec<String>,
    /// How much faster than in life callbacks are resent and refunds settle; 1.0 is real time.
    pub callback_speed: f64,
    /// Which keys sign answers and callbacks.
    pub key_mode: KeyMode,
    /// Longest silence on a connection before it is closed.
    pub idle_close: Duration,
    /// Hour of the day after, in China, from which a day's bill can be had; WeChat's is 10.
    pub bill_hour: u8,
    /// Seed of every code, number and chance of the run; a script may name another for its chance.
    pub seed: u64,
    /// Address told to people; by default the listener's.
    pub public_url: Option<String>,
    /// Where a refund without a notify_url of its own is announced; by default nowhere.
    pub refund_notify_url: Option<String>,
    /// Journal that lets a restarted simulator remember its books.
    pub state: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            appid: "wx8888888888888888".into(),
            mchid: "1900000109".into(),
            official_account_secret: "wechat-sim-official-account-secret".into(),
            templates: Vec::new(),
            callback_speed: 1.0,
            key_mode: KeyMode::PublicKey,
            idle_close: Duration::from_secs(8),
            bill_hour: 10,
            seed: 1,
            public_url: None,
            refund_notify_url: None,
            state: None,
        }
    }
}

/// Which of WeChat's keys are alive (WeChat Pay: public key mode, and the switch to it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyMode {
    /// A merchant of today: one public key, no platform certificates at all.
    PublicKey,
    /// A merchant of old: platform certificates only.
    Certificate,
    /// In the middle of the switch: answers are signed as the request asks, callbacks by either.
    Both,
}
