//! One call of Pay v3: proved, read, performed in the world, answered under a signature.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, FromRequest, FromRequestParts as _, Request},
    http::{Response, header, request::Parts, uri::PathAndQuery},
    response::IntoResponse,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    answer::{self, No, Stamp},
    app::App,
    authorization,
    fields::{self, Field},
    refusal::Refusal,
    wire::Wire,
    world::{Outcome, World, fault::Fault, script::Operation},
};

/// No request of these endpoints comes near it.
const LARGEST_BODY: usize = 64 * 1024;

/// A request that has proved who sent it.
pub(crate) struct Call {
    pub(crate) app: Arc<App>,
    wire: Wire,
    pub(crate) parts: Parts,
    body: Bytes,
}

impl FromRequest<Arc<App>> for Call {
    type Rejection = Response<Body>;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Self::Rejection> {
        let (mut parts, body) = request.into_parts();
        let ConnectInfo(wire) =
            ConnectInfo::from_request_parts(&mut parts, app).await.map_err(IntoResponse::into_response)?;
        let body =
            to_bytes(body, LARGEST_BODY).await.map_err(|_| answer::refused(&Refusal::body("请求体过大或不完整")))?;
        let call = Self { app: Arc::clone(app), wire, parts, body };
        call.verify().map_err(|refusal| {
            tracing::info!(
                method = %call.parts.method, path = call.parts.uri.path(), code = refusal.code,
                reason = refusal.message, "refused a request"
            );
            answer::refused(&refusal)
        })?;
        Ok(call)
    }
}

impl Call {
    fn verify(&self) -> Result<(), Refusal> {
        let request = authorization::Request {
            method: &self.parts.method,
            target: self.parts.uri.path_and_query().map_or("/", PathAndQuery::as_str),
            headers: &self.parts.headers,
            body: &self.body,
        };
        authorization::verify(&request, &self.app.platform, &self.app.settings.mchid, self.app.clock())?;
        match self.asked_serial() {
            Some(serial) if !self.app.knows_serial(serial) => {
                let issue = "平台证书序列号或微信支付公钥ID错误";
                Err(Refusal::field("header", "Wechatpay-Serial", &json!(serial), issue))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn read(&self, table: &[Field]) -> Result<Value, Refusal> {
        fields::read(table, &self.body).inspect_err(|refusal| {
            tracing::info!(path = self.parts.uri.path(), reason = refusal.message, "refused a body");
        })
    }

    /// The key that the merchant encrypted with and wants the answer signed with. An empty header names none: the
    /// official SDK for Java sends one when it works with platform certificates.
    pub(crate) fn asked_serial(&self) -> Option<&str> {
        let serial = self.parts.headers.get("Wechatpay-Serial").and_then(|serial| serial.to_str().ok());
        serial.map(str::trim).filter(|serial| !serial.is_empty())
    }

    /// The host that the merchant called, for links to more of it.
    pub(crate) fn host(&self) -> &str {
        self.parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost")
    }

    /// One parameter of the query, as it stands there: none of ours needs decoding.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let pairs = self.parts.uri.query().unwrap_or_default().split('&');
        pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    }

    /// Does the deed under the lock, then answers without it.
    pub(crate) async fn perform(
        self,
        operation: Operation,
        subject: impl FnOnce(&World) -> String,
        deed: impl FnOnce(&mut World, OffsetDateTime, &Fault) -> Outcome,
    ) -> Response<Body> {
        let now = self.app.now();
        let (outcome, fault, keys) = self.app.change(|world| {
            let subject = subject(world);
            let fault = world.play.draw(operation, &subject, now);
            let outcome = match &fault.instead {
                Some(error) => Err(No::Script(error.clone())),
                None => deed(world, now, &fault).map_err(No::Rule),
            };
            (outcome, fault, world.play.keys_of_answer(&subject))
        });
        if let Err(No::Rule(refusal)) = &outcome {
            tracing::debug!(?operation, code = refusal.code, reason = refusal.message, "said no");
        }
        if matches!(operation, Operation::Refund | Operation::RefundAbnormal | Operation::Echo) {
            self.app.agenda_changed.notify_one();
        }
        let stamp = Stamp { signer: &self.app.answering_key(keys, self.asked_serial()), at: self.app.clock() };
        answer::answer(outcome, &stamp, &fault, &self.wire).await
    }
}
