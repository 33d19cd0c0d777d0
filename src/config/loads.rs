//! Which parts of the settings a process reads, so that a process is checked for what it uses and nothing else.

use crate::{setting::BadSetting, wechat::settings::PaySettings};

/// The parts that not every process reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loads {
    /// Sections `api` and `auth`.
    pub ingress: bool,
    pub personal: bool,
    pub pay: PayUse,
    pub official_account: bool,
}

/// What a process does with the merchant's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayUse {
    Nothing,
    /// Compares the merchant's numbers.
    Numbers,
    /// Calls WeChat.
    Calls,
    /// Calls WeChat and opens its callbacks.
    CallsAndCallbacks,
}

impl Loads {
    pub const EVERYTHING: Self =
        Self { ingress: true, personal: true, pay: PayUse::CallsAndCallbacks, official_account: true };
}

impl PayUse {
    /// Everything that is wrong with what this use reads.
    pub(super) fn problems(self, settings: &PaySettings) -> Vec<BadSetting> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Numbers => settings.numbers().err().unwrap_or_default(),
            Self::Calls => settings.load_to_call().err().unwrap_or_default(),
            Self::CallsAndCallbacks => settings.problems(),
        }
    }
}
