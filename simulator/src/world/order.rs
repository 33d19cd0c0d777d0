//! Orders: placing, placing again, asking, closing (WeChat Pay: native order, jsapi order, query, close).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Outcome, Reply, World};
use crate::refusal::Refusal;

/// A code_url or prepay_id dies after this, whatever the order's own deadline.
pub(super) const CODE_LIFE: Duration = Duration::hours(2);
/// Left out, `time_expire` means this; and an unpaid order is closed by WeChat after it.
const DEFAULT_LIFE: Duration = Duration::days(7);
const SHORTEST_LIFE: Duration = Duration::minutes(1);
const LONGEST_LIFE: Duration = Duration::days(15);

/// How the customer comes to pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum TradeType {
    /// By scanning a code.
    Native,
    /// Inside WeChat.
    Jsapi,
}

impl TradeType {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Native => "NATIVE",
            Self::Jsapi => "JSAPI",
        }
    }
}

/// One order, under one `out_trade_no` for ever.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(super) number: u64,
    pub(super) out_trade_no: String,
    pub(super) trade_type: TradeType,
    /// The whole first request: placing again must repeat it.
    pub(super) parameters: Value,
    /// Fen.
    pub(super) total: i64,
    pub(super) created_at: OffsetDateTime,
    pub(super) pay_before: OffsetDateTime,
    /// `pr` of the code_url, or the prepay_id, that works now, and since when.
    pub(super) code: (String, OffsetDateTime),
    /// How many codes it has had.
    pub(super) codes: u32,
    pub(super) closed: bool,
    pub(super) payment: Option<Payment>,
    /// Numbers of its refunds, as they came; told by the refunds themselves after a restart.
    #[serde(skip)]
    pub(super) refunds: Vec<String>,
}

/// The customer's payment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Payment {
    pub(super) transaction_id: String,
    pub(super) openid: String,
    pub(super) paid_at: OffsetDateTime,
}

/// Where an order stands (WeChat Pay: trade_state).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TradeState {
    NotPay,
    Closed,
    Success,
    /// Paid, and a refund was at least started.
    Refund,
}

impl TradeState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NotPay => "NOTPAY",
            Self::Closed => "CLOSED",
            Self::Success => "SUCCESS",
            Self::Refund => "REFUND",
        }
    }

    fn described(self) -> &'static str {
        match self {
            Self::NotPay => "订单未支付",
            Self::Closed => "订单已关闭",
            Self::Success => "支付成功",
            Self::Refund => "订单发生过退款，退款详情请查询退款单",
        }
    }
}

impl Order {
    /// A missed deadline closes nothing: only a call does, or the seventh day.
    pub(crate) fn state(&self, now: OffsetDateTime) -> TradeState {
        if self.payment.is_some() {
            if self.refunds.is_empty() { TradeState::Success } else { TradeState::Refund }
        } else if self.closed || now >= self.created_at + DEFAULT_LIFE.max(self.pay_before - self.created_at) {
            TradeState::Closed
        } else {
            TradeState::NotPay
        }
    }

    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.parameters.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// What a query answers, and, for a paid order, what the callback says.
    pub(super) fn trade(&self, now: OffsetDateTime) -> Value {
        let state = self.state(now);
        let mut trade = json!({
            "appid": self.text("/appid"),
            "mchid": self.text("/mchid"),
            "out_trade_no": self.out_trade_no,
            "trade_state": state.as_str(),
            "trade_state_desc": state.described(),
        });
        if let Some(payment) = &self.payment {
            trade["transaction_id"] = json!(payment.transaction_id);
            trade["trade_type"] = json!(self.trade_type.as_str());
            trade["bank_type"] = json!("OTHERS");
            trade["attach"] = json!(self.text("/attach"));
            trade["success_time"] = json!(super::china(payment.paid_at));
            trade["payer"] = json!({"openid": payment.openid});
            trade["amount"] = json!({
                "total": self.total, "payer_total": self.total, "currency": "CNY", "payer_currency": "CNY",
            });
            if let Some(device_id) = self.parameters.pointer("/scene_info/device_id") {
                trade["scene_info"] = json!({"device_id": device_id});
            }
        }
        trade
    }
}

impl World {
    /// Places an order, or places the same one again for a fresh code. `parameters` went through `fields`.
    pub(crate) fn order(&mut self, trade_type: TradeType, parameters: Value, now: OffsetDateTime) -> Outcome {
        let text = |pointer: &str| parameters.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        self.own_mchid("body", text("/mchid"))?;
        if text("/appid") != self.settings.appid {
            return Err(Refusal::new(400, "APPID_MCHID_NOT_MATCH", "appid和mchid不匹配", 268_445_527));
        }
        if trade_type == TradeType::Jsapi {
            known_payer(text("/payer/openid"))?;
        }
        let out_trade_no = text("/out_trade_no").to_owned();
        if let Some(order) = self.orders.get(&out_trade_no) {
            may_repeat(order, trade_type, &parameters, now)?;
        } else {
            let asked = OffsetDateTime::parse(text("/time_expire"), &Rfc3339).ok();
            let number = self.next_number();
            let order = Order {
                number,
                trade_type,
                total: parameters.pointer("/amount/total").and_then(Value::as_i64).unwrap_or_default(),
                created_at: now,
                pay_before: asked.unwrap_or(now + DEFAULT_LIFE).clamp(now + SHORTEST_LIFE, now + LONGEST_LIFE),
                code: (String::new(), now),
                codes: 0,
                closed: false,
                payment: None,
                refunds: Vec::new(),
                out_trade_no: out_trade_no.clone(),
                parameters,
            };
            self.orders.insert(out_trade_no.clone(), order);
        }
        Ok(Reply::Document(self.issue_code(&out_trade_no, trade_type, now)))
    }

    /// A fresh code; the one before stops working.
    fn issue_code(&mut self, out_trade_no: &str, trade_type: TradeType, now: OffsetDateTime) -> Value {
        let codes = self.orders.get(out_trade_no).map_or(0, |order| order.codes) + 1;
        let mut numbers = self.numbers_of(&["code", out_trade_no, &codes.to_string()]);
        let (code, answer) = match trade_type {
            TradeType::Native => {
                let code = numbers.text(9);
                let answer = json!({"code_url": code_url(&code)});
                (code, answer)
            }
            TradeType::Jsapi => {
                let code = format!("wx{}", numbers.text(34));
                let answer = json!({"prepay_id": code});
                (code, answer)
            }
        };
        self.codes.insert(code.clone(), out_trade_no.to_owned());
        if let Some(order) = self.orders.get_mut(out_trade_no) {
            order.code = (code, now);
            order.codes = codes;
            self.journal.record("order", order);
        }
        answer
    }

    pub(crate) fn query(&self, out_trade_no: &str, mchid: Option<&str>, now: OffsetDateTime) -> Outcome {
        self.query_mchid(mchid)?;
        let order = self.orders.get(out_trade_no).ok_or_else(no_such_order)?;
        Ok(Reply::Document(order.trade(now)))
    }

    /// Only paid orders have a transaction id.
    pub(crate) fn query_transaction(&self, transaction_id: &str, mchid: Option<&str>, now: OffsetDateTime) -> Outcome {
        self.query_mchid(mchid)?;
        let out_trade_no = self.transactions.get(transaction_id).ok_or_else(no_such_order)?;
        self.query(out_trade_no, mchid, now)
    }

    /// The order number behind a transaction id, for the script.
    pub(crate) fn order_of_transaction(&self, transaction_id: &str) -> &str {
        self.transactions.get(transaction_id).map(String::as_str).unwrap_or_default()
    }

    /// 204 says only that nobody can pay this number now; it is said of unknown numbers too.
    pub(crate) fn close(&mut self, out_trade_no: &str, mchid: &str, now: OffsetDateTime) -> Outcome {
        self.own_mchid("body", mchid)?;
        let Some(order) = self.orders.get_mut(out_trade_no) else {
            return Ok(Reply::Nothing);
        };
        match order.state(now) {
            TradeState::Success | TradeState::Refund => {
                Err(Refusal::new(400, "ORDERPAID", "该订单已支付", 268_449_538))
            }
            TradeState::Closed => Ok(Reply::Nothing),
            TradeState::NotPay => {
                order.closed = true;
                self.journal.record("order", order);
                Ok(Reply::Nothing)
            }
        }
    }

    fn query_mchid(&self, mchid: Option<&str>) -> Result<(), Refusal> {
        match mchid {
            Some(mchid) => self.own_mchid("query", mchid),
            None => Err(Refusal {
                detail: Some(json!({"location": "uri_template", "value": ""})),
                ..Refusal::field("uri_template", "/uri_template/mchid", &Value::Null, "为必填参数")
            }),
        }
    }

    /// The signer may act for itself only.
    fn own_mchid(&self, location: &str, mchid: &str) -> Result<(), Refusal> {
        if mchid == self.settings.mchid {
            return Ok(());
        }
        let issue = "与HTTP头Authorization中的mchid不一致";
        Err(Refusal { sub_code: 268_445_527, ..Refusal::field(location, "/mchid", &json!(mchid), issue) })
    }
}

/// Every openid of the right form is a customer under this appid, unless its text says that it is not.
fn known_payer(openid: &str) -> Result<(), Refusal> {
    let wrong = |issue| Err(Refusal::field("body", "/payer/openid", &json!(openid), issue));
    let is_id = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if openid.len() < 6 || !openid.starts_with('o') || !openid.chars().all(is_id) || openid.contains("nonexistent") {
        wrong("无效的openid")
    } else if openid.contains("another-appid") {
        wrong("appid和openid不匹配")
    } else {
        Ok(())
    }
}

/// The same number again is the same order, if it can still be paid and nothing about it differs.
fn may_repeat(order: &Order, trade_type: TradeType, parameters: &Value, now: OffsetDateTime) -> Result<(), Refusal> {
    match order.state(now) {
        TradeState::Success | TradeState::Refund => {
            return Err(Refusal::new(400, "ORDERPAID", "该订单已支付", 268_449_538));
        }
        TradeState::Closed => {
            return Err(Refusal::new(400, "ORDER_CLOSED", "该订单已关闭，请重新下单", 268_447_914));
        }
        TradeState::NotPay => {}
    }
    if order.trade_type != trade_type {
        return Err(Refusal::new(403, "OUT_TRADE_NO_USED", "商户订单号已被其他产品使用", 268_498_688));
    }
    if order.parameters != *parameters {
        return Err(Refusal::invalid("请求重入时，参数与首次请求时不一致", 268_498_688));
    }
    if now >= order.pay_before {
        return Err(Refusal::invalid("订单已过支付截止时间，请关单后重新下单", 268_447_914));
    }
    Ok(())
}

fn no_such_order() -> Refusal {
    Refusal::new(404, "ORDER_NOT_EXIST", "订单不存在", 268_512_771)
}

/// What the merchant shows as a QR code.
fn code_url(code: &str) -> String {
    format!("weixin://wxpay/bizpayurl/up?pr={code}&groupid=00")
}

/// The part of a code_url that names the order; both shapes in use, with or without what follows.
pub(super) fn code_of(code_url: &str) -> &str {
    let code = code_url.split_once("pr=").map_or(code_url, |(_, rest)| rest);
    code.split('&').next().unwrap_or(code)
}
