//! `POST /v1/orders`: headers and body of a customer's wish.
//!
//! Input: the headers, an empty line, the body. The token carries an openid when a header is called `openid`.

use axum::body::Body;
use futures_util::FutureExt as _;
use holdfast::api::order_request::OrderRequest;
use serde_json::json;

use super::{OPENID, assert_silent, lines, parts, wechat_side, with_person};

pub(crate) fn check(data: &[u8]) -> bool {
    let (head, body) = parts(data);
    let (headers, _) = wechat_side::headers(lines(head), &[]);
    let has_openid = headers.contains_key("openid");
    let read = |body: Vec<u8>, has_openid| {
        let read = OrderRequest::read(&headers, Body::from(body), has_openid);
        read.now_or_never().expect("a body that is there is read at once")
    };
    match read(with_person(body), has_openid) {
        Ok(request) => {
            assert!(request.amount_fen.0 > 0);
            assert!(request.seat_no.is_none_or(|seat| (1..=100_000).contains(&seat.0)));
            let again = json!({
                "schedule_id": request.schedule_id.to_string(), "amount_fen": request.amount_fen.0,
                "seat_no": request.seat_no.map(|seat| seat.0), "channel": request.channel.as_str(),
            });
            let again = read(again.to_string().into_bytes(), true).expect("the same wish");
            assert_eq!(again, request);
            assert_eq!(again.hash(), request.hash());
            // jsapi needs an openid.
            assert!(has_openid || request.channel.as_str() == "native");
            true
        }
        Err(problem) => {
            assert!(problem.kind.status().is_client_error());
            // The names of unknown members are told; values never.
            if !serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>(&with_person(body))
                .is_ok_and(|members| members.keys().any(|name| name.contains(OPENID)))
            {
                assert_silent(&format!("{problem:?}"), &[OPENID]);
            }
            false
        }
    }
}
