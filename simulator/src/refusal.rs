//! What WeChat Pay says no with: an HTTP status, a code, a Chinese message, sometimes a detail.

use serde_json::{Value, json};

/// One refused request. The deed was not done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: Option<Value>,
    /// The number that ends `Request-ID`, which tells operators more than the code does.
    pub(crate) sub_code: u32,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: &str, message: &str, sub_code: u32) -> Self {
        Self { status, code: code.into(), message: message.into(), detail: None, sub_code }
    }

    /// A field is wrong. `field` is a JSON pointer, `location` says where it was looked for.
    pub(crate) fn field(location: &str, field: &str, value: &Value, issue: &str) -> Self {
        Self {
            detail: Some(json!({"location": location, "field": field, "value": value, "issue": issue})),
            ..Self::new(400, "PARAM_ERROR", &format!("参数错误：{field} {issue}"), 268_435_461)
        }
    }

    /// A member that the endpoint does not know.
    pub(crate) fn extra(field: &str) -> Self {
        Self { sub_code: 270_924_358, ..Self::field("body", field, &Value::Null, "不在接口定义中") }
    }

    /// The body is no JSON object in UTF-8.
    pub(crate) fn body(issue: &str) -> Self {
        Self {
            detail: Some(json!({"location": "body", "issue": issue})),
            ..Self::new(400, "PARAM_ERROR", &format!("请求体无法解析：{issue}"), 268_435_461)
        }
    }

    pub(crate) fn signature(field: &str, issue: &str) -> Self {
        Self {
            detail: Some(json!({"location": "authorization", "field": field, "issue": issue})),
            ..Self::new(401, "SIGN_ERROR", &format!("签名错误：{issue}"), 268_443_699)
        }
    }

    /// Answers of the refund calls when there is nothing to refund, or no such refund.
    pub(crate) fn no_resource(message: &str) -> Self {
        Self::new(404, "RESOURCE_NOT_EXISTS", message, 268_512_771)
    }

    pub(crate) fn invalid(message: &str, sub_code: u32) -> Self {
        Self::new(400, "INVALID_REQUEST", message, sub_code)
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut body = json!({"code": self.code, "message": self.message});
        if let Some(detail) = &self.detail {
            body["detail"] = detail.clone();
        }
        body
    }
}
