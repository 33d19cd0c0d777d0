//! The body of `POST /v1/orders`, read so that the caller learns everything that is wrong with it at once.

use axum::{body::Body, http::HeaderMap};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    fields::{self, Fields, amount_fen, text},
    problem::{Kind, Problem},
};
use crate::domain::{
    hex::hex,
    ids::{ScheduleId, SeatNo},
    money::Fen,
    order::Channel,
};

const BODY_BYTES_MAX: usize = 16 * 1024;
/// The largest room there can be.
const SEAT_NO_MAX: i64 = 100_000;

/// What the customer asks for.
#[derive(Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    #[schema(value_type = String, format = "uuid")]
    pub schedule_id: ScheduleId,
    /// The session's price, as the customer saw it.
    #[schema(value_type = i64, minimum = 1, example = 20000)]
    pub amount_fen: Fen,
    /// That very seat; any free one when left out.
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 100_000, example = 7)]
    pub seat_no: Option<SeatNo>,
    /// `native` (a QR code) when left out; `jsapi` needs an `openid` in the token.
    #[schema(value_type = Option<Channel>)]
    pub channel: Channel,
}

impl OrderRequest {
    /// `has_openid` says whether the caller's token carries one.
    pub async fn read(headers: &HeaderMap, body: Body, has_openid: bool) -> Result<Self, Problem> {
        Self::of(fields::json_object(headers, body, BODY_BYTES_MAX).await?, has_openid)
    }

    fn of(mut fields: Fields, has_openid: bool) -> Result<Self, Problem> {
        let schedule_id = fields.required("schedule_id", schedule_id);
        let amount_fen = fields.required("amount_fen", amount_fen);
        let seat_no = fields.optional("seat_no", seat_no);
        let channel = fields.optional("channel", channel).unwrap_or(Channel::Native);
        if channel == Channel::Jsapi && !has_openid {
            fields.wrong("channel", "jsapi needs an openid in the token");
        }
        fields.finish()?;
        match (schedule_id, amount_fen) {
            (Some(schedule_id), Some(amount_fen)) => Ok(Self { schedule_id, amount_fen, seat_no, channel }),
            _ => Err(Problem::new(Kind::InvalidRequest)),
        }
    }

    /// Tells this request from another one under the same key, however its JSON was written.
    pub fn hash(&self) -> String {
        let seat = self.seat_no.map_or(0, |seat| seat.0);
        let text = format!("{} {} {seat} {}", self.schedule_id, self.amount_fen.0, self.channel.as_str());
        hex(Sha256::digest(text))
    }
}

fn schedule_id(value: &Value) -> Result<ScheduleId, &'static str> {
    ScheduleId::parse(text(value)?).map_err(|_| "must be a UUID")
}

fn seat_no(value: &Value) -> Result<SeatNo, &'static str> {
    let number = value.as_i64().filter(|number| (1..=SEAT_NO_MAX).contains(number));
    number.and_then(|number| i32::try_from(number).ok()).map(SeatNo).ok_or("must be a whole number from 1 to 100000")
}

fn channel(value: &Value) -> Result<Channel, &'static str> {
    let word = value.as_str();
    let known = Channel::ALL.into_iter().find(|channel| Some(channel.as_str()) == word);
    known.ok_or("must be native or jsapi")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(body: &Value, has_openid: bool) -> Result<OrderRequest, Problem> {
        OrderRequest::of(Fields::new(body.as_object().cloned().unwrap_or_default()), has_openid)
    }

    fn body() -> Value {
        json!({"schedule_id": "01a20406-fbef-77b5-a8d3-1e046a27c4b1", "amount_fen": 20000})
    }

    #[test]
    fn what_is_left_out_null_or_the_default_is_the_same_request() {
        let plain = read(&body(), false).unwrap();
        for (member, value) in [("seat_no", json!(null)), ("channel", json!("native")), ("channel", json!(null))] {
            let mut same = body();
            same[member] = value;
            assert_eq!(read(&same, false).unwrap().hash(), plain.hash());
        }
    }

    #[test]
    fn every_member_makes_another_request() {
        let mut hashes = std::collections::HashSet::from([read(&body(), true).unwrap().hash()]);
        for (member, value) in [
            ("schedule_id", json!("01a20406-fbef-77b5-a8d3-1e046a27c4b2")),
            ("amount_fen", json!(20001)),
            ("seat_no", json!(1)),
            ("channel", json!("jsapi")),
        ] {
            let mut other = body();
            other[member] = value;
            assert!(hashes.insert(read(&other, true).unwrap().hash()), "{member}");
        }
    }

    #[test]
    fn jsapi_without_an_openid_cannot_be_paid_and_is_refused() {
        let mut jsapi = body();
        jsapi["channel"] = json!("jsapi");
        assert!(read(&jsapi, true).is_ok());
        assert_eq!(read(&jsapi, false).unwrap_err().kind, Kind::InvalidRequest);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,40}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,8}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn s6_4_any_json_is_taken_or_refused_and_what_is_taken_is_sane(
            members in prop::collection::btree_map(
                prop_oneof![Just("schedule_id"), Just("amount_fen"), Just("seat_no"), Just("channel"), Just("x")],
                any_json(), 0..5,
            ),
            sane in any::<bool>(),
        ) {
            let mut request = if sane { body() } else { json!({}) };
            for (member, value) in members {
                request[member] = value;
            }
            if let Ok(taken) = read(&request, false) {
                prop_assert!(taken.amount_fen.0 > 0);
                prop_assert!(taken.seat_no.is_none_or(|seat| (1..=100_000).contains(&seat.0)));
                prop_assert!(request.get("x").is_none());
            }
        }
    }
}
