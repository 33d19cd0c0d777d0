//! The cache against a real Redis, and against none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use holdfast::{
    cache::{
        Cache, CacheAway, CacheSettings,
        availability::Picture,
        catalogue::{Card, Known},
        hub::{OrderHub, Watch},
        rate::RateLimit,
        token::{FreshToken, SharedToken},
    },
    domain::{
        document::{Availability, OrderDocument, Snapshot},
        ids::{OrderId, ScheduleId, SeatNo, UserId},
        money::Fen,
        order::{Channel, Status},
    },
};
use time::macros::datetime;
use tokio::time::timeout;
use uuid::Uuid;

use crate::stack::until;

/// A cache with keys of its own.
fn cache() -> Cache {
    let url = std::env::var("REDIS_URL").expect("REDIS_URL is set: run `./dev test`");
    open(&url, &format!("{}:", Uuid::now_v7()))
}

/// Nobody listens there.
fn absent() -> Cache {
    open("redis://127.0.0.1:1/0", "absent:")
}

fn open(url: &str, prefix: &str) -> Cache {
    let settings = CacheSettings { url: Some(url.into()), key_prefix: prefix.into(), call_limit_ms: 1_000 };
    Cache::open(&settings).expect("a readable URL")
}

fn order_id() -> OrderId {
    OrderId::try_from(format!("t{}", &Uuid::now_v7().simple().to_string()[..24])).expect("an id")
}

fn ann() -> UserId {
    UserId::try_from("ann".to_owned()).expect("a user")
}

fn snapshot(order_id: &OrderId, version: i32, status: Status) -> Snapshot {
    let at = datetime!(2026-05-01 09:30 UTC);
    Snapshot {
        owner: ann(),
        request_hash: "hash".into(),
        sale: None,
        document: OrderDocument {
            order_id: order_id.clone(),
            status,
            schedule_id: ScheduleId(Uuid::nil()),
            seat_no: None,
            amount_fen: Fen(20_000),
            currency: "CNY".into(),
            channel: Channel::Native,
            code_url: None,
            jsapi: None,
            hold_expires_at: None,
            pay_before: None,
            paid_at: None,
            transaction_id: None,
            refunded_fen: Fen::ZERO,
            reason: None,
            alternatives: None,
            created_at: at,
            updated_at: at,
            version,
        },
    }
}

async fn next(watch: &mut Watch) -> Arc<Snapshot> {
    let change = timeout(Duration::from_secs(60), watch.next()).await.expect("a change is published");
    change.expect("no change is missed")
}

#[tokio::test]
async fn an_older_snapshot_neither_replaces_a_newer_one_nor_is_told() {
    let cache = cache();
    let hub = OrderHub::start(cache.clone());
    until("the hub listens", async || hub.is_live().then_some(())).await;
    let id = order_id();
    let mut watch = hub.watch(&id);

    cache.store(&[snapshot(&id, 2, Status::AwaitingPayment)]).await.expect("stored");
    cache.store(&[snapshot(&id, 1, Status::Held)]).await.expect("left out");
    cache.note(&snapshot(&id, 0, Status::Submitted)).await.expect("left out");
    cache.store(&[snapshot(&id, 3, Status::Confirmed)]).await.expect("stored");

    let mut told = Vec::new();
    while told.last() != Some(&3) {
        told.push(next(&mut watch).await.document.version);
    }
    assert_eq!(told, [2, 3]);
    let stored = cache.snapshot(&id).await.expect("Redis").expect("it is there");
    assert_eq!(stored.document.status, Status::Confirmed);
}

#[tokio::test]
async fn many_waiters_hear_of_their_own_order_only() {
    let cache = cache();
    let hub = OrderHub::start(cache.clone());
    until("the hub listens", async || hub.is_live().then_some(())).await;
    let (mine, other) = (order_id(), order_id());
    let mut watches: Vec<_> = (0..50).map(|_| hub.watch(&mine)).collect();

    let both = [snapshot(&other, 1, Status::Held), snapshot(&mine, 1, Status::Held)];
    cache.store(&both).await.expect("stored");
    for watch in &mut watches {
        assert_eq!(next(watch).await.document.order_id, mine);
    }
}

#[tokio::test]
async fn s2_2_the_first_body_under_a_key_stands_until_it_is_withdrawn() {
    let cache = cache();
    let (id, schedule) = (order_id(), ScheduleId(Uuid::now_v7()));
    let earlier = async |hash| cache.admit(&id, hash, schedule, &ann()).await.expect("Redis").earlier;
    assert_eq!(earlier("one").await, None);
    assert_eq!(earlier("two").await.as_deref(), Some("one"));
    cache.withdraw(&id).await.expect("Redis");
    assert_eq!(earlier("two").await, None);
}

#[tokio::test]
async fn a_missing_card_proves_something_only_when_all_are_there() {
    let cache = cache();
    let (id, schedule) = (order_id(), ScheduleId(Uuid::now_v7()));
    let known = async || cache.admit(&id, "hash", schedule, &ann()).await.expect("Redis").schedule;
    assert_eq!(known().await, Known::Unknown);
    cache.mark_catalogue_complete().await.expect("Redis");
    assert_eq!(known().await, Known::Absent);
    let card = Card { price_fen: Fen(20_000), open: true, times: None };
    cache.put_cards(&[(schedule, card)]).await.expect("Redis");
    assert_eq!(known().await, Known::Card(card));
}

#[tokio::test]
async fn s3_1_a_reader_overtaken_by_a_writer_leaves_no_stale_picture() {
    let cache = cache();
    let schedule = ScheduleId(Uuid::now_v7());
    let picture = Availability {
        capacity: 1,
        available: 1,
        held: 0,
        confirmed: 0,
        seats_free: vec![SeatNo(1)],
        as_of: datetime!(2026-12-01 08:00 UTC),
    };
    let cold = async || match cache.availability(schedule).await.expect("Redis") {
        Picture::Cold(generation) => generation,
        Picture::Warm(picture) => panic!("it is warm: {picture:?}"),
    };

    let overtaken = cold().await;
    cache.invalidate(&[schedule]).await.expect("Redis");
    cache.fill_availability(schedule, overtaken, &picture).await.expect("Redis");
    let in_time = cold().await;
    cache.fill_availability(schedule, in_time, &picture).await.expect("Redis");
    assert!(matches!(cache.availability(schedule).await, Ok(Picture::Warm(warm)) if warm == picture));
    cache.invalidate(&[schedule]).await.expect("Redis");
    cold().await;
}

fn fresh(token: &str) -> Result<FreshToken, ()> {
    Ok(FreshToken { token: token.into(), expires_in: Duration::from_secs(7_200) })
}

#[tokio::test]
async fn token_expired_for_many_workers_at_once_is_fetched_once() {
    let cache = cache();
    let asked = Arc::new(AtomicUsize::new(0));
    let workers = (0..20).map(|_| {
        let (shared, asked) = (SharedToken::new(cache.clone()), asked.clone());
        tokio::spawn(async move {
            let refresh = || async {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                fresh("token-1")
            };
            shared.get(refresh).await
        })
    });
    for worker in futures_util::future::join_all(workers).await {
        assert_eq!(worker.expect("no panic").as_deref(), Ok("token-1"));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);

    let shared = SharedToken::new(cache);
    shared.discard("another").await;
    assert_eq!(shared.get(|| async { fresh("token-2") }).await.as_deref(), Ok("token-1"));
    shared.discard("token-1").await;
    assert_eq!(shared.get(|| async { fresh("token-2") }).await.as_deref(), Ok("token-2"));
}

#[tokio::test]
async fn a_rate_is_shared_by_all_processes_and_kept_by_each_without_redis() {
    for cache in [cache(), absent()] {
        let (one, other) = (RateLimit::new("rate", 1, 3), RateLimit::new("rate", 1, 3));
        let alone = cache.ping().await.is_err();
        let other = if alone { &one } else { &other };
        for limit in [&one, other, &one] {
            assert_eq!(limit.take(&cache, "ann").await, Ok(()));
        }
        let wait = other.take(&cache, "ann").await.expect_err("the fourth is too many");
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(one.take(&cache, "bob").await, Ok(()));
    }
}

#[tokio::test]
async fn without_redis_every_call_says_so_quickly_and_the_token_still_comes() {
    let cache = absent();
    let began = Instant::now();
    let (id, schedule) = (order_id(), ScheduleId(Uuid::now_v7()));
    assert_eq!(cache.ping().await, Err(CacheAway));
    assert!(cache.admit(&id, "hash", schedule, &ann()).await.is_err());
    assert_eq!(cache.note(&snapshot(&id, 0, Status::Submitted)).await, Err(CacheAway));
    assert_eq!(cache.invalidate(&[schedule]).await, Err(CacheAway));
    assert!(cache.snapshot(&id).await.is_err());
    // One call may wait out its limit; the others know.
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());

    let shared = SharedToken::new(cache);
    assert_eq!(shared.get(|| async { fresh("own") }).await.as_deref(), Ok("own"));
    assert_eq!(shared.get(|| async { Err(()) }).await.as_deref(), Ok("own"));
}
