//! `holdfast schedule`: courses' sessions.

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::Page;
use crate::{
    config::Settings,
    desk,
    domain::{
        calendar::{Moment, show},
        document::ScheduleDocument,
        ids::{CourseId, ScheduleId},
        schedule::{Capacity, NewSchedule, Price},
        session_rules::{GivenRules, RefundRules, SeatsPerCustomer},
        text::Title,
    },
    exit::Failure,
    store::{self, schedule::ScheduleFilter},
};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Add a session with all its seats free.
    Add {
        /// Seats in the room.
        #[arg(long, allow_negative_numbers = true)]
        capacity: Capacity,
        /// Its course: 1 to 64 visible ASCII characters. Made when it is new.
        #[arg(long, default_value = "pottery")]
        course: CourseId,
        /// What customers read, on one line; only for a new course.
        #[arg(long)]
        title: Option<Title>,
        /// RFC 3339, from the year 2000 to the year 2199; a week from now when left out.
        #[arg(long, value_parser = Moment::parse)]
        starts_at: Option<Moment>,
        /// In fen; the configured price when left out.
        #[arg(long, allow_negative_numbers = true)]
        price_fen: Option<Price>,
        /// When orders are taken first; at once when left out.
        #[arg(long, value_parser = Moment::parse)]
        sale_opens_at: Option<Moment>,
        /// When orders are taken, and can be paid, no more; the start at the latest, which it is when left out.
        #[arg(long, value_parser = Moment::parse)]
        sale_closes_at: Option<Moment>,
        /// Held and booked seats that one customer may have; the configured number when left out.
        #[arg(long, allow_negative_numbers = true)]
        seats_per_customer: Option<SeatsPerCustomer>,
        /// What customers take back by themselves, a JSON list like [{"until_hours_before":24,"percent":100}]; the configured
        /// rules when left out.
        #[arg(long, value_parser = RefundRules::parse)]
        refund_rules: Option<RefundRules>,
    },
    /// List sessions, soonest first.
    List {
        #[arg(long)]
        course: Option<CourseId>,
        /// At most this many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
        /// `next` of the page before.
        #[arg(long, value_parser = super::cursor)]
        cursor: Option<(OffsetDateTime, Uuid)>,
    },
    /// Cancel a session: no new orders, every booking refunded, every unpaid order cancelled. Can be interrupted and
    /// run again at any time.
    Cancel(super::schedule_cancel::Arguments),
    /// The proof that seats went by arrival: a session's line, and who got what; exit 1 if anybody was overtaken.
    Line { schedule_id: String },
}

pub async fn run(command: Command, settings: &Settings, json: bool) -> Result<(), Failure> {
    match command {
        Command::Add {
            capacity,
            course,
            title,
            starts_at,
            price_fen,
            sale_opens_at,
            sale_closes_at,
            seats_per_customer,
            refund_rules,
        } => {
            let starts_at = starts_at.unwrap_or_else(|| Moment::after(OffsetDateTime::now_utc(), Duration::days(7)));
            let given = GivenRules { sale_opens_at, sale_closes_at, seats_per_customer, refund_rules };
            let rules = given
                .complete(starts_at, &settings.order.session_rules()?)
                .map_err(|(field, why)| Failure::wrong(format!("--{}: {why}", field.replace('_', "-"))))?;
            let new = NewSchedule {
                schedule_id: ScheduleId(Uuid::now_v7()),
                course: title.unwrap_or_else(|| Title::from(&course)),
                course_id: course,
                starts_at,
                price_fen: price_fen.map_or_else(|| settings.order.price(), Ok)?,
                capacity,
                rules,
            };
            add(&new, settings, json).await
        }
        Command::List { course, limit, cursor } => {
            let database = super::database(settings)?;
            let after = cursor.map(|(at, id)| (at, ScheduleId(id)));
            let filter = ScheduleFilter { course_id: course.map(String::from), after, ..ScheduleFilter::default() };
            let items = store::schedule::list(database.pool(), &filter, limit + 1).await?;
            let page = Page::cut(items, limit, |session| (session.starts_at, session.schedule_id.0));
            super::print(json, &page, || page.table(&COLUMNS, columns));
            Ok(())
        }
        Command::Cancel(arguments) => super::schedule_cancel::run(&arguments, settings, json).await,
        Command::Line { schedule_id } => line(&schedule_id, settings, json).await,
    }
}

async fn line(schedule_id: &str, settings: &Settings, json: bool) -> Result<(), Failure> {
    let schedule = super::schedule_id(schedule_id)?;
    let database = super::database(settings)?;
    let items = store::fairness::line(database.pool(), schedule).await?;
    if items.is_empty() {
        return Err(Failure::No(format!("session {schedule} has no orders")));
    }
    let page = Page { items, next: None };
    let overtaken = page.items.iter().filter(|order| order.overtaken).count();
    super::print(json, &page, || {
        let rows = page.items.iter().map(|order| {
            vec![
                order.place.to_string(),
                order.order_id.to_string(),
                show(order.submitted_at),
                order.seat_wish.map_or_else(|| "any".into(), |seat| seat.to_string()),
                order
                    .given_seat
                    .map_or_else(|| order.reason.clone().unwrap_or_default(), |seat| format!("seat {seat}")),
                order.status.as_str().to_owned(),
                if order.overtaken { "overtaken".into() } else { String::new() },
            ]
        });
        super::table(&["place", "order_id", "submitted_at", "wish", "got", "now", ""], rows)
    });
    match overtaken {
        0 => Ok(()),
        some => Err(Failure::No(format!("{some} orders were overtaken"))),
    }
}

async fn add(new: &NewSchedule, settings: &Settings, json: bool) -> Result<(), Failure> {
    let database = super::database(settings)?;
    let added = desk::schedules::add(&database, super::cache(settings).as_ref(), new).await?.schedule;
    super::print(json, &added, || super::table(&COLUMNS, [columns(&added)]));
    Ok(())
}

const COLUMNS: [&str; 11] = [
    "schedule_id",
    "course",
    "starts_at",
    "price",
    "available",
    "capacity",
    "status",
    "sale opens",
    "sale closes",
    "per customer",
    "given back",
];

fn columns(schedule: &ScheduleDocument) -> Vec<String> {
    vec![
        schedule.schedule_id.to_string(),
        schedule.course.clone(),
        show(schedule.starts_at),
        schedule.price_fen.to_string(),
        schedule.available.to_string(),
        schedule.capacity.to_string(),
        schedule.status.clone(),
        schedule.sale_opens_at.map_or_else(|| "at once".into(), show),
        show(schedule.sale_closes_at),
        schedule.seats_per_customer.to_string(),
        schedule.refund_rules.to_string(),
    ]
}
