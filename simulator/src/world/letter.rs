//! What a callback says, before it is encrypted and signed (WeChat Pay: payment notification, refund notification).

use serde::{Deserialize, Serialize};

use super::script::Operation;

/// What a callback tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum News {
    Paid,
    RefundSucceeded,
    RefundClosed,
    RefundAbnormal,
    /// A test of the merchant's keys and address, asked for by the merchant.
    Echo,
}

impl News {
    pub(crate) fn event_type(self) -> &'static str {
        match self {
            Self::Paid => "TRANSACTION.SUCCESS",
            Self::RefundSucceeded => "REFUND.SUCCESS",
            Self::RefundClosed => "REFUND.CLOSED",
            Self::RefundAbnormal => "REFUND.ABNORMAL",
            Self::Echo => "SECURITY_ECHO.SUCCESS",
        }
    }

    pub(crate) fn summary(self) -> &'static str {
        match self {
            Self::Paid => "支付成功",
            Self::RefundSucceeded => "退款成功",
            Self::RefundClosed => "退款关闭",
            Self::RefundAbnormal => "退款异常",
            Self::Echo => "回调通知成功",
        }
    }

    /// Type of the encrypted resource.
    pub(crate) fn original_type(self) -> &'static str {
        match self {
            Self::Paid => "transaction",
            Self::RefundSucceeded | Self::RefundClosed | Self::RefundAbnormal => "refund",
            Self::Echo => "security",
        }
    }

    /// What is authenticated beside the ciphertext.
    pub(crate) fn associated_data(self) -> &'static str {
        match self {
            Self::Paid | Self::RefundSucceeded | Self::RefundClosed | Self::RefundAbnormal => self.original_type(),
            Self::Echo => "",
        }
    }

    pub(super) fn operation(self) -> Operation {
        match self {
            Self::Paid => Operation::CallbackPayment,
            Self::RefundSucceeded | Self::RefundClosed | Self::RefundAbnormal => Operation::CallbackRefund,
            Self::Echo => Operation::CallbackEcho,
        }
    }
}

/// What is needed to write the callback's body. Encrypting and signing is the sender's work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Letter {
    pub(crate) id: String,
    pub(crate) news: News,
    pub(crate) notify_url: String,
    pub(crate) create_time: String,
    /// 12 characters.
    pub(crate) nonce: String,
    /// Which of the APIv3 keys was in force when it was written.
    #[serde(default)]
    pub(crate) apiv3_key: usize,
    pub(crate) plaintext: String,
}
