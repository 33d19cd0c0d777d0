//! How a message looks on the wire: properties and headers around the JSON body.

/// W3C trace context of a message, made by the ingress and handed on by every follow-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent(String);

impl TraceParent {
    /// A fresh context from 24 random bytes.
    pub fn new(random: [u8; 24]) -> Self {
        let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("00-{}-{}-01", &hex[..32], &hex[32..]))
    }

    /// Reads a `traceparent` header (version 00); `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let hex = |part: &str, length| {
            part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        match parts[..] {
            ["00", trace, span, flags] if hex(trace, 32) && hex(span, 16) && hex(flags, 2) => {
                Some(Self(text.to_owned()))
            }
            _ => None,
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}
