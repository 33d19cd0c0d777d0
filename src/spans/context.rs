//! W3C trace context: which trace something belongs to, and which span caused it.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::domain::hex::hex;

/// A `traceparent`: the trace, and the span in it that whatever carries this follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: [u8; 16],
    span: [u8; 8],
    sampled: bool,
}

impl TraceParent {
    /// A fresh context from 24 random bytes.
    pub fn new(random: [u8; 24]) -> Self {
        let (mut trace, mut span) = ([0; 16], [0; 8]);
        trace.copy_from_slice(&random[..16]);
        span.copy_from_slice(&random[16..]);
        Self { trace, span, sampled: true }
    }

    /// The root of an order's own trace: a pure function of its id. So whatever comes without a context (WeChat's
    /// callback, a sweep, an operator a week later) finds the trace that the click began, and nobody has to store it.
    pub fn of_order(order: &str) -> Self {
        let digest = Sha256::new().chain_update("trace of ").chain_update(order).finalize();
        let mut bytes = [0; 24];
        bytes.copy_from_slice(&digest[..24]);
        Self::new(bytes)
    }

    /// The context of nothing that is known: a trace of its own.
    pub(crate) fn fresh() -> Self {
        let mut random = [0; 24];
        aws_lc_rs::rand::fill(&mut random).expect("the system's random numbers do not run out");
        Self::new(random)
    }

    /// Another span of the same trace.
    pub(super) fn child(self) -> Self {
        self.with_span_of(Self::fresh())
    }

    /// That span, in this trace.
    pub(super) fn with_span_of(self, other: Self) -> Self {
        Self { span: other.span, ..self }
    }

    /// Reads a `traceparent` header (version 00); `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let &["00", trace, span, flags] = parts.as_slice() else { return None };
        let (trace, span, [flags]) = (bytes(trace)?, bytes(span)?, bytes::<1>(flags)?);
        // All zeros is "none" in the standard.
        (trace != [0; 16] && span != [0; 8]).then_some(Self { trace, span, sampled: flags & 1 == 1 })
    }

    /// Whether it is kept when this share of all traces is: told by the trace's id, so that every process says the same.
    pub(super) fn is_kept(self, percent: u8) -> bool {
        let last = u64::from_be_bytes(std::array::from_fn(|at| self.trace[8 + at]));
        self.sampled && last % 100 < u64::from(percent)
    }

    /// 32 hex digits.
    pub fn trace_id(self) -> String {
        hex(self.trace)
    }

    /// 16 hex digits.
    pub fn span_id(self) -> String {
        hex(self.span)
    }
}

/// As the header says it.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", hex(self.trace), hex(self.span), u8::from(self.sampled))
    }
}

/// Lower-case hex, as the standard demands.
fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let fits = hex.len() == 2 * N && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    fits.then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_reads_back() {
        let trace = TraceParent::new([7; 24]);
        assert_eq!(TraceParent::parse(&trace.to_string()), Some(trace));
        assert_eq!(trace.child().trace_id(), trace.trace_id());
        assert_ne!(trace.child().span_id(), trace.span_id());
        for wrong in [
            "",
            "00-xyz",
            "00-00000000000000000000000000000000-0b0b0b0b0b0b0b0b-01",
            "00-0A0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a-0b0b0b0b0b0b0b0b-01",
            "00-0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a-0b0b0b0b0b0b0b0b-01-",
            "01-0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a-0b0b0b0b0b0b0b0b-01",
            "00-é0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a-0b0b0b0b0b0b0b0b-01",
        ] {
            assert_eq!(TraceParent::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_share_of_all_traces_is_kept_and_every_process_keeps_the_same() {
        let kept = |percent| (0..1000).filter(|n| TraceParent::of_order(&format!("hf{n}")).is_kept(percent)).count();
        assert_eq!((kept(0), kept(100)), (0, 1000));
        assert!((150..250).contains(&kept(20)), "{}", kept(20));
        let unsampled = TraceParent::parse("00-0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a-0b0b0b0b0b0b0b0b-00").expect("one");
        assert!(!unsampled.is_kept(100), "whoever began it decided so");
    }
}
