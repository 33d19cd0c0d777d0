//! Many customers at once: everybody is answered, nobody is served twice, and seats go by arrival.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;

use crate::{
    customer::Customer,
    stack::{Answer, Stack},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_3_a_hundred_customers_at_once_all_get_a_code() {
    let stack = Stack::start("crowd").await;
    let schedule = stack.add_schedule(100).await;
    let customers = Customer::crowd(&stack, "crowd", 100);

    let (answers, times): (Vec<Answer>, Vec<Duration>) =
        join_all(customers.iter().map(|customer| customer.order(&schedule, None))).await.into_iter().unzip();

    for answer in &answers {
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        assert!(answer.body["code_url"].as_str().is_some_and(|url| url.starts_with("weixin://")), "{}", answer.body);
    }
    let seats: BTreeSet<i64> = answers.iter().filter_map(|answer| answer.body["seat_no"].as_i64()).collect();
    assert_eq!(seats, (1..=100).collect(), "each seat once");
    print_times("submit → QR code", times);
    stack.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_3_two_hundred_customers_for_twenty_seats() {
    let mut stack = Stack::start("sold_out").await;
    let schedule = stack.add_schedule(20).await;
    let later = stack.add_schedule(5).await;
    let customers = Customer::crowd(&stack, "keen", 200);

    let outcomes = join_all(customers.iter().map(async |customer| {
        let (answer, _) = customer.order(&schedule, None).await;
        if answer.status == StatusCode::CREATED {
            let order = answer.body["order_id"].as_str().expect("an id");
            customer.pay(order).await;
            customer.until_status(order, "confirmed").await;
        }
        answer
    }))
    .await;

    let (served, refused): (Vec<_>, Vec<_>) = outcomes.iter().partition(|answer| answer.status == StatusCode::CREATED);
    assert_eq!((served.len(), refused.len()), (20, 180));
    for answer in &refused {
        assert_eq!((answer.status, answer.problem()), (StatusCode::CONFLICT, "sold-out"), "{}", answer.body);
        assert_eq!(answer.body["alternatives"]["seats"], json!([]));
        let elsewhere = answer.body["alternatives"]["schedules"][0]["schedule_id"].as_str();
        assert_eq!(elsewhere, Some(later.as_str()), "{}", answer.body);
    }

    stack.come_to_rest().await;
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders WHERE status = 'confirmed'").await, 20);
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders WHERE status = 'rejected'").await, 180);
    let out_of_turn =
        "SELECT count(*) FROM (SELECT status, row_number() OVER (ORDER BY arrival) AS place FROM payment_orders) o
                        WHERE (place <= 20) <> (status = 'confirmed')";
    assert_eq!(stack.count(out_of_turn).await, 0, "the first twenty arrivals have the seats");
    let told = stack.messages_by_user().await;
    assert_eq!(told, customers.iter().map(|customer| (customer.user.clone(), 1)).collect(), "each is told once");
    stack.check_ledger().await;
    stack.check_invariants().await;
}

#[tokio::test]
async fn s5_3_who_is_answered_first_is_served_first() {
    let stack = Stack::start("arrival").await;
    let schedule = stack.add_schedule(10).await;

    // Each clicks when the one before has the 202, which is a place in the line.
    let mut orders = Vec::new();
    for customer in Customer::crowd(&stack, "patient", 30) {
        let order = customer.submit(&schedule, None).await;
        orders.push((customer, order));
    }
    for (place, (customer, order)) in orders.iter().enumerate() {
        let status = if place < 10 { "awaiting_payment" } else { "rejected" };
        let document = customer.until_status(order, status).await;
        let seat = document["seat_no"].as_u64();
        assert_eq!(seat, (place < 10).then_some(place as u64 + 1), "{document}");
    }
    stack.check_invariants().await;
}

/// Chosen seats and "any" mixed: the outcome is what a person with a list would have written, going by arrival.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_3_chosen_seats_and_any_seat_mixed() {
    const SEATS: i64 = 40;
    let stack = Stack::start("mixed").await;
    let schedule = stack.add_schedule(u32::try_from(SEATS).expect("small")).await;
    let customers = Customer::crowd(&stack, "mixed", 100);

    // Two of three choose; many choose the same few seats.
    let wishes = customers.iter().enumerate().map(|(number, customer)| {
        let number = i64::try_from(number).expect("small");
        let seat = (number % 3 != 0).then_some(number * number % SEATS + 1);
        customer.order(&schedule, seat)
    });
    let answers = join_all(wishes).await;

    type Row = (String, Option<i32>, Option<i32>, Option<String>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT o.order_id, o.seat_wish, r.seat_no, o.reason
           FROM payment_orders o LEFT JOIN seat_reservations r USING (order_id) ORDER BY o.arrival",
    )
    .fetch_all(&stack.db)
    .await
    .expect("orders");
    assert_eq!(rows.len(), 100);
    let mut free: BTreeSet<i32> = (1..=i32::try_from(SEATS).expect("small")).collect();
    for (order, wish, seat, reason) in &rows {
        let due = match wish {
            None => free.first().copied(),
            Some(wish) => free.get(wish).copied(),
        };
        assert_eq!(*seat, due, "{order} wished {wish:?}");
        if let Some(seat) = due {
            free.remove(&seat);
        } else {
            assert_eq!(reason.as_deref(), Some(if free.is_empty() { "sold-out" } else { "seat-taken" }), "{order}");
        }
    }
    let stored: BTreeMap<&str, Option<i32>> = rows.iter().map(|(order, _, seat, _)| (order.as_str(), *seat)).collect();
    for (answer, _) in &answers {
        let order = answer.body["order_id"].as_str().expect("an id");
        assert_eq!(answer.status == StatusCode::CREATED, stored[order].is_some(), "{}", answer.body);
    }
    stack.check_invariants().await;
}

/// Printed for people; a shared machine's times prove nothing.
fn print_times(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("{what}: p50 {:?}, p99 {:?}", at(50), at(99));
}
