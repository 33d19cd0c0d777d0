//! What goes wrong, by order: rules that strike operations by rate, count, order number or haste.
//! The format is told with examples in this package's README.

use serde::{Deserialize, Serialize};

use super::fault::{BillFault, CallbackFault, Fault, Forgery, Lost, LostAs, RefundFault, Scripted};
use crate::settings::KeyMode;

/// A moment at which something can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    Order,
    Query,
    Close,
    Refund,
    RefundQuery,
    RefundAbnormal,
    Bill,
    BillDownload,
    Certificates,
    Echo,
    TemplateSend,
    Token,
    CallbackPayment,
    CallbackRefund,
    CallbackEcho,
    /// A payment's row when a day is closed.
    BillPayment,
    /// A refund's row when a day is closed.
    BillRefund,
    /// In a rule only: every call, but no callback and no row.
    Any,
}

impl Operation {
    pub(super) fn covers(self, operation: Self) -> bool {
        self == operation || self == Self::Any && operation.is_call()
    }

    fn is_call(self) -> bool {
        !self.is_callback() && !self.is_row()
    }

    fn is_callback(self) -> bool {
        matches!(self, Self::CallbackPayment | Self::CallbackRefund | Self::CallbackEcho)
    }

    fn is_row(self) -> bool {
        matches!(self, Self::BillPayment | Self::BillRefund)
    }
}

/// The whole script; the empty one lets everything go well.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Script {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key_mode: Option<KeyMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rotation: Option<Rotation>,
    pub(super) rules: Vec<Rule>,
}

/// How far the change to the second platform certificate has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rotation {
    /// Both are listed, the first still signs.
    Listed,
    /// Both are listed, either signs.
    Overlap,
    /// Both are listed, the second signs.
    Signing,
    /// Only the second is left.
    Finished,
}

/// One thing that goes wrong: where, when, what.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) on: Operation,
    /// Only for this out_trade_no (messages: only for this openid).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) order: Option<String>,
    /// Share of operations struck, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rate: Option<f64>,
    /// Strikes so many times, then never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<u64>,
    /// Strikes the calls beyond so many in one second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) beyond_per_second: Option<u64>,
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
    /// Said in the place of `trade_state` or `status`, under a right signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bill: Option<BillFault>,
    #[serde(default, skip_serializing_if = "is_false")]
    damaged: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    expire_token: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    revoke_token: bool,
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

    /// The error that the rule names, if it does.
    fn error(&self) -> Option<Scripted> {
        let status = self.status?;
        Some(Scripted { status, code: self.code.clone(), message: self.message.clone(), html: self.html })
    }

    pub(super) fn add_to(&self, fault: &mut Fault) {
        if let Some(latency) = self.latency_ms {
            fault.latency_ms = fault.latency_ms.saturating_add(latency);
        }
        let lost = self.answer_lost.map(|lost| match lost {
            Lost::Dropped => LostAs::Dropped,
            Lost::Error => {
                LostAs::Error(self.error().unwrap_or(Scripted { status: 500, code: None, message: None, html: false }))
            }
        });
        let instead = if lost.is_some() { None } else { self.error() };
        fault.lost = fault.lost.take().or(lost);
        fault.instead = fault.instead.take().or(instead);
        fault.errcode = fault.errcode.or(self.errcode);
        fault.forgery = fault.forgery.or(self.forgery());
        fault.refund = fault.refund.or(self.refund);
        fault.state = fault.state.take().or_else(|| self.state.clone());
        fault.bill = fault.bill.or(self.bill);
        fault.damaged |= self.damaged;
        fault.expire_token |= self.expire_token;
        fault.revoke_token |= self.revoke_token;
        let attempts = self.attempts.unwrap_or(1);
        fault.callback = fault.callback.or(self.callback.map(|fault| (fault, attempts)));
    }

    /// A rule that could never do what it says is an error, not a surprise.
    fn check(&self) -> Result<(), &'static str> {
        use Operation as On;
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
        if self.answer_lost == Some(Lost::Dropped) && self.status.is_some() {
            return Err("an answer that is dropped has no `status`: \"answer_lost\": \"error\" has one");
        }
        if self.callback.is_some() && !self.on.is_callback() {
            return Err("`callback` goes with `on`: callback_payment, callback_refund or callback_echo");
        }
        if self.attempts.is_some() && self.callback.and_then(CallbackFault::forgery).is_none() {
            return Err("`attempts` goes with a forged `callback`");
        }
        if self.on.is_callback() && of_answers {
            return Err("callbacks go wrong by `callback`, e.g. {\"late_ms\": 500} or \"signtest\"");
        }
        if self.bill.is_some() != self.on.is_row() || self.on.is_row() && of_answers {
            return Err("`bill` goes with `on`: bill_payment or bill_refund, and nothing else does");
        }
        if self.damaged && self.on != On::BillDownload {
            return Err("`damaged` goes with `on`: bill_download");
        }
        if self.on == On::BillDownload && self.forgery().is_some() {
            return Err("downloads are not signed");
        }
        if self.errcode.is_some() && !of_account {
            return Err("`errcode` goes with `on`: template_send or token");
        }
        if (self.expire_token || self.revoke_token) && self.on != On::TemplateSend {
            return Err("`expire_token` and `revoke_token` go with `on`: template_send");
        }
        if of_account && self.forgery().is_some() {
            return Err("answers of the Official Account are not signed");
        }
        if self.refund.is_some() && self.on != On::Refund {
            return Err("`refund` goes with `on`: refund");
        }
        if self.state.is_some() && !matches!(self.on, On::Query | On::Refund | On::RefundQuery) {
            return Err("`state` goes with `on`: query, refund or refund_query");
        }
        let nothing = !of_answers
            && self.callback.is_none()
            && self.errcode.is_none()
            && self.refund.is_none()
            && self.state.is_none()
            && self.bill.is_none()
            && !self.damaged
            && !self.expire_token
            && !self.revoke_token;
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
