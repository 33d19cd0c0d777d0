//! Our books against WeChat's bill, day by day: found differences are healed through the ordinary queues where
//! WeChat's signed word can do it, and become cases where a person must.
//!
//! The bill is believed only when it is whole and has the hash that WeChat signed. It heals nothing by itself: for
//! what it tells otherwise WeChat is asked, and the answer goes the way of every answer, to the workers `payments`
//! and `refunds`. A doubt about any of it leaves the day unfinished, to be done again from its beginning; whatever
//! was found until then is found again, and changes nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use time::{Date, OffsetDateTime, Time};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    broker::publish::{PublishError, Publisher},
    domain::{
        books::{DayDocument, Finding, Matter, Pair, Remedy, Word, after_asking, compare},
        calendar::in_china,
        message::{Message, PaymentSeen, RefundSeen, Source},
        neighbours::Neighbours,
    },
    store::{
        Database, StoreError,
        bill::StagedBill,
        books::{self, Difference},
        leader::Candidate,
    },
    wechat::{
        answers::{Claim, Class, Inconclusive},
        exchange::PayClient,
        transaction::Standing,
    },
};

/// Differences that are judged and written at once.
const PAGE: usize = 500;
/// After a day that could not be finished.
const PAUSE: Duration = Duration::from_secs(300);

/// Compares days.
pub struct Books {
    pub db: Database,
    pub publisher: Publisher,
    pub wechat: Arc<PayClient>,
    /// Whose orders are in the merchant's bill and no business of ours.
    pub neighbours: Neighbours,
}

/// Why a day was not compared to its end. It can be begun again at any time.
#[derive(Debug, thiserror::Error)]
pub enum Unfinished {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("WeChat: {0}")]
    Wechat(#[from] Inconclusive),
    #[error("another process compares this day at the moment")]
    Busy,
}

impl Books {
    /// Compares every day that is due, while this process leads, until `stop`. `ready`: when in China the bill of
    /// the day before can be had.
    pub async fn run(self, every: Duration, ready: Time, stop: CancellationToken) {
        let mut clock = tokio::time::interval(every);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut candidate = Candidate::new(self.db.clone(), "books");
        let mut paused_since: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = clock.tick() => {}
                () = stop.cancelled() => break,
            }
            if !candidate.leads().await.unwrap_or(false) {
                // Whoever leads tells; what this process told before must not stand beside it.
                metrics::gauge!("books_days_due").set(f64::NAN);
                continue;
            }
            if paused_since.is_some_and(|since| since.elapsed() < PAUSE) {
                continue;
            }
            paused_since = tokio::select! {
                outcome = self.catch_up(ready) => outcome.is_err().then(Instant::now),
                // What is half done is done again.
                () = stop.cancelled() => break,
            };
        }
        candidate.resign().await;
    }

    /// The days that are due, oldest first. One that cannot be finished keeps none of the others from it.
    async fn catch_up(&self, ready: Time) -> Result<(), ()> {
        let due = match books::due(&self.db, ready).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(%error, "which days are due is not known");
                return Err(());
            }
        };
        let mut behind = due.len();
        for date in due {
            metrics::gauge!("books_days_due").set(behind as f64);
            match self.check(date).await {
                Ok(day) => {
                    behind -= 1;
                    tracing::info!(%date, status = day.status.as_str(), standing = day.standing, "a day was compared");
                }
                Err(error) => tracing::error!(%date, %error, "a day could not be compared with WeChat's bill"),
            }
        }
        metrics::gauge!("books_days_due").set(behind as f64);
        if behind == 0 { Ok(()) } else { Err(()) }
    }

    /// Compares one China day, now.
    ///
    /// # Errors
    /// The day stays unfinished; its row says why.
    pub async fn check(&self, date: Date) -> Result<DayDocument, Unfinished> {
        let Some(mut bill) = StagedBill::begin(&self.db, date).await? else { return Err(Unfinished::Busy) };
        let outcome = self.check_staged(date, &mut bill).await;
        bill.end().await;
        let label = outcome.as_ref().map_or("unfinished", |day| day.status.as_str());
        metrics::counter!("books_days_total", "status" => label).increment(1);
        if let Err(error) = &outcome {
            // Best effort: the error itself goes to whoever asked.
            let _ = books::fail(&self.db, date, &error.to_string()).await;
        }
        outcome
    }

    async fn check_staged(&self, date: Date, bill: &mut StagedBill) -> Result<DayDocument, Unfinished> {
        let started = books::start(&self.db, date).await?;
        let has_statement = self.fetch(date, bill).await?;
        bill.complete().await?;
        let (billed, booked) = bill.sums().await?;
        self.compare(date, started, bill, has_statement).await?;
        let mut step = self.db.begin("books.finish").await?;
        if !has_statement && booked.payments + booked.refunds > 0 {
            books::record_no_statement(&mut step, date, booked).await?;
        }
        books::finish(&mut step, date, started, billed, booked).await?;
        step.commit().await?;
        let day = books::day(self.db.pool(), date).await?;
        Ok(day.expect("a day that was finished has its row"))
    }

    /// Stages the whole bill; false when WeChat has none of this day.
    async fn fetch(&self, date: Date, bill: &mut StagedBill) -> Result<bool, Unfinished> {
        let Some(link) = self.wechat.trade_bill(date).await? else { return Ok(false) };
        let mut download = self.wechat.download_bill(&link).await?;
        while let Some(mut rows) = download.next().await? {
            rows.retain(|billed| !self.neighbours.own(&billed.out_trade_no));
            bill.add(&rows).await?;
        }
        Ok(true)
    }

    /// Judges every fact that may differ, page by page: no statement is open while WeChat is asked.
    async fn compare(
        &self,
        date: Date,
        started: OffsetDateTime,
        bill: &mut StagedBill,
        open_cases: bool,
    ) -> Result<(), Unfinished> {
        let mut last = 0;
        loop {
            let page = bill.pairs(last, PAGE as i64).await?;
            let Some((place, _)) = page.last() else { return Ok(()) };
            last = *place;
            let (mut differences, mut messages) = (Vec::new(), Vec::new());
            for pair in page.into_iter().filter_map(|(_, pair)| pair) {
                let found = match compare(&pair) {
                    Finding::Agrees => None,
                    Finding::Case(kind) => Some((kind, Remedy::Case)),
                    Finding::Ask(kind) => {
                        let (word, message) = self.ask(date, &pair).await?;
                        let found = after_asking(kind, word);
                        messages.extend(message.filter(|_| matches!(found, Some((_, Remedy::Heal)))));
                        found
                    }
                };
                differences.extend(found.map(|(kind, remedy)| Difference { kind, remedy, pair }));
            }
            self.record(date, started, &differences, &messages, open_cases).await?;
        }
    }

    async fn record(
        &self,
        date: Date,
        started: OffsetDateTime,
        differences: &[Difference],
        messages: &[Message],
        open_cases: bool,
    ) -> Result<(), Unfinished> {
        let mut step = self.db.begin("books.record").await?;
        books::record(&mut step, date, started, differences, open_cases).await?;
        step.commit().await?;
        self.publisher.publish_all(messages).await?;
        for Difference { kind, remedy, pair } in differences {
            let (kind, remedy) = (kind.as_str(), remedy.as_str());
            metrics::counter!("books_differences_total", "kind" => kind, "remedy" => remedy).increment(1);
            tracing::warn!(%date, kind, remedy, number = pair.number, "our books and WeChat's bill differ");
        }
        Ok(())
    }

    /// WeChat's signed word about a fact, and the message that carries it to the worker whose matter it is.
    async fn ask(&self, date: Date, pair: &Pair) -> Result<(Word, Option<Message>), Unfinished> {
        let answer = match pair.matter {
            Matter::Payment => {
                self.wechat.query_transaction(&pair.number).await.map(|transaction| match transaction.standing() {
                    Standing::Paid(payment) => {
                        let seen = PaymentSeen { payment: *payment, source: Source::Query, request_id: String::new() };
                        (Word::Known, Some(Message::PaymentSeen(seen)))
                    }
                    Standing::Unpaid | Standing::Closed | Standing::Unclear(_) => (Word::Unclear, None),
                })
            }
            Matter::Refund => self.wechat.query_refund(&pair.number).await.map(|refund| {
                let day = refund.create_time.map(|at| in_china(at).date());
                let word = if day.is_none_or(|day| day == date) { Word::Known } else { Word::OtherDay };
                match refund.facts() {
                    Some(facts) => {
                        let (source, request_id) = (Source::Query, String::new());
                        let seen = RefundSeen { facts, source, request_id, taken_in: None };
                        (word, Some(Message::RefundSeen(seen)))
                    }
                    None => (Word::Unclear, None),
                }
            }),
        };
        match answer {
            Ok(said) => Ok(said),
            Err(Inconclusive { class: Class::Claimed(Claim::Absent), .. }) => Ok((Word::Absent, None)),
            Err(Inconclusive { class: Class::Refused | Class::Claimed(_), .. }) => Ok((Word::Unclear, None)),
            Err(doubt) => Err(doubt.into()),
        }
    }
}
