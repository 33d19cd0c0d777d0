//! The calls of WeChat Pay: order, query, close, refund. What their outcomes allow is told in [`super::answers`].

use crate::domain::{
    calendar::in_china,
    json::{self, json_fault},
};
use crate::wechat::answers::{Call, Inconclusive};
use crate::wechat::exchange::{PayClient, Request, Signed};
use crate::wechat::refund::Refund;
use crate::wechat::sign::JsapiInvocation;
use crate::wechat::transaction::Transaction;
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

/// Longest `description`: native, JSAPI and H5 order count characters.
const DESCRIPTION_MAX: Length = Length::Characters(127);
/// Longest `reason` of a refund.
const REASON_MAX: Length = Length::Bytes(80);

/// Longest `code_url` and `prepay_id`, in bytes: WeChat's have 64 at most, and a QR code holds some two thousand.
const CODE_MAX: usize = 512;

const CHINA_TIME: &[FormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]+08:00");

/// What the customer is asked to pay for.
///
/// Repeating it with the same content is how a lost answer is mended: WeChat takes it as the same order. So every
/// member must come from the stored order, never from the moment of the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder<'a> {
    /// 6 to 32 of `0-9A-Za-z_-|*`; ours for ever.
    pub out_trade_no: &'a str,
    /// Shown to the payer; cut to 127 characters, emoji left out.
    pub description: &'a str,
    pub total_fen: i64,
    /// The payment deadline. It closes nothing: past it the order can still be found unpaid.
    pub time_expire: OffsetDateTime,
}

/// What to give back. The same number is used again after any failure; a new one could refund twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRefund<'a> {
    pub transaction_id: &'a str,
    /// Up to 64 of `0-9A-Za-z_-|*@`.
    pub out_refund_no: &'a str,
    /// Cut to 80 bytes.
    pub reason: &'a str,
    pub refund_fen: i64,
    /// The order's whole price, as it was paid.
    pub total_fen: i64,
}

/// `weixin://…`, to be drawn as a QR code. Good for two hours, until ordered again or closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeUrl(pub String);

/// Names a JSAPI order to the payment sheet. Good for two hours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepayId(pub String);

/// WeChat has closed the order: nobody can pay this number any more. Also said of a number it never knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderClosed;

impl PayClient {
    /// POST /v3/pay/transactions/native.
    pub async fn create_native_order(&self, order: &NewOrder<'_>) -> Result<CodeUrl, Inconclusive> {
        #[derive(Deserialize)]
        struct Created {
            code_url: String,
        }
        let request = self.order_request("native", order, None);
        self.call(request, |signed| {
            let Created { code_url } = json(signed)?;
            if !code_url.starts_with("weixin://") || code_url.len() > CODE_MAX {
                return Err("code_url is not a short weixin://".to_owned());
            }
            Ok(CodeUrl(code_url))
        })
        .await
    }

    /// POST /v3/pay/transactions/jsapi; `openid` is the payer's under our appid.
    pub async fn create_jsapi_order(&self, order: &NewOrder<'_>, openid: &str) -> Result<PrepayId, Inconclusive> {
        #[derive(Deserialize)]
        struct Created {
            prepay_id: String,
        }
        let request = self.order_request("jsapi", order, Some(openid));
        self.call(request, |signed| {
            let Created { prepay_id } = json(signed)?;
            if !(1..=CODE_MAX).contains(&prepay_id.len()) {
                return Err("prepay_id is empty or too long".to_owned());
            }
            Ok(PrepayId(prepay_id))
        })
        .await
    }

    /// What the page needs to open the payment sheet for a JSAPI order. Fresh for each opening; no call is made.
    pub fn jsapi_invocation(&self, prepay_id: &PrepayId) -> JsapiInvocation {
        self.account.merchant_key.get().jsapi_invocation(
            &self.account.appid,
            &prepay_id.0,
            (self.ambient.now)(),
            &(self.ambient.nonce)(),
        )
    }

    /// GET /v3/pay/transactions/out-trade-no/{out_trade_no}.
    pub async fn query_order(&self, out_trade_no: &str) -> Result<Transaction, Inconclusive> {
        self.query(&["out-trade-no", out_trade_no], |transaction| {
            transaction.out_trade_no.as_deref() == Some(out_trade_no)
        })
        .await
    }

    /// GET /v3/pay/transactions/id/{transaction_id}; knows paid orders only.
    pub async fn query_transaction(&self, transaction_id: &str) -> Result<Transaction, Inconclusive> {
        self.query(&["id", transaction_id], |transaction| transaction.transaction_id.as_deref() == Some(transaction_id))
            .await
    }

    /// POST /v3/pay/transactions/out-trade-no/{out_trade_no}/close. Closing twice is fine.
    pub async fn close_order(&self, out_trade_no: &str) -> Result<OrderClosed, Inconclusive> {
        #[derive(Serialize)]
        struct Body<'a> {
            mchid: &'a str,
        }
        let path = ["v3", "pay", "transactions", "out-trade-no", out_trade_no, "close"];
        let mchid = &self.account.mchid;
        let request = self.post(Call::CloseOrder, out_trade_no, &path, &Body { mchid });
        self.call(request, |signed| match signed.status {
            204 => Ok(OrderClosed),
            status => Err(format!("expected 204, not {status}")),
        })
        .await
    }

    /// POST /v3/refund/domestic/refunds. The answer means "accepted"; its status is followed by query or callback.
    pub async fn create_refund(&self, refund: &NewRefund<'_>) -> Result<Refund, Inconclusive> {
        #[derive(Serialize)]
        struct Body<'a> {
            transaction_id: &'a str,
            out_refund_no: &'a str,
            #[serde(skip_serializing_if = "String::is_empty")]
            reason: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            notify_url: Option<&'a str>,
            amount: RefundAmount,
        }
        #[derive(Serialize)]
        struct RefundAmount {
            refund: i64,
            total: i64,
            currency: &'static str,
        }
        let body = Body {
            transaction_id: refund.transaction_id,
            out_refund_no: refund.out_refund_no,
            reason: plain_text(refund.reason, REASON_MAX),
            notify_url: self.account.refund_notify_url.as_deref(),
            amount: RefundAmount { refund: refund.refund_fen, total: refund.total_fen, currency: "CNY" },
        };
        let path = ["v3", "refund", "domestic", "refunds"];
        let request = self.post(Call::CreateRefund, refund.out_refund_no, &path, &body);
        self.call(request, |signed| refund_of(signed, refund.out_refund_no)).await
    }

    /// GET /v3/refund/domestic/refunds/{out_refund_no}.
    pub async fn query_refund(&self, out_refund_no: &str) -> Result<Refund, Inconclusive> {
        let request = Request {
            call: Call::QueryRefund,
            about: Some(out_refund_no.to_owned()),
            method: Method::GET,
            url: self.url(&["v3", "refund", "domestic", "refunds", out_refund_no], None),
            body: Vec::new(),
        };
        self.call(request, |signed| refund_of(signed, out_refund_no)).await
    }

    async fn query(
        &self,
        by: &[&str; 2],
        is_asked_one: impl FnOnce(&Transaction) -> bool,
    ) -> Result<Transaction, Inconclusive> {
        let [kind, number] = *by;
        let path = ["v3", "pay", "transactions", kind, number];
        let request = Request {
            call: Call::QueryOrder,
            about: (kind == "out-trade-no").then(|| number.to_owned()),
            method: Method::GET,
            url: self.url(&path, Some(&self.account.mchid)),
            body: Vec::new(),
        };
        self.call(request, |signed| {
            let transaction: Transaction = json(signed)?;
            // The signature does not cover the question, so a mixed-up answer would pass it.
            if is_asked_one(&transaction) { Ok(transaction) } else { Err("answer is about another order".to_owned()) }
        })
        .await
    }

    fn order_request(&self, product: &str, order: &NewOrder<'_>, openid: Option<&str>) -> Request {
        #[derive(Serialize)]
        struct Body<'a> {
            appid: &'a str,
            mchid: &'a str,
            description: String,
            out_trade_no: &'a str,
            time_expire: String,
            notify_url: &'a str,
            amount: OrderAmount,
            #[serde(skip_serializing_if = "Option::is_none")]
            payer: Option<OrderPayer<'a>>,
        }
        #[derive(Serialize)]
        struct OrderAmount {
            total: i64,
            currency: &'static str,
        }
        #[derive(Serialize)]
        struct OrderPayer<'a> {
            openid: &'a str,
        }
        let body = Body {
            appid: &self.account.appid,
            mchid: &self.account.mchid,
            description: plain_text(order.description, DESCRIPTION_MAX),
            out_trade_no: order.out_trade_no,
            time_expire: china_time(order.time_expire),
            notify_url: &self.account.notify_url,
            amount: OrderAmount { total: order.total_fen, currency: "CNY" },
            payer: openid.map(|openid| OrderPayer { openid }),
        };
        let path = ["v3", "pay", "transactions", product];
        self.post(Call::CreateOrder, order.out_trade_no, &path, &body)
    }

    /// A POST whose body is serialised here, once; these bytes are signed and sent.
    fn post(&self, call: Call, about: &str, path: &[&str], body: &impl Serialize) -> Request {
        Request {
            call,
            about: Some(about.to_owned()),
            method: Method::POST,
            url: self.url(path, None),
            body: serde_json::to_vec(body).expect("structs of texts and numbers are JSON"),
        }
    }
}

fn json<T: DeserializeOwned>(signed: &Signed) -> Result<T, String> {
    json::read_plain(&signed.body).map_err(|error| json_fault(&error))
}

fn refund_of(signed: &Signed, out_refund_no: &str) -> Result<Refund, String> {
    let refund: Refund = json(signed)?;
    if refund.out_refund_no == out_refund_no { Ok(refund) } else { Err("answer is about another refund".to_owned()) }
}

/// China time to the second, as WeChat writes it.
fn china_time(at: OffsetDateTime) -> String {
    in_china(at).format(CHINA_TIME).expect("the format has only parts that every date has")
}

/// How WeChat measures a text.
#[derive(Clone, Copy)]
enum Length {
    Characters(usize),
    /// Of UTF-8.
    Bytes(usize),
}

/// WeChat Pay takes characters of up to three bytes in UTF-8 (no emoji); the rest is cut at `max`.
fn plain_text(text: &str, max: Length) -> String {
    let plain = text.chars().filter(|c| c.len_utf8() <= 3 && !c.is_control());
    match max {
        Length::Characters(max) => plain.take(max).collect(),
        Length::Bytes(max) => {
            let mut room = max;
            plain
                .map_while(|c| {
                    room = room.checked_sub(c.len_utf8())?;
                    Some(c)
                })
                .collect()
        }
    }
}
