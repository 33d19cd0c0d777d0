//! Reads request bodies by tables of fields, refusing what WeChat Pay refuses: wrong type, length or
//! characters, unknown members, `null`, and characters outside the basic plane (emoji).

use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// One member of an object.
pub(crate) struct Field {
    name: &'static str,
    kind: Kind,
    required: bool,
}

/// What a member may hold.
pub(crate) enum Kind {
    /// Lengths count bytes of UTF-8: where WeChat does not say, the narrower reading.
    Text {
        min: usize,
        max: usize,
        shape: Shape,
    },
    /// A text of at most so many characters: where WeChat says that it counts them.
    Words {
        max: usize,
    },
    /// A whole number, not smaller than this.
    Int {
        min: i64,
    },
    Flag,
    OneOf(&'static [&'static str]),
    /// A list of such words.
    EachOneOf(&'static [&'static str]),
    Object(&'static [Field]),
    List(&'static [Field]),
}

/// Characters or form of a text.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    Any,
    /// Letters, digits and these.
    Code(&'static str),
    /// A full http(s) URL with a path and no query.
    Url,
    Rfc3339,
}

const fn required(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: true }
}

const fn optional(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: false }
}

const fn text(max: usize) -> Kind {
    Kind::Text { min: 1, max, shape: Shape::Any }
}

/// Bytes of `detail` (WeChat Pay: native order, detail); no other object of ours may come near it.
const LARGEST_OBJECT: usize = 6144;
const ORDER_NO: Kind = Kind::Text { min: 6, max: 32, shape: Shape::Code("_-|*") };
const REFUND_NO: Kind = Kind::Text { min: 1, max: 64, shape: Shape::Code("_-|*@") };
const AMOUNT: &[Field] = &[required("total", Kind::Int { min: 1 }), optional("currency", Kind::OneOf(&["CNY"]))];
const DETAIL: &[Field] = &[
    optional("cost_price", Kind::Int { min: 0 }),
    optional("invoice_id", text(32)),
    optional("goods_detail", Kind::List(GOODS)),
];
const GOODS: &[Field] = &[
    required("merchant_goods_id", text(32)),
    optional("wechatpay_goods_id", text(32)),
    optional("goods_name", text(256)),
    required("quantity", Kind::Int { min: 1 }),
    required("unit_price", Kind::Int { min: 0 }),
];
const SCENE: &[Field] = &[
    required("payer_client_ip", text(45)),
    optional("device_id", text(32)),
    optional("store_info", Kind::Object(STORE)),
];
const STORE: &[Field] = &[
    required("id", text(32)),
    optional("name", text(256)),
    optional("area_code", text(32)),
    optional("address", text(512)),
];

/// Members common to both ways of ordering.
macro_rules! order_fields {
    ($($more:expr),*) => {
        &[
            required("appid", text(32)),
            required("mchid", text(32)),
            required("description", Kind::Words { max: 127 }),
            required("out_trade_no", ORDER_NO),
            optional("time_expire", Kind::Text { min: 1, max: 64, shape: Shape::Rfc3339 }),
            optional("attach", text(128)),
            required("notify_url", Kind::Text { min: 1, max: 255, shape: Shape::Url }),
            optional("goods_tag", text(32)),
            optional("limit_pay", Kind::EachOneOf(&["no_balance", "no_credit", "no_debit", "balance_only"])),
            optional("support_fapiao", Kind::Flag),
            required("amount", Kind::Object(AMOUNT)),
            optional("detail", Kind::Object(DETAIL)),
            optional("scene_info", Kind::Object(SCENE)),
            optional("settle_info", Kind::Object(&[optional("profit_sharing", Kind::Flag)])),
            $($more),*
        ]
    };
}

/// POST /v3/pay/transactions/native
pub(crate) const NATIVE: &[Field] = order_fields!();
/// POST /v3/pay/transactions/jsapi
pub(crate) const JSAPI: &[Field] = order_fields!(required("payer", Kind::Object(&[required("openid", text(128))])));
/// POST /v3/pay/transactions/out-trade-no/{out_trade_no}/close
pub(crate) const CLOSE: &[Field] = &[required("mchid", text(32))];
/// POST /v3/refund/domestic/refunds
pub(crate) const REFUND: &[Field] = &[
    // In the SDKs' one model for merchants and partners; without effect for a merchant.
    optional("sub_mchid", text(32)),
    optional("transaction_id", text(32)),
    optional("out_trade_no", ORDER_NO),
    required("out_refund_no", REFUND_NO),
    optional("reason", text(80)),
    optional("notify_url", Kind::Text { min: 1, max: 256, shape: Shape::Url }),
    optional("funds_account", Kind::OneOf(&["AVAILABLE", "UNSETTLED"])),
    required(
        "amount",
        Kind::Object(&[
            required("refund", Kind::Int { min: 1 }),
            required("total", Kind::Int { min: 1 }),
            required("currency", Kind::OneOf(&["CNY"])),
            optional("from", Kind::List(REFUND_FROM)),
        ]),
    ),
    optional("goods_detail", Kind::List(REFUND_GOODS)),
];
/// POST /v3/security/echo
pub(crate) const ECHO: &[Field] = &[
    required("echo_message", text(1024)),
    optional("encrypted_echo_message", text(1024)),
    optional("notify_url", Kind::Text { min: 1, max: 255, shape: Shape::Url }),
];
/// POST /v3/refund/domestic/refunds/{refund_id}/apply-abnormal-refund
pub(crate) const REFUND_ABNORMAL: &[Field] = &[
    required("out_refund_no", REFUND_NO),
    required("type", Kind::OneOf(&["USER_BANK_CARD", "MERCHANT_BANK_CARD"])),
    optional("bank_type", text(16)),
    optional("bank_account", text(1024)),
    optional("real_name", text(1024)),
];
const REFUND_FROM: &[Field] =
    &[required("account", Kind::OneOf(&["AVAILABLE", "UNAVAILABLE"])), required("amount", Kind::Int { min: 1 })];
const REFUND_GOODS: &[Field] = &[
    required("merchant_goods_id", text(32)),
    optional("wechatpay_goods_id", text(32)),
    optional("goods_name", text(256)),
    required("unit_price", Kind::Int { min: 0 }),
    required("refund_amount", Kind::Int { min: 0 }),
    required("refund_quantity", Kind::Int { min: 1 }),
];

/// The object in `body`, every member of which is in the table and fits it.
pub(crate) fn read(table: &[Field], body: &[u8]) -> Result<Value, Refusal> {
    let body = std::str::from_utf8(body).map_err(|_| Refusal::body("不是UTF-8编码"))?;
    let value: Value = serde_json::from_str(body).map_err(|_| Refusal::body("不是合法的JSON"))?;
    let Value::Object(members) = &value else {
        return Err(Refusal::body("不是JSON对象"));
    };
    object(table, members, "")?;
    Ok(value)
}

fn object(table: &[Field], members: &Map<String, Value>, at: &str) -> Result<(), Refusal> {
    if let Some(name) = members.keys().find(|name| table.iter().all(|field| field.name != name.as_str())) {
        return Err(Refusal::extra(&format!("{at}/{name}")));
    }
    for field in table {
        let at = format!("{at}/{}", field.name);
        match members.get(field.name) {
            None if field.required => {
                return Err(Refusal::field("body", &at, &Value::Null, "为必填参数"));
            }
            None => {}
            Some(value) => one(&field.kind, value, &at)?,
        }
    }
    Ok(())
}

fn one(kind: &Kind, value: &Value, at: &str) -> Result<(), Refusal> {
    let wrong = |issue: &str| Err(Refusal::field("body", at, value, issue));
    match (kind, value) {
        (Kind::Text { .. } | Kind::Words { .. }, Value::String(text))
            if text.chars().any(|character| character.len_utf8() > 3) =>
        {
            wrong("含有不支持的字符")
        }
        (Kind::Words { max }, Value::String(text)) => {
            let length = text.chars().count();
            if length == 0 || length > *max { wrong(&format!("长度应为1到{max}个字符")) } else { Ok(()) }
        }
        (Kind::Text { min, max, shape }, Value::String(text)) => {
            if text.len() < *min || text.len() > *max {
                return wrong(&format!("长度应为{min}到{max}字节"));
            }
            if !shape.fits(text) { wrong("格式不正确") } else { Ok(()) }
        }
        (Kind::Int { min }, Value::Number(number)) => match number.as_i64() {
            Some(number) if number >= *min => Ok(()),
            Some(_) => wrong(&format!("不能小于{min}")),
            None => wrong("应为整数"),
        },
        (Kind::Flag, Value::Bool(_)) => Ok(()),
        (Kind::OneOf(words), Value::String(word)) if words.contains(&word.as_str()) => Ok(()),
        (Kind::EachOneOf(words), Value::Array(items)) => {
            match items.iter().find(|item| item.as_str().is_none_or(|word| !words.contains(&word))) {
                Some(item) => Err(Refusal::field("body", at, item, "类型或取值不正确")),
                None => Ok(()),
            }
        }
        (Kind::Object(table), Value::Object(members)) => {
            if value.to_string().len() > LARGEST_OBJECT {
                return wrong("过长");
            }
            object(table, members, at)
        }
        (Kind::List(table), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                let at = format!("{at}/{index}");
                match item {
                    Value::Object(members) => object(table, members, &at)?,
                    _ => return Err(Refusal::field("body", &at, item, "应为对象")),
                }
            }
            Ok(())
        }
        (_, Value::Null) => wrong("不能为null"),
        _ => wrong("类型或取值不正确"),
    }
}

impl Shape {
    fn fits(self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Code(more) => text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c)),
            Self::Rfc3339 => time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).is_ok(),
            Self::Url => {
                let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
                let path = rest.and_then(|rest| rest.split_once('/'));
                path.is_some_and(|(host, _)| !host.is_empty())
                    && text.chars().all(|c| c.is_ascii_graphic() && c != '?' && c != '#')
            }
        }
    }
}
