//! What an Official Account's `errcode` asks of us: one table.

/// What helps against an errcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// The token is dead: fetch another, repeat once.
    RefreshToken,
    /// WeChat is busy or we are too quick: the same again, later.
    RetryLater,
    /// A code nobody has explained to us: a few tries, then a person.
    RetryBounded,
    /// This person cannot be reached: never again.
    Drop,
    /// This message is wrong: a person mends it; the others go on.
    FixMessage,
    /// No message would go through: keep the messages, probe with one, alert.
    FixAndStop,
    /// The day's quota is used up: as `FixAndStop`, until tomorrow, China time.
    PauseUntilTomorrow,
}

/// Official Account, return codes of template sending. Matched by number only: `errmsg` ends in a changing id.
const REACTIONS: &[(i64, Reaction)] = &[
    (-1, Reaction::RetryLater),            // system busy
    (40001, Reaction::RefreshToken),       // token invalid
    (40014, Reaction::RefreshToken),       // token invalid
    (42001, Reaction::RefreshToken),       // token expired
    (41001, Reaction::FixAndStop),         // token missing
    (40003, Reaction::Drop),               // openid invalid
    (43004, Reaction::Drop),               // not a follower
    (43019, Reaction::Drop),               // on the blacklist
    (43101, Reaction::Drop),               // refused by the user
    (40013, Reaction::FixAndStop),         // appid
    (40125, Reaction::FixAndStop),         // secret
    (40164, Reaction::FixAndStop),         // our address is not on the white list
    (48001, Reaction::FixAndStop),         // not authorised
    (48002, Reaction::FixAndStop),         // forbidden
    (48004, Reaction::FixAndStop),         // forbidden after a violation
    (41002, Reaction::FixAndStop),         // appid missing
    (41004, Reaction::FixAndStop),         // secret missing
    (40243, Reaction::FixAndStop),         // secret frozen
    (50001, Reaction::FixAndStop),         // the account has not this right
    (50002, Reaction::FixAndStop),         // account restricted
    (40037, Reaction::FixMessage),         // template id
    (44002, Reaction::FixMessage),         // empty body
    (47001, Reaction::FixMessage),         // unreadable JSON
    (47003, Reaction::FixMessage),         // a value breaks its rule
    (45009, Reaction::PauseUntilTomorrow), // daily quota
    (45011, Reaction::RetryLater),         // too frequent
];

impl Reaction {
    pub(super) fn to_sending(errcode: i64) -> Self {
        REACTIONS.iter().find(|(code, _)| *code == errcode).map_or(Self::RetryBounded, |(_, reaction)| *reaction)
    }

    /// A token is every message's: what is refused here is refused for all, and 40001 means a wrong secret, as there is no
    /// token yet that could be dead.
    pub(super) fn to_token_request(errcode: i64) -> Self {
        match Self::to_sending(errcode) {
            Self::RetryLater => Self::RetryLater,
            Self::PauseUntilTomorrow => Self::PauseUntilTomorrow,
            Self::RefreshToken | Self::RetryBounded | Self::Drop | Self::FixMessage | Self::FixAndStop => {
                Self::FixAndStop
            }
        }
    }

    /// For metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::RefreshToken => "refresh_token",
            Self::RetryLater => "retry_later",
            Self::RetryBounded => "retry_bounded",
            Self::Drop => "drop",
            Self::FixMessage => "fix_message",
            Self::FixAndStop => "fix_and_stop",
            Self::PauseUntilTomorrow => "pause_until_tomorrow",
        }
    }
}
