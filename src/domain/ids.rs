//! Names of things, parsed once at the edge so that the inside never checks them again.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::hex::hex;

/// Why a text is not the identifier it claims to be. The words are shown to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Digest of what a requester names by a key of their own: the same for ever, another one for another requester.
///
/// The digested text begins with a length of eight bytes, so its first byte is 0: no requester and no key make it equal
/// to a text that [`derived`] digests.
fn wish(requester: &str, key: &IdempotencyKey) -> [u8; 32] {
    of_requester(requester, key.as_str())
}

fn of_requester(requester: &str, name: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update((requester.len() as u64).to_be_bytes())
        .chain_update(requester)
        .chain_update(name)
        .finalize()
        .into()
}

/// A customer's request, by the id that came with it: 32 hexadecimal digits, others for another customer.
pub(super) fn request_name(user: &UserId, request_id: &str) -> String {
    hex(&of_requester(user.as_str(), request_id)[..16])
}

/// The same as a UUID, where it names something by itself.
pub(super) fn wish_id(requester: &str, key: &IdempotencyKey) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&wish(requester, key)[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// What the system itself names. Takes no [`IdempotencyKey`], as [`wish`] takes no `Derived`: a name of one space cannot
/// be made in the other.
enum Derived {
    /// The order that a place in a session's waiting list is offered.
    Offer(ScheduleId, Ticket),
}

/// Digest of a name that the system derives. The digested text begins with a letter, that of [`wish`] with 0.
fn derived(name: &Derived) -> [u8; 32] {
    let digest = Sha256::new();
    let digest = match name {
        Derived::Offer(schedule, ticket) => digest
            .chain_update("holdfast offer")
            .chain_update(schedule.0.as_bytes())
            .chain_update(ticket.0.to_be_bytes()),
    };
    digest.finalize().into()
}

/// What the request ids of the system itself begin with; [`is_of_the_system`] keeps others from using it.
const SYSTEM_REQUEST: &str = "holdfast:";

/// The request id of something that no request asked for: `holdfast:offer-7`.
pub fn system_request(what: &str, id: impl fmt::Display) -> String {
    format!("{SYSTEM_REQUEST}{what}-{id}")
}

/// Whether a request id that came with a request is one that only the system gives.
pub fn is_of_the_system(request_id: &str) -> bool {
    request_id.get(..SYSTEM_REQUEST.len()).is_some_and(|start| start.eq_ignore_ascii_case(SYSTEM_REQUEST))
}

/// A place in a waiting list, as the database numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub i64);

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Our number of an order and, letter for letter, WeChat's `out_trade_no`:
/// 6–32 characters of `[0-9a-z]`, unique per merchant for ever.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OrderId(String);

impl OrderId {
    /// The order that this user means by this key. Pure, so that a repeated request names the
    /// same order whatever crashed in between and without asking any store.
    ///
    /// `prefix` keeps environments that share one merchant number apart. 120 bits of the digest
    /// follow it, in Crockford's alphabet (no i, l, o, u: easy to read out on the phone).
    pub fn derive(prefix: &str, user: &UserId, key: &IdempotencyKey) -> Self {
        Self::spelled(prefix, &wish(user.as_str(), key))
    }

    /// The order that a place in a session's waiting list is offered: there is one per place. No customer's key names it.
    pub fn of_offer(prefix: &str, schedule: ScheduleId, ticket: Ticket) -> Self {
        Self::spelled(prefix, &derived(&Derived::Offer(schedule, ticket)))
    }

    fn spelled(prefix: &str, digest: &[u8; 32]) -> Self {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let mut id = String::with_capacity(prefix.len() + 24);
        id.push_str(prefix);
        for group in digest[..15].chunks_exact(5) {
            let bits = group.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
            for place in (0..8).rev() {
                id.push(char::from(ALPHABET[(bits >> (place * 5) & 31) as usize]));
            }
        }
        Self(id)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for OrderId {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        let fits = (6..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if fits { Ok(Self(text)) } else { Err(Malformed("an order id has 6 to 32 characters of 0-9 and a-z")) }
    }
}

impl From<OrderId> for String {
    fn from(id: OrderId) -> Self {
        id.0
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Characters of WeChat's `out_trade_no`.
const ORDER_ID_MAX: usize = 32;
/// Characters of WeChat's `out_refund_no`.
const REFUND_ID_MAX: usize = 64;

/// Our number of a refund and, letter for letter, WeChat's `out_refund_no`: one number per business refund,
/// for ever. At most 64 characters of `[0-9a-z-]`, beginning with the order's id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RefundId(String);

impl RefundId {
    /// The refund of this order that the requester means by this key.
    pub fn derive(order: &OrderId, requester: &str, key: &IdempotencyKey) -> Self {
        Self(format!("{order}-{}", hex(&wish(requester, key)[..10])))
    }

    /// The refund of a payment that came too late for a seat: there is one per order.
    pub fn automatic(order: &OrderId) -> Self {
        Self(format!("{order}-auto"))
    }

    /// The refund of an order whose session was cancelled: there is one per order.
    pub fn of_cancelled_session(order: &OrderId) -> Self {
        Self(format!("{order}-session"))
    }

    /// The refund that an operator's override asks for.
    pub fn of_override(order: &OrderId, override_id: Uuid) -> Self {
        let mut id = format!("{order}-o{}", override_id.simple());
        id.truncate(REFUND_ID_MAX);
        Self(id)
    }

    /// A refund that WeChat reports and none of ours asked for, by WeChat's own number of it.
    pub fn at_wechat(order: &OrderId, out_refund_no: &str) -> Self {
        Self(format!("{order}-w{}", hex(&Sha256::digest(out_refund_no)[..10])))
    }

    /// The order that it belongs to: what stands before the first `-`.
    pub fn order(&self) -> &str {
        self.0.split_once('-').map_or(self.0.as_str(), |(order, _)| order)
    }

    /// The number that follows when WeChat closed this one, and only then.
    pub fn successor(&self) -> Self {
        let (root, generation) = match self.0.rsplit_once("-n") {
            Some((root, number)) => (root, number.parse::<u32>().unwrap_or(1)),
            None => (self.0.as_str(), 1),
        };
        let next = generation.saturating_add(1);
        let plain = format!("{root}-n{next}");
        if plain.len() <= REFUND_ID_MAX {
            return Self(plain);
        }
        // A root that leaves no room is named by its digest, so that no successor ever grows beyond the limit.
        let order: String = self.order().chars().take(ORDER_ID_MAX).collect();
        Self(format!("{order}-h{}-n{next}", hex(&Sha256::digest(root)[..8])))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RefundId {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        let fits = (6..=REFUND_ID_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Self(text)) } else { Err(Malformed("a refund id has 6 to 64 characters of 0-9, a-z and -")) }
    }
}

impl From<RefundId> for String {
    fn from(id: RefundId) -> Self {
        id.0
    }
}

impl fmt::Display for RefundId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A customer, as the token's `sub` names them: 1–128 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId(String);

impl UserId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UserId {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        if visible_ascii(&text, 128) {
            Ok(Self(text))
        } else {
            Err(Malformed("a user id has 1 to 128 visible ASCII characters"))
        }
    }
}

impl From<UserId> for String {
    fn from(id: UserId) -> Self {
        id.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The client's name for one intent: 1–255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for IdempotencyKey {
    type Error = Malformed;

    fn try_from(text: &str) -> Result<Self, Malformed> {
        if visible_ascii(text, 255) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Malformed("an Idempotency-Key has 1 to 255 visible ASCII characters"))
        }
    }
}

/// A course, by the operator's short name for it: 1–64 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CourseId(String);

impl TryFrom<&str> for CourseId {
    type Error = Malformed;

    fn try_from(text: &str) -> Result<Self, Malformed> {
        if visible_ascii(text, 64) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Malformed("must be 1 to 64 visible ASCII characters"))
        }
    }
}

impl CourseId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for CourseId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        Self::try_from(text)
    }
}

impl From<CourseId> for String {
    fn from(id: CourseId) -> Self {
        id.0
    }
}

fn visible_ascii(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// One session of a course.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScheduleId(pub Uuid);

impl ScheduleId {
    /// The session that this operator adds by this key.
    pub fn derive(operator: &str, key: &IdempotencyKey) -> Self {
        Self(wish_id(operator, key))
    }

    pub fn parse(text: &str) -> Result<Self, Malformed> {
        Uuid::try_parse(text).map(Self).map_err(|_| Malformed("a schedule id is a UUID"))
    }

    /// Which of `ways` queues carries this session's orders. All orders of one session take the
    /// same one, which is what keeps them in arrival order.
    pub fn lane(self, ways: u8) -> u8 {
        let digest = Sha256::digest(self.0.as_bytes());
        digest[0] % ways.max(1)
    }
}

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A seat of a session, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeatNo(pub i32);

impl fmt::Display for SeatNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derive(user: &str, key: &str) -> OrderId {
        OrderId::derive("hf", &UserId::try_from(user.to_owned()).unwrap(), &IdempotencyKey::try_from(key).unwrap())
    }

    #[test]
    fn s2_2_the_same_user_and_key_name_the_same_order() {
        assert_eq!(derive("ann", "k1"), derive("ann", "k1"));
        assert_eq!(derive("ann", "k1").as_str().len(), 26);
    }

    #[test]
    fn s2_2_user_and_key_cannot_run_into_each_other() {
        assert_ne!(derive("ann", "1k"), derive("ann1", "k"));
        assert_ne!(derive("ann", "k1"), derive("bob", "k1"));
    }

    /// C1: release 0.1 named an offer by a key of the customer it went to.
    #[test]
    fn c1_no_customers_key_names_an_offer() {
        let schedule = ScheduleId(Uuid::from_u128(7));
        let offer = OrderId::of_offer("hf", schedule, Ticket(1));
        assert_eq!(OrderId::try_from(offer.to_string()), Ok(offer.clone()));
        assert_eq!(offer, OrderId::of_offer("hf", schedule, Ticket(1)));
        assert_ne!(offer, OrderId::of_offer("hf", schedule, Ticket(2)));
        assert_ne!(offer, OrderId::of_offer("hf", ScheduleId(Uuid::from_u128(8)), Ticket(1)));
        for key in ["waitlist/1", "offer", "holdfast", "holdfastoffer"] {
            assert_ne!(offer, derive("ann", key), "{key}");
        }
    }

    #[test]
    fn c1_only_the_system_gives_its_request_ids() {
        assert!(is_of_the_system(&system_request("offer", Ticket(7))));
        assert!(is_of_the_system("HOLDFAST:offer-7"));
        for theirs in ["", "holdfast", "offer-7", "waitlist-7", "好holdfast:"] {
            assert!(!is_of_the_system(theirs), "{theirs}");
        }
    }

    #[test]
    fn a_derived_id_is_a_valid_out_trade_no() {
        let id = derive("ann", "k1");
        assert_eq!(OrderId::try_from(id.as_str().to_owned()), Ok(id));
    }

    #[test]
    fn s5_4_a_closed_refund_gets_a_new_number_each_time() {
        let first = RefundId::automatic(&derive("ann", "k1"));
        let second = first.successor();
        assert!(second.as_str().ends_with("-auto-n2"), "{second}");
        assert!(second.successor().as_str().ends_with("-auto-n3"));
        assert_eq!(RefundId::try_from(second.to_string()), Ok(second));
    }

    /// B3: whatever a refund's number begins with, and however often WeChat closes it, the next one is a number.
    #[test]
    fn a_refund_number_never_grows_beyond_its_limit() {
        let key = IdempotencyKey::try_from("k").unwrap();
        for prefix in ["h", "hf", "hf123456"] {
            let user = UserId::try_from("ann".to_owned()).unwrap();
            let order = OrderId::derive(prefix, &user, &key);
            for first in [
                RefundId::automatic(&order),
                RefundId::of_override(&order, Uuid::from_u128(u128::MAX)),
                RefundId::derive(&order, "operator:olga", &key),
                RefundId::at_wechat(&order, "5030"),
                RefundId::try_from("x".repeat(64)).unwrap(),
            ] {
                let mut seen = std::collections::BTreeSet::from([first.clone()]);
                let mut id = first;
                for _ in 0..1_200 {
                    id = id.successor();
                    assert_eq!(RefundId::try_from(id.to_string()).as_ref(), Ok(&id));
                    assert!(seen.insert(id.clone()), "{id} twice");
                }
            }
        }
    }

    #[test]
    fn foreign_letters_are_refused() {
        for text in ["", "short", "UPPERCASE1", "with space", "with|pipe", &"x".repeat(33)] {
            assert!(OrderId::try_from(text.to_owned()).is_err(), "{text:?}");
        }
        assert!(IdempotencyKey::try_from("a b").is_err());
        assert!(IdempotencyKey::try_from("").is_err());
        assert!(IdempotencyKey::try_from("k".repeat(256).as_str()).is_err());
    }
}
