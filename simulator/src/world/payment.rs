//! The customer's side: looking at what a code asks for, and paying it.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    World,
    callback::Subject,
    letter::News,
    order::{CODE_LIFE, Order, Payment, TradeState, code_of},
};

/// The payer when nobody says who pays.
const SOMEBODY: &str = "oSimulatedCustomer0000000001";

/// What the customer holds in hand.
#[derive(Clone, Debug)]
pub(crate) enum Bill {
    /// A scanned code.
    CodeUrl(String),
    /// The order itself, as from inside WeChat.
    OutTradeNo(String),
}

/// Why the customer cannot pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unpayable {
    Unknown,
    CodeReplaced,
    CodeExpired,
    Closed,
    Expired,
    Paid,
}

impl Unpayable {
    /// A stable word for programs.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::CodeReplaced => "code-replaced",
            Self::CodeExpired => "code-expired",
            Self::Closed => "closed",
            Self::Expired => "expired",
            Self::Paid => "paid",
        }
    }

    /// What the phone shows.
    pub(crate) fn shown(self) -> &'static str {
        match self {
            Self::Unknown => "二维码无效",
            Self::CodeReplaced => "二维码已失效，请扫描最新的二维码",
            Self::CodeExpired => "二维码已过期，请返回商家重新获取",
            Self::Closed => "订单已关闭",
            Self::Expired => "订单已超过支付时间",
            Self::Paid => "订单已支付，请勿重复支付",
        }
    }
}

/// What the phone shows before the customer decides.
pub(crate) struct Offer {
    pub(crate) out_trade_no: String,
    pub(crate) description: String,
    pub(crate) total: i64,
}

impl World {
    /// What there is to pay.
    pub(crate) fn offer(&self, bill: &Bill, now: OffsetDateTime) -> Result<Offer, Unpayable> {
        let order = self.payable(bill, now)?;
        Ok(Offer {
            out_trade_no: order.out_trade_no.clone(),
            description: order.text("/description").to_owned(),
            total: order.total,
        })
    }

    /// The money moves; the callback follows. Answers the transaction id.
    pub(crate) fn pay(&mut self, bill: &Bill, openid: Option<&str>, now: OffsetDateTime) -> Result<String, Unpayable> {
        let out_trade_no = self.payable(bill, now)?.out_trade_no.clone();
        let transaction_id = self.transaction_id("4200", &out_trade_no, now);
        let order = self.orders.get_mut(&out_trade_no).ok_or(Unpayable::Unknown)?;
        let payer = openid
            .map(str::to_owned)
            .or_else(|| order.parameters.pointer("/payer/openid").and_then(Value::as_str).map(str::to_owned));
        order.payment = Some(Payment {
            transaction_id: transaction_id.clone(),
            openid: payer.unwrap_or_else(|| SOMEBODY.to_owned()),
            paid_at: now,
        });
        let news = Subject {
            news: News::Paid,
            out_trade_no: out_trade_no.clone(),
            number: transaction_id.clone(),
            notify_url: order.text("/notify_url").to_owned(),
            resource: order.trade(now),
        };
        self.journal.record("order", order);
        self.transactions.insert(transaction_id.clone(), out_trade_no);
        self.announce(news, now);
        Ok(transaction_id)
    }

    /// The order behind the bill, if it can be paid at this moment.
    fn payable(&self, bill: &Bill, now: OffsetDateTime) -> Result<&Order, Unpayable> {
        let (out_trade_no, code) = match bill {
            Bill::OutTradeNo(out_trade_no) => (out_trade_no, None),
            Bill::CodeUrl(code_url) => {
                let code = code_of(code_url);
                (self.codes.get(code).ok_or(Unpayable::Unknown)?, Some(code))
            }
        };
        let order = self.orders.get(out_trade_no).ok_or(Unpayable::Unknown)?;
        match order.state(now) {
            TradeState::Success | TradeState::Refund => return Err(Unpayable::Paid),
            TradeState::Closed => return Err(Unpayable::Closed),
            TradeState::NotPay => {}
        }
        if now >= order.pay_before {
            return Err(Unpayable::Expired);
        }
        let (current, issued_at) = &order.code;
        match code {
            Some(code) if code != current => Err(Unpayable::CodeReplaced),
            Some(_) if now >= *issued_at + CODE_LIFE => Err(Unpayable::CodeExpired),
            _ => Ok(order),
        }
    }

    /// 28 digits: WeChat's prefix, China's date, chance. One for each number of the merchant's.
    pub(super) fn transaction_id(&self, prefix: &str, number: &str, now: OffsetDateTime) -> String {
        let date = super::china(now)[..10].replace('-', "");
        let chance = self.numbers_of(&[prefix, number]).next() % 10_000_000_000_000_000;
        format!("{prefix}{date}{chance:016}")
    }

    /// The answer of the customer's own call.
    pub(crate) fn receipt(transaction_id: &str) -> Value {
        json!({"transaction_id": transaction_id})
    }
}
