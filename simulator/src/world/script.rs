//! What goes wrong, by order: rules that strike operations by rate, count or order number.
//! The format is told with examples in this package's README.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{random, settings::KeyMode};

/// A moment at which something can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    Order,
    Query,
    Close,
    Refund,
    RefundQuery,
    Certificates,
    TemplateSend,
    Token,
    CallbackPayment,
    CallbackRefund,
    /// In a rule only: every call, but no callback.
    Any,
}

impl Operation {
    fn covers(self, operation: Self) -> bool {
        self == operation || self == Self::Any && !matches!(operation, Self::CallbackPayment | Self::CallbackRefund)
    }
}

/// The whole script; the empty one lets everything go well.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Script {
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_mode: Option<KeyMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation: Option<Rotation>,
    rules: Vec<Rule>,
}

/// How far the change to the second platform certificate has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rotation {
    /// Both are listed, the first still signs.
    Listed,
    /// Both are listed, the second signs.
    Signing,
}

/// One thing that goes wrong: where, when, what.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    on: Operation,
    /// Only for this out_trade_no (messages: only for this openid).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order: Option<String>,
    /// Share of operations struck, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    /// Strikes so many times, then never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer_lost: Option<Lost>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    html: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    errcode: Option<i64>,
    #[serde(default, skip_serializing_if = "is_false")]
    signtest: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    wrong_signature: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    wrong_key: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    replayed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    callback: Option<CallbackFault>,
    /// Attempts of a callback that are forged before a right one; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refund: Option<RefundFault>,
    #[serde(default, skip_serializing_if = "is_false")]
    expire_token: bool,
}

/// How an answer is lost after the deed was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", try_from = "serde_json::Value")]
pub(crate) enum Lost {
    /// The connection breaks without a byte.
    Dropped,
    /// 500 SYSTEM_ERROR.
    Error,
}

impl TryFrom<serde_json::Value> for Lost {
    type Error = &'static str;

    fn try_from(value: serde_json::Value) -> Result<Self, &'static str> {
        match value {
            serde_json::Value::Bool(true) => Ok(Self::Dropped),
            serde_json::Value::String(how) if how == "dropped" => Ok(Self::Dropped),
            serde_json::Value::String(how) if how == "error" => Ok(Self::Error),
            _ => Err("`answer_lost` is true, \"dropped\" or \"error\""),
        }
    }
}

/// A signature that must not be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Forgery {
    /// WeChat's own probe: the signature starts with `WECHATPAY/SIGNTEST/`.
    Signtest,
    /// Right serial, signature of something else.
    WrongSignature,
    /// A serial nobody knows.
    WrongKey,
    /// A right signature, ten minutes old.
    Replayed,
}

/// What becomes of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CallbackFault {
    LateMs(u64),
    Twice,
    Never,
    Reordered,
    WrongAmount,
    WrongSignature,
    WrongKey,
    Signtest,
    Replayed,
}

impl CallbackFault {
    pub(super) fn forgery(self) -> Option<Forgery> {
        match self {
            Self::WrongSignature => Some(Forgery::WrongSignature),
            Self::WrongKey => Some(Forgery::WrongKey),
            Self::Signtest => Some(Forgery::Signtest),
            Self::Replayed => Some(Forgery::Replayed),
            Self::LateMs(_) | Self::Twice | Self::Never | Self::Reordered | Self::WrongAmount => None,
        }
    }
}

/// What becomes of a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum RefundFault {
    Abnormal,
    Closed,
    NotEnough,
    UserAccountAbnormal,
    #[serde(rename = "slow_ms")]
    SlowMs(u64),
}

/// An error that is answered instead of doing the deed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scripted {
    pub(crate) status: u16,
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) html: bool,
}

/// All that goes wrong with one operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fault {
    pub(crate) latency_ms: u64,
    pub(crate) lost: Option<Lost>,
    pub(crate) instead: Option<Scripted>,
    pub(crate) errcode: Option<i64>,
    pub(crate) forgery: Option<Forgery>,
    pub(crate) callback: Option<(CallbackFault, u32)>,
    pub(crate) refund: Option<RefundFault>,
    pub(crate) expire_token: bool,
}

/// A script being played: the rules, and what they have struck so far.
#[derive(Debug)]
pub(crate) struct Play {
    script: Script,
    default_seed: u64,
    struck: Vec<u64>,
    /// How often each rule with a rate was asked about each order: chance depends on nothing else.
    asked: HashMap<(usize, String), u64>,
}

impl Play {
    pub(crate) fn new(default_seed: u64) -> Self {
        Self { script: Script::default(), default_seed, struck: Vec::new(), asked: HashMap::new() }
    }

    /// Puts a new script in the place of the old one.
    pub(crate) fn start(&mut self, script: Script) {
        *self = Self { struck: vec![0; script.rules.len()], script, ..Self::new(self.default_seed) };
    }

    pub(crate) fn script(&self) -> &Script {
        &self.script
    }

    pub(crate) fn struck(&self) -> &[u64] {
        &self.struck
    }

    /// Which keys sign, where the script says so, and how far their change has come.
    pub(crate) fn keys(&self) -> (Option<KeyMode>, Option<Rotation>) {
        (self.script.key_mode, self.script.rotation)
    }

    /// What goes wrong now. Rules add up; where two say the same thing, the earlier one stands.
    pub(crate) fn draw(&mut self, operation: Operation, subject: &str) -> Fault {
        let mut fault = Fault::default();
        let seed = self.script.seed.unwrap_or(self.default_seed);
        for (index, rule) in self.script.rules.iter().enumerate() {
            let struck = &mut self.struck[index];
            if !rule.on.covers(operation)
                || rule.order.as_deref().is_some_and(|order| order != subject)
                || rule.count.is_some_and(|count| *struck >= count)
            {
                continue;
            }
            if let Some(rate) = rule.rate {
                let asked = self.asked.entry((index, subject.to_owned())).or_default();
                *asked += 1;
                let key: [&[u8]; 3] = [&index.to_le_bytes(), subject.as_bytes(), &asked.to_le_bytes()];
                if f64::from(random::per_million(seed, &key)) >= millions(rate) {
                    continue;
                }
            }
            *struck += 1;
            rule.add_to(&mut fault);
        }
        fault
    }
}

#[expect(clippy::float_arithmetic, reason = "a chance, not money")]
fn millions(rate: f64) -> f64 {
    rate * 1e6
}

impl Rule {
    fn forgery(&self) -> Option<Forgery> {
        [
            (self.signtest, Forgery::Signtest),
            (self.wrong_signature, Forgery::WrongSignature),
            (self.wrong_key, Forgery::WrongKey),
            (self.replayed, Forgery::Replayed),
        ]
        .into_iter()
        .find_map(|(asked, forgery)| asked.then_some(forgery))
    }

    fn add_to(&self, fault: &mut Fault) {
        if let Some(latency) = self.latency_ms {
            fault.latency_ms = fault.latency_ms.saturating_add(latency);
        }
        fault.lost = fault.lost.or(self.answer_lost);
        fault.errcode = fault.errcode.or(self.errcode);
        fault.forgery = fault.forgery.or(self.forgery());
        fault.refund = fault.refund.or(self.refund);
        fault.expire_token |= self.expire_token;
        let attempts = self.attempts.unwrap_or(1);
        fault.callback = fault.callback.or(self.callback.map(|fault| (fault, attempts)));
        if fault.instead.is_none()
            && let Some(status) = self.status
        {
            fault.instead =
                Some(Scripted { status, code: self.code.clone(), message: self.message.clone(), html: self.html });
        }
    }

    /// A rule that could never do what it says is an error, not a surprise.
    fn check(&self) -> Result<(), &'static str> {
        use Operation as On;
        let of_callbacks = matches!(self.on, On::CallbackPayment | On::CallbackRefund);
        let of_account = matches!(self.on, On::TemplateSend | On::Token);
        let of_answers = self.latency_ms.is_some()
            || self.answer_lost.is_some()
            || self.status.is_some()
            || self.forgery().is_some();
        if self.rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
            return Err("`rate` is a number from 0 to 1");
        }
        if self.status.is_some_and(|status| !(400..600).contains(&status)) {
            return Err("`status` is an error's: 400 to 599");
        }
        if self.status.is_none() && (self.code.is_some() || self.message.is_some() || self.html) {
            return Err("`code`, `message` and `html` go with a `status`");
        }
        if self.callback.is_some() && !of_callbacks {
            return Err("`callback` goes with `on`: callback_payment or callback_refund");
        }
        if self.attempts.is_some() && self.callback.and_then(CallbackFault::forgery).is_none() {
            return Err("`attempts` goes with a forged `callback`");
        }
        if of_callbacks && of_answers {
            return Err("callbacks go wrong by `callback`, e.g. {\"late_ms\": 500} or \"signtest\"");
        }
        if self.errcode.is_some() && !of_account {
            return Err("`errcode` goes with `on`: template_send or token");
        }
        if self.expire_token && self.on != On::TemplateSend {
            return Err("`expire_token` goes with `on`: template_send");
        }
        if of_account && self.forgery().is_some() {
            return Err("answers of the Official Account are not signed");
        }
        if self.refund.is_some() && self.on != On::Refund {
            return Err("`refund` goes with `on`: refund");
        }
        let nothing = !of_answers
            && self.callback.is_none()
            && self.errcode.is_none()
            && self.refund.is_none()
            && !self.expire_token;
        if nothing { Err("says nothing that goes wrong") } else { Ok(()) }
    }
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// Says what cannot be understood, and in which rule.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, String> {
        let script: Self = serde_json::from_slice(body).map_err(|reason| reason.to_string())?;
        for (index, rule) in script.rules.iter().enumerate() {
            rule.check().map_err(|reason| format!("rules[{index}]: {reason}"))?;
        }
        Ok(script)
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}
