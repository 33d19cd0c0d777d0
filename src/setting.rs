//! What can be wrong with a setting. Here, because every part has settings and none should know another for it.

use std::fmt;

/// One thing that is wrong with one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSetting {
    /// As in the settings file: `wechat_pay.apiv3_key`.
    pub setting: String,
    /// Completes the sentence that begins with the setting: "is missing".
    pub what: String,
}

impl fmt::Display for BadSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.setting, self.what)
    }
}
