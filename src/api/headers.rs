//! Request headers with a grammar of their own: `Prefer` and `Idempotency-Key`.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::problem::{Kind, Problem};
use crate::domain::ids::IdempotencyKey;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The longest a caller can have us wait.
const WAIT_SECONDS_MAX: u64 = 10;

/// How long a caller is ready to wait for an outcome (`Prefer: wait=N`, RFC 7240).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    seconds: u64,
}

impl Wait {
    /// `None` when no wait is asked for. A preference that cannot be read is ignored, as RFC 7240 wants; more than
    /// ten seconds become ten; the first of several counts.
    pub(super) fn wished(headers: &HeaderMap) -> Option<Self> {
        headers
            .get_all(PREFER)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .find_map(Self::parse)
    }

    fn parse(preference: &str) -> Option<Self> {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("wait") {
            return None;
        }
        let digits = value.trim().trim_matches('"');
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // All digits, so a failure means "more than fits".
        let seconds = digits.parse().unwrap_or(u64::MAX).min(WAIT_SECONDS_MAX);
        Some(Self { seconds })
    }

    pub(super) fn duration(self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// The value of `Preference-Applied`.
    pub(super) fn applied(self) -> HeaderValue {
        HeaderValue::try_from(format!("wait={}", self.seconds)).expect("letters and digits are a header value")
    }
}

/// The `Idempotency-Key` of a request that may do without one.
pub(super) fn optional_idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    headers.contains_key(IDEMPOTENCY_KEY).then(|| idempotency_key(headers)).transpose()
}

/// The one `Idempotency-Key` of a request.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<IdempotencyKey, Problem> {
    let problem = |detail: &str| Problem::new(Kind::IdempotencyKeyMissing).detail(detail);
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let value = values.next().ok_or_else(|| problem("The Idempotency-Key header is missing."))?;
    if values.next().is_some() {
        return Err(problem("There is more than one Idempotency-Key header."));
    }
    IdempotencyKey::try_from(value.to_str().unwrap_or_default()).map_err(|why| {
        let words = why.to_string();
        problem(&format!("{words}."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn wished(values: &[&str]) -> Option<u64> {
        Wait::wished(&headers(PREFER, values)).map(|wait| wait.seconds)
    }

    #[test]
    fn a_wait_is_found_among_other_preferences_and_bounded() {
        for (values, seconds) in [
            (&["wait=5"][..], Some(5)),
            (&["respond-async, wait=3"], Some(3)),
            (&["handling=lenient", "WAIT = \"7\"; foo=bar"], Some(7)),
            (&["wait=0"], Some(0)),
            (&["wait=3600"], Some(10)),
            (&["wait=99999999999999999999999"], Some(10)),
            (&["wait=2, wait=9"], Some(2)),
            (&["wait"], None),
            (&["wait=-1"], None),
            (&["wait=1.5"], None),
            (&["waits=5"], None),
            (&[], None),
        ] {
            assert_eq!(wished(values), seconds, "{values:?}");
        }
    }

    #[test]
    fn s2_2_exactly_one_usable_key_is_needed() {
        let key = |values: &[&str]| idempotency_key(&headers(IDEMPOTENCY_KEY, values));
        assert_eq!(key(&["k-1"]).unwrap().as_str(), "k-1");
        for values in [&[][..], &[""], &["a b"], &["a", "b"], &[&"k".repeat(256)]] {
            let problem = key(values).unwrap_err();
            assert_eq!(problem.kind, Kind::IdempotencyKeyMissing, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn any_header_has_an_answer(bytes in prop::collection::vec(0x20u8..=0xff, 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let _ = Wait::wished(&HeaderMap::from_iter([(PREFER, value.clone())]));
                let _ = idempotency_key(&HeaderMap::from_iter([(IDEMPOTENCY_KEY, value)]));
            }
        }
    }
}
