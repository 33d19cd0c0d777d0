//! Refunds: accepted at once, settled later (WeChat Pay: refund, refund query, refund callback).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::{Outcome, Reply, World, agenda::Event, callback::Subject, fault::RefundFault, letter::News, order::Order};
use crate::refusal::Refusal;

/// Seconds of life until an undisturbed refund is settled; in life it is minutes to days.
const SETTLES_AFTER: u64 = 3;
const MOST_PER_ORDER: usize = 50;
const BETWEEN_REFUNDS: Duration = Duration::minutes(1);
const REFUNDABLE_FOR: Duration = Duration::days(365);

/// One refund, under one `out_refund_no` for ever.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Refund {
    pub(super) number: u64,
    pub(super) out_refund_no: String,
    pub(super) refund_id: String,
    pub(super) out_trade_no: String,
    pub(super) transaction_id: String,
    /// The whole first request: asking again must repeat it.
    parameters: Value,
    /// Fen.
    pub(super) refund: i64,
    total: i64,
    pub(super) created_at: OffsetDateTime,
    /// When it will be settled, and when it was.
    pub(super) settles_at: OffsetDateTime,
    pub(super) settled_at: Option<OffsetDateTime>,
    pub(super) status: RefundStatus,
    /// What it will be once settled.
    fate: RefundStatus,
}

/// What staff type in the merchant platform.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StaffRefund {
    pub(crate) out_trade_no: String,
    /// Fen; all that is left when absent.
    refund: Option<i64>,
    out_refund_no: Option<String>,
    /// As set up in the merchant platform, where another one than of the settings.
    notify_url: Option<String>,
    #[serde(default)]
    fate: StaffFate,
}

/// How it ends.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum StaffFate {
    #[default]
    Success,
    Abnormal,
    Closed,
}

/// Where a refund stands (WeChat Pay: status, in callbacks refund_status).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum RefundStatus {
    Processing,
    Success,
    Closed,
    Abnormal,
}

impl RefundStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Processing => "PROCESSING",
            Self::Success => "SUCCESS",
            Self::Closed => "CLOSED",
            Self::Abnormal => "ABNORMAL",
        }
    }
}

impl Refund {
    fn document(&self) -> Value {
        let mut document = json!({
            "refund_id": self.refund_id,
            "out_refund_no": self.out_refund_no,
            "transaction_id": self.transaction_id,
            "out_trade_no": self.out_trade_no,
            "channel": "ORIGINAL",
            "user_received_account": "支付用户零钱",
            "create_time": super::china(self.created_at),
            "status": self.status.as_str(),
            "funds_account": "AVAILABLE",
            "amount": {
                "total": self.total, "refund": self.refund, "from": [],
                "payer_total": self.total, "payer_refund": self.refund,
                "settlement_total": self.total, "settlement_refund": self.refund,
                "discount_refund": 0, "currency": "CNY",
            },
            "promotion_detail": [],
        });
        if let (RefundStatus::Success, Some(at)) = (self.status, self.settled_at) {
            document["success_time"] = json!(super::china(at));
        }
        document
    }

    /// What the callback says: fewer members, and another name for the status.
    fn news(&self, mchid: &str) -> Value {
        let mut news = json!({
            "mchid": mchid,
            "transaction_id": self.transaction_id,
            "out_trade_no": self.out_trade_no,
            "refund_id": self.refund_id,
            "out_refund_no": self.out_refund_no,
            "refund_status": self.status.as_str(),
            "user_received_account": "支付用户零钱",
            "amount": {
                "total": self.total, "refund": self.refund,
                "payer_total": self.total, "payer_refund": self.refund,
            },
        });
        if let (RefundStatus::Success, Some(at)) = (self.status, self.settled_at) {
            news["success_time"] = json!(super::china(at));
        }
        news
    }
}

impl World {
    /// The order number that a refund request is about, for the script; empty when there is none.
    pub(crate) fn refund_subject(&self, parameters: &Value) -> String {
        let text = |name: &str| parameters[name].as_str().unwrap_or_default();
        let by_transaction = self.transactions.get(text("transaction_id")).cloned();
        by_transaction.unwrap_or_else(|| text("out_trade_no").to_owned())
    }

    /// Accepts a refund, or answers how the same one stands. `parameters` went through `fields`.
    pub(crate) fn refund(&mut self, parameters: Value, fault: Option<RefundFault>, now: OffsetDateTime) -> Outcome {
        let text = |name: &str| parameters[name].as_str().unwrap_or_default();
        let amount = |name: &str| parameters["amount"][name].as_i64().unwrap_or_default();
        if text("transaction_id").is_empty() && text("out_trade_no").is_empty() {
            let issue = "transaction_id和out_trade_no必须二选一";
            return Err(Refusal::field("body", "/transaction_id", &Value::Null, issue));
        }
        if let Some(refund) = self.refunds.get(text("out_refund_no")) {
            if refund.parameters != parameters {
                return Err(Refusal::invalid("退款单号重入时，参数与首次请求时不一致", 268_498_688));
            }
            return Ok(Reply::Document(refund.document()));
        }

        let order = self.orders.get(&self.refund_subject(&parameters));
        let order = order.ok_or_else(|| Refusal::no_resource("订单不存在"))?;
        let Some(payment) = &order.payment else {
            return Err(Refusal::no_resource("订单未支付或已关闭"));
        };
        let (refund, total) = (amount("refund"), amount("total"));
        self.may_refund(order, refund, total, now)?;
        if !text("out_trade_no").is_empty() && text("out_trade_no") != order.out_trade_no {
            return Err(Refusal::invalid("transaction_id与out_trade_no不是同一订单", 268_447_843));
        }
        let fate = match fault {
            Some(RefundFault::NotEnough) => {
                return Err(Refusal::new(403, "NOT_ENOUGH", "基本账户余额不足，请充值后重新发起", 268_435_464));
            }
            Some(RefundFault::UserAccountAbnormal) => {
                return Err(Refusal::new(403, "USER_ACCOUNT_ABNORMAL", "用户账户异常或注销", 268_435_464));
            }
            Some(RefundFault::Abnormal) => RefundStatus::Abnormal,
            Some(RefundFault::Closed) => RefundStatus::Closed,
            Some(RefundFault::SlowMs(_)) | None => RefundStatus::Success,
        };
        let out_refund_no = text("out_refund_no").to_owned();
        let out_trade_no = order.out_trade_no.clone();
        let transaction_id = payment.transaction_id.clone();

        let takes = match fault {
            Some(RefundFault::SlowMs(slow)) => std::time::Duration::from_millis(slow),
            _ => self.sped_up(SETTLES_AFTER),
        };
        let refund = Refund {
            refund_id: self.transaction_id("5030", &out_refund_no, now),
            number: self.next_number(),
            out_refund_no,
            out_trade_no,
            transaction_id,
            parameters,
            refund,
            total,
            created_at: now,
            settles_at: now + takes,
            settled_at: None,
            status: RefundStatus::Processing,
            fate,
        };
        let document = refund.document();
        self.journal.record("refund", &refund);
        self.enter_refund(refund);
        Ok(Reply::Document(document))
    }

    /// Staff of the merchant refund in the merchant platform: no call of the merchant's system is behind it. All that is
    /// left when no sum is given; the number is the platform's own when none is given.
    pub(crate) fn refund_by_staff(&mut self, wish: StaffRefund, now: OffsetDateTime) -> Result<Value, Refusal> {
        let order = self.orders.get(&wish.out_trade_no).ok_or_else(|| Refusal::no_resource("订单不存在"))?;
        let refunds = order.refunds.iter().filter_map(|number| self.refunds.get(number));
        let left = refunds
            .filter(|earlier| earlier.status != RefundStatus::Closed)
            .fold(order.total, |left, earlier| left.saturating_sub(earlier.refund));
        let count = order.refunds.len();
        let refund = wish.refund.unwrap_or(left);
        let number = wish.out_refund_no.unwrap_or_else(|| format!("{}M{count}", wish.out_trade_no));
        let mut parameters = json!({
            "out_trade_no": wish.out_trade_no, "out_refund_no": number, "reason": "商户平台退款",
            "amount": { "refund": refund, "total": order.total, "currency": "CNY" },
        });
        if let Some(notify_url) = wish.notify_url {
            parameters["notify_url"] = json!(notify_url);
        }
        if refund <= 0 {
            return Err(Refusal::invalid("退款金额大于可退金额", 268_435_464));
        }
        let fate = match wish.fate {
            StaffFate::Success => None,
            StaffFate::Abnormal => Some(RefundFault::Abnormal),
            StaffFate::Closed => Some(RefundFault::Closed),
        };
        match self.refund(parameters, fate, now)? {
            Reply::Document(document) => Ok(document),
            Reply::Nothing | Reply::File { .. } => Err(Refusal::invalid("退款失败", 268_435_464)),
        }
    }

    /// Puts a refund into the books, and its settling into the agenda.
    pub(super) fn enter_refund(&mut self, refund: Refund) {
        let number = refund.out_refund_no.clone();
        if refund.status == RefundStatus::Processing {
            self.agenda.note(refund.settles_at, Event::Settle { out_refund_no: number.clone() });
        }
        if let Some(order) = self.orders.get_mut(&refund.out_trade_no) {
            order.refunds.push(number.clone());
        }
        self.refunds.insert(number, refund);
    }

    fn may_refund(&self, order: &Order, refund: i64, total: i64, now: OffsetDateTime) -> Result<(), Refusal> {
        if total != order.total {
            return Err(Refusal::invalid("订单金额与退款请求中的total不一致", 268_498_688));
        }
        if order.payment.as_ref().is_some_and(|payment| now > payment.paid_at + REFUNDABLE_FOR) {
            return Err(Refusal::invalid("订单已超过可退款的最大期限", 268_447_914));
        }
        if order.refunds.len() >= MOST_PER_ORDER {
            return Err(Refusal::invalid("订单退款次数已达50次", 268_435_464));
        }
        let earlier = || order.refunds.iter().filter_map(|number| self.refunds.get(number));
        let left = earlier()
            .filter(|earlier| earlier.status != RefundStatus::Closed)
            .try_fold(order.total, |left, earlier| left.checked_sub(earlier.refund))
            .unwrap_or_default();
        if refund > left {
            return Err(Refusal::invalid("退款金额大于可退金额", 268_435_464));
        }
        if earlier().any(|earlier| now < earlier.created_at + BETWEEN_REFUNDS) {
            return Err(Refusal::new(429, "FREQUENCY_LIMITED", "同一订单两次退款需间隔1分钟", 268_447_840));
        }
        Ok(())
    }

    /// Sends the money of an ABNORMAL refund another way (WeChat Pay: apply-abnormal-refund).
    pub(crate) fn refund_abnormal(&mut self, refund_id: &str, parameters: &Value, now: OffsetDateTime) -> Outcome {
        let number = parameters["out_refund_no"].as_str().unwrap_or_default();
        let to_customer = parameters["type"] == "USER_BANK_CARD";
        if to_customer && ["bank_type", "bank_account", "real_name"].iter().any(|name| parameters.get(name).is_none()) {
            return Err(Refusal::field("body", "/bank_account", &Value::Null, "退款至用户银行卡时为必填参数"));
        }
        let settles_at = now + self.sped_up(SETTLES_AFTER);
        let refund = self.refunds.get_mut(number).filter(|refund| refund.refund_id == refund_id);
        let refund = refund.ok_or_else(|| Refusal::no_resource("退款单不存在"))?;
        if refund.status != RefundStatus::Abnormal {
            return Err(Refusal::invalid("退款单状态不是退款异常", 268_447_914));
        }
        refund.status = RefundStatus::Processing;
        refund.fate = RefundStatus::Success;
        refund.settles_at = settles_at;
        self.agenda.note(settles_at, Event::Settle { out_refund_no: number.to_owned() });
        self.journal.record("refund", refund);
        Ok(Reply::Document(refund.document()))
    }

    pub(crate) fn query_refund(&self, out_refund_no: &str) -> Outcome {
        let refund = self.refunds.get(out_refund_no).ok_or_else(|| Refusal::no_resource("退款单不存在"))?;
        Ok(Reply::Document(refund.document()))
    }

    /// The order number behind a refund number, for the script.
    pub(crate) fn order_of_refund(&self, out_refund_no: &str) -> &str {
        self.refunds.get(out_refund_no).map(|refund| refund.out_trade_no.as_str()).unwrap_or_default()
    }

    /// The money arrives, or does not.
    pub(super) fn settle(&mut self, out_refund_no: &str, now: OffsetDateTime) {
        let Some(refund) = self.refunds.get_mut(out_refund_no) else {
            return;
        };
        refund.status = refund.fate;
        refund.settled_at = Some(now);
        let news = match refund.fate {
            RefundStatus::Success => News::RefundSucceeded,
            RefundStatus::Closed => News::RefundClosed,
            RefundStatus::Abnormal => News::RefundAbnormal,
            RefundStatus::Processing => return,
        };
        self.journal.record("refund", refund);
        let subject = Subject {
            news,
            out_trade_no: refund.out_trade_no.clone(),
            number: refund.refund_id.clone(),
            notify_url: refund.parameters["notify_url"]
                .as_str()
                .or(self.settings.refund_notify_url.as_deref())
                .unwrap_or_default()
                .to_owned(),
            resource: refund.news(&self.settings.mchid),
        };
        self.announce(subject, now);
    }
}
