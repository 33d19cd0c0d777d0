//! A lane plays cells one after the other on a stack of its own, in a thread of its own. Several lanes share the work.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{Mutex, MutexGuard},
    thread,
    time::Duration,
};

use futures_util::FutureExt;

use crate::{
    cell::{Cell, Outcome, Told},
    crew::Crew,
    rest::{self, Watch},
    stack::{Choice, Stack},
    stories::{FIRST, World},
    tale::Tale,
};

/// Longest that a step of a story is waited for: far above what it takes on a busy machine. …
const PATIENCE: Duration = Duration::from_secs(60);
/// … and where a safeguard is missing, and it may be in vain. Shorter than the fifteen seconds after which Redis forgets
/// an order, and the look of a customer has WeChat asked: they heal what is to be seen.
const PATIENCE_IN_VAIN: Duration = Duration::from_secs(10);

/// Plays all cells; answers them in no particular order.
pub(crate) fn play(name: &str, lanes: usize, mut cells: Vec<Cell>) -> Vec<Told> {
    // One world after the other, so that a lane changes its stack once at most.
    cells.sort_by_key(|cell| cell.story.world);
    let lanes = lanes.min(cells.len());
    let game = Game { name, all: cells.len(), cells: Mutex::new(cells.into()), told: Mutex::default() };
    thread::scope(|scope| {
        for lane in 0..lanes {
            let game = &game;
            scope.spawn(move || {
                // A thread beside the story's, for the simulator.
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
                runtime.expect("a runtime").block_on(game.run(lane));
            });
        }
    });
    game.told.into_inner().expect("no lane broke")
}

struct Game<'a> {
    name: &'a str,
    all: usize,
    cells: Mutex<VecDeque<Cell>>,
    told: Mutex<Vec<Told>>,
}

impl Game<'_> {
    fn cells(&self) -> MutexGuard<'_, VecDeque<Cell>> {
        self.cells.lock().expect("no lane broke")
    }

    fn next_of(&self, world: World) -> Option<Cell> {
        let mut cells = self.cells();
        if cells.front()?.story.world == world { cells.pop_front() } else { None }
    }

    fn next_world(&self) -> Option<World> {
        self.cells().front().map(|cell| cell.story.world)
    }

    async fn run(&self, lane: usize) {
        let mut stacks = 0;
        while let Some(world) = self.next_world() {
            stacks += 1;
            let mut stack = stack_of(&format!("crash_{}_{lane}_{stacks}", self.name), world).await;
            let more: &[&'static str] = if world == World::Plain { &[] } else { &["reconcile"] };
            let crew = Crew::start(&mut stack, more).await;
            let stack = crew.stack;
            stack.until_ready().await;
            let watch = Watch::of(stack).await;
            let mut number = 0;
            let first = play_one(stack, &crew, &watch, number, Cell::undisturbed(&FIRST)).await;
            assert_eq!(first.outcome, Outcome::Green, "a fresh stack does not work");
            while let Some(cell) = self.next_of(world) {
                number += 1;
                let told = play_one(stack, &crew, &watch, number, cell).await;
                // What went wrong may go on going wrong: the next cell begins on a stack of its own.
                let is_red = matches!(told.outcome, Outcome::Red(_));
                self.note(told);
                if is_red {
                    break;
                }
            }
        }
    }

    fn note(&self, told: Told) {
        let mut all = self.told.lock().expect("no lane broke");
        if let Outcome::Red(why) = &told.outcome {
            println!("red: {}\n     {why}", told.cell);
        }
        all.push(told);
        if all.len().is_multiple_of(50) || all.len() == self.all {
            let red = all.iter().filter(|told| matches!(told.outcome, Outcome::Red(_))).count();
            println!("{}: {} of {} cells, {red} red", self.name, all.len(), self.all);
        }
    }
}

/// The key in force, and its successor, which is known already.
pub(crate) const PERSONAL_KEYS: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=
fresh bm90IHNvIHJhbmRvbSwgYnV0IDMyIGJ5dGVzIGxvbmc=";

async fn stack_of(name: &str, world: World) -> Stack {
    let calm = [
        ("HOLDFAST_ORDER__HOLD_SECONDS", "600"),
        ("HOLDFAST_ORDER__PAYMENT_SECONDS", "1200"),
        ("HOLDFAST_ORDER__REFUND_INTERVAL_SECONDS", "0"),
        // Many stacks share one server.
        ("HOLDFAST_DATABASE__MAX_CONNECTIONS", "3"),
        ("HOLDFAST_PERSONAL__KEY", PERSONAL_KEYS),
        // Only the sweep reads these.
        ("HOLDFAST_RECONCILE__EVERY_SECONDS", "1"),
        ("HOLDFAST_RECONCILE__GRACE_SECONDS", "1"),
    ];
    let looks: &[(&'static str, &str)] = match world {
        World::Plain => &[("HOLDFAST_ORDER__CHECK_SECONDS", "500")],
        World::Operated => &[
            ("HOLDFAST_ORDER__CHECK_SECONDS", "500"),
            ("HOLDFAST_OVERRIDE__SECOND_PERSON_FEN", "0"),
            ("HOLDFAST_RECONCILE__CANARY_SECONDS", "0"),
        ],
        World::Swept => &[("HOLDFAST_ORDER__CHECK_SECONDS", "1"), ("HOLDFAST_RECONCILE__CANARY_SECONDS", "0")],
        World::Watched => &[("HOLDFAST_ORDER__CHECK_SECONDS", "500"), ("HOLDFAST_RECONCILE__CANARY_SECONDS", "3")],
    };
    let settings = calm.iter().chain(looks).map(|(name, value)| (*name, (*value).to_owned())).collect();
    Stack::start_with(name, Choice { settings, roles: Vec::new(), ..Choice::default() }).await
}

async fn play_one(stack: &Stack, crew: &Crew<'_>, watch: &Watch, number: usize, cell: Cell) -> Told {
    let patience = if cell.without.is_some() { PATIENCE_IN_VAIN } else { PATIENCE };
    let before = crew.recorded();
    crew.doom(&cell).await;
    let story = async {
        let began = sqlx::query_scalar("SELECT now()").fetch_one(&stack.db).await.expect("PostgreSQL");
        let tale = Tale::new(stack, crew, number, patience);
        (cell.story.tell)(&tale).await;
        rest::come_to_rest(&tale, watch).await;
        stack.script(&serde_json::json!({})).await;
        rest::check(tale, began).await;
    };
    let watched = async {
        tokio::select! { () = story => {}, never = crew.watch(watch) => match never {} }
    };
    let ended = AssertUnwindSafe(watched).catch_unwind().await;
    let (died, twin) = crew.pardon();
    let outcome = match ended {
        Err(panic) => Outcome::Red(words_of(panic.as_ref())),
        Ok(()) if died < cell.deaths.len() || cell.pause.is_some() != twin.is_some() => Outcome::NotReached,
        Ok(()) => Outcome::Green,
    };
    let mut passed = crew.passed_since(&before);
    if let Some(death) = cell.deaths.first() {
        // What only the fresh process can pass: the next deaths are among them.
        let place = passed.iter().position(|point| point.role == cell.role && point.name == *death);
        passed = place.map_or_else(Vec::new, |place| passed.split_off(place + 1));
        passed.retain(|point| point.role == cell.role);
    }
    Told { cell, outcome, twin, passed }
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
    words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".into())
}
