//! `holdfast sample`: one booking through a running stack, as a customer with a phone would make it, and its
//! story. The only part besides [`crate::wechat`] that calls out over HTTP: here it plays the other side.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream::BoxStream};
use reqwest::Client;
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    api::{AuthKeys, Role},
    config::Settings,
    desk,
    domain::{
        calendar::Moment,
        document::{OrderDocument, ScheduleDocument},
        ids::{CourseId, OrderId, ScheduleId},
        notification::{Kind, NotificationStatus},
        order::Status,
        schedule::{Capacity, NewSchedule},
        session_rules::GivenRules,
        text::Title,
    },
    exit::Failure,
    store::{self, Database, schedule::ScheduleFilter},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Where the API is.
    #[arg(long, env = "HOLDFAST_API", default_value = "http://127.0.0.1:8080")]
    api: String,
    /// Where the WeChat simulator is.
    #[arg(long, env = "HOLDFAST_SIMULATOR", default_value = "http://127.0.0.1:8090")]
    simulator: String,
    /// Seconds after which a story that does not end is a failure.
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

/// One thing that happened.
#[derive(Debug, Serialize)]
struct Happened {
    /// Milliseconds since the click.
    ms: u128,
    what: &'static str,
    detail: String,
}

pub async fn run(arguments: &Arguments, settings: &Settings, json: bool) -> Result<(), Failure> {
    let patience = Duration::from_secs(arguments.patience);
    let story = tokio::time::timeout(patience, tell(arguments, settings)).await;
    let story = story.map_err(|_| Failure::No(format!("the booking was not confirmed within {patience:?}")))??;
    super::print(json, &json!({ "items": story, "next": null }), || {
        let lines: Vec<String> = story
            .iter()
            .map(|happened| format!("{:>7} ms  {:<13} {}", happened.ms, happened.what, happened.detail))
            .collect();
        lines.join("\n")
    });
    Ok(())
}

async fn tell(arguments: &Arguments, settings: &Settings) -> Result<Vec<Happened>, Failure> {
    let database = super::database(settings)?;
    let schedule = session_to_book(&database, settings).await?;
    let customer = Customer::new(arguments, settings)?;

    let clicked = Instant::now();
    let mut story = Vec::new();
    let mut tell = |what, detail: String| story.push(Happened { ms: clicked.elapsed().as_millis(), what, detail });
    let order_id = customer.submit(&schedule).await?;
    tell("submitted", order_id.to_string());

    let mut events = customer.events(&order_id).await?;
    let mut told = Status::Submitted;
    while let Some(order) = events.next().await? {
        let first_of = |status| told < status && order.status >= status;
        if first_of(Status::Held) {
            tell("held", order.seat_no.map(|seat| format!("seat {seat}")).unwrap_or_default());
        }
        match order.status {
            Status::AwaitingPayment if told < Status::AwaitingPayment => {
                let code_url = order.code_url.clone().unwrap_or_default();
                tell("code", code_url.clone());
                let transaction_id = customer.pay(&code_url).await?;
                tell("paid", transaction_id);
            }
            Status::Confirmed => {
                tell("confirmed", format!("{} of {}", order.amount_fen, schedule.course));
                break;
            }
            Status::Rejected => return Err(Failure::No(format!("rejected: {}", order.reason.unwrap_or_default()))),
            _ => {}
        }
        told = order.status;
    }
    message_sent(&database, &order_id).await?;
    tell("message sent", format!("{} to {}", Kind::BookingConfirmed.as_str(), customer.user));
    Ok(story)
}

/// An open session with a free seat; the first time, a small programme of courses is made.
async fn session_to_book(database: &Database, settings: &Settings) -> Result<ScheduleDocument, Failure> {
    let now = OffsetDateTime::now_utc();
    let bookable = ScheduleFilter { from: Some(now + time::Duration::hours(1)), ..ScheduleFilter::default() };
    for _ in 0..2 {
        let sessions = store::schedule::list(database.pool(), &bookable, 100).await?;
        if let Some(session) = sessions.into_iter().find(|session| session.available > 0 && session.status == "open") {
            return Ok(session);
        }
        let programme = [
            ("pottery", "陶艺体验课", 2, 20),
            ("yoga", "晨间瑜伽", 3, 12),
            ("pottery", "陶艺体验课", 9, 20),
            ("piano", "钢琴大师课", 5, 300),
        ];
        let mut step = database.begin("sample.programme").await?;
        for (course_id, course, days, capacity) in programme {
            let starts_at = Moment::after(now, time::Duration::days(days));
            let rules = GivenRules::default().complete(starts_at, &settings.order.session_rules()?);
            let new = NewSchedule {
                schedule_id: ScheduleId(Uuid::now_v7()),
                course_id: sound(CourseId::try_from(course_id)),
                course: sound(Title::try_from(course)),
                starts_at,
                price_fen: settings.order.price()?,
                capacity: sound(Capacity::try_from(capacity)),
                rules: sound(rules.map_err(|(_, why)| why)),
            };
            store::schedule::add(&mut step, &new).await?;
        }
        step.commit().await?;
        let sessions = store::schedule::list(database.pool(), &bookable, 100).await?;
        desk::schedules::announce(super::cache(settings).as_ref(), &sessions).await;
    }
    Err(Failure::No("no session has a free seat".into()))
}

/// A value of the programme above.
fn sound<T, E: std::fmt::Debug>(value: Result<T, E>) -> T {
    value.expect("the sample's programme fits its own types")
}

async fn message_sent(database: &Database, order: &OrderId) -> Result<(), Failure> {
    let mut look = tokio::time::interval(Duration::from_millis(5));
    loop {
        look.tick().await;
        match store::notification::status(database.pool(), order, Kind::BookingConfirmed).await? {
            Some(NotificationStatus::Sent) => return Ok(()),
            Some(NotificationStatus::Failed | NotificationStatus::Uncertain) => {
                return Err(Failure::No("the message to the customer was not sent".into()));
            }
            Some(NotificationStatus::Pending) | None => {}
        }
    }
}

/// A customer at a browser, with a phone in hand.
struct Customer<'a> {
    http: Client,
    arguments: &'a Arguments,
    user: String,
    token: String,
}

impl<'a> Customer<'a> {
    fn new(arguments: &'a Arguments, settings: &Settings) -> Result<Self, Failure> {
        let keys = AuthKeys::from_settings(&settings.auth).map_err(|fault| Failure::wrong(fault.to_string()))?;
        let user = format!("sample-{}", Uuid::now_v7().simple());
        let expires = OffsetDateTime::now_utc() + time::Duration::hours(1);
        let token = keys
            .mint(&user, Role::Customer, Some(&format!("openid-{user}")), expires)
            .map_err(|fault| Failure::wrong(fault.to_string()))?;
        let http = Client::builder()
            .no_proxy()
            .build()
            .map_err(|error| Failure::wrong(format!("the HTTP client cannot start: {error}")))?;
        Ok(Self { http, arguments, user, token })
    }

    async fn submit(&self, schedule: &ScheduleDocument) -> Result<OrderId, Failure> {
        let request = self
            .http
            .post(format!("{}/v1/orders", self.arguments.api))
            .bearer_auth(&self.token)
            .header("Idempotency-Key", Uuid::now_v7().to_string())
            .json(&json!({ "schedule_id": schedule.schedule_id, "amount_fen": schedule.price_fen }));
        let answer = answered("the API", request).await?;
        let order_id = answer["order_id"].as_str().unwrap_or_default().to_owned();
        OrderId::try_from(order_id).map_err(|malformed| Failure::No(malformed.to_string()))
    }

    async fn events(&self, order: &OrderId) -> Result<Events, Failure> {
        let response = self
            .http
            .get(format!("{}/v1/orders/{order}/events", self.arguments.api))
            .bearer_auth(&self.token)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(|error| away("the API", &error))?;
        let bytes = response.bytes_stream().map(|chunk| chunk.map(|bytes| bytes.to_vec()));
        Ok(Events { bytes: bytes.boxed(), read: Vec::new() })
    }

    async fn pay(&self, code_url: &str) -> Result<String, Failure> {
        let request =
            self.http.post(format!("{}/_sim/pay", self.arguments.simulator)).json(&json!({ "code_url": code_url }));
        let answer = answered("the simulator", request).await?;
        Ok(answer["transaction_id"].as_str().unwrap_or_default().to_owned())
    }
}

/// The order's event stream.
struct Events {
    bytes: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    read: Vec<u8>,
}

impl Events {
    /// The next document; `None` when the stream ended.
    async fn next(&mut self) -> Result<Option<OrderDocument>, Failure> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                if let Some(data) = line.strip_prefix(b"data:") {
                    return serde_json::from_slice(data)
                        .map(Some)
                        .map_err(|error| Failure::No(format!("an event is no order document: {error}")));
                }
                continue;
            }
            match self.bytes.next().await {
                None => return Ok(None),
                Some(Ok(bytes)) => self.read.extend_from_slice(&bytes),
                Some(Err(error)) => return Err(away("the API", &error)),
            }
        }
    }
}

async fn answered(who: &str, request: reqwest::RequestBuilder) -> Result<Value, Failure> {
    let response = request.send().await.map_err(|error| away(who, &error))?;
    let status = response.status();
    let body = response.text().await.map_err(|error| away(who, &error))?;
    if !status.is_success() {
        return Err(Failure::No(format!("{who} answered {status}: {body}")));
    }
    serde_json::from_str(&body).map_err(|error| Failure::No(format!("{who} answered no JSON: {error}")))
}

fn away(who: &str, error: &reqwest::Error) -> Failure {
    Failure::Away(format!("{who} does not answer: {error}"))
}
