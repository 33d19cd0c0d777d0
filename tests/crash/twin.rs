//! The twin of a paused process: started when the process has stopped itself at its point, given a second copy of the
//! same message, and watched until that is handled. Then the paused process goes on.
//!
//! A second copy arrives as it does in production. A worker's connection to the broker is cut, and the broker delivers
//! again what was not acknowledged. Clients of the API lose their connections and repeat their requests under the same
//! key. The leader among the `reconcile` processes loses the connection that holds its lock. A command is run again.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fs,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::{
    cell::Twin,
    crew::{CLI, Crew, REFUSES_TO_RUN, arguments_of},
    door::Door,
    rest::{QUIET, Watch},
    stack::{Answer, Stack, WORKERS, free_port, until_within},
    wire::{Break, Wire, place_of_address},
};

/// Each role and the name of its twin.
pub(crate) const TWIN: [(&str, &str); 9] = [
    ("api", "twin of api"),
    (CLI, "twin of cli"),
    ("reconcile", "twin of reconcile"),
    ("seats", "twin of seats"),
    ("prepay", "twin of prepay"),
    ("payments", "twin of payments"),
    ("expiry", "twin of expiry"),
    ("refunds", "twin of refunds"),
    ("notifications", "twin of notifications"),
];

/// A twin that passes no point for so long waits for the paused process.
pub(crate) const WAITS_FOR_THE_OTHER: Duration = Duration::from_secs(5);
/// Longest that a process takes to start on a busy machine.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);

/// The pause of a cell, and what it needs: a door before the API, wires between paused workers and the broker.
pub(crate) struct Pause {
    door: Door,
    /// Where the API listens, and its twin.
    api: u16,
    twins: u16,
    /// Where a twin tells its health.
    health: u16,
    /// The paused process creates it.
    mark: PathBuf,
    point: RefCell<Option<String>>,
    /// Bytes of points that its role had recorded before the cell.
    from: Cell<u64>,
    has_begun: Cell<bool>,
    seen: Cell<Option<Twin>>,
    twin: RefCell<Option<(&'static str, Child)>>,
    wires: RefCell<BTreeMap<&'static str, Wire>>,
    /// The command that runs, by its process id.
    command: Cell<Option<u32>>,
}

impl Pause {
    /// Puts a door before the API of a stack none of whose processes runs yet.
    pub(crate) async fn on(stack: &mut Stack) -> Self {
        let (api, twins, health) = (free_port().await, free_port().await, free_port().await);
        let listen = stack.environment.insert("HOLDFAST_API__LISTEN".to_owned(), format!("127.0.0.1:{api}"));
        let port = listen.as_deref().and_then(|address| address.rsplit(':').next()?.parse().ok()).expect("a port");
        Self {
            door: Door::at(port, api).await,
            api,
            twins,
            health,
            mark: stack.artifact("paused"),
            point: RefCell::default(),
            from: Cell::new(0),
            has_begun: Cell::new(false),
            seen: Cell::new(None),
            twin: RefCell::default(),
            wires: RefCell::default(),
            command: Cell::new(None),
        }
    }

    /// Has the next process of the role paused at the point. The role has recorded points up to `from`.
    pub(crate) async fn is_to_come(&self, role: &'static str, point: Option<&str>, from: u64, stack: &Stack) {
        let _ = fs::remove_file(&self.mark);
        self.from.set(from);
        *self.point.borrow_mut() = point.map(str::to_owned);
        self.has_begun.set(false);
        self.seen.set(None);
        let needs_wire = point.is_some() && WORKERS.contains(&role) && !self.wires.borrow().contains_key(role);
        if needs_wire {
            let wire = Wire::to(place_of_address(&stack.amqp_url).2).await;
            self.wires.borrow_mut().insert(role, wire);
        }
    }

    /// What a process has in its environment besides, when it is the one to be paused.
    pub(crate) fn settings(&self, role: &str, victim: &str, stack: &Stack) -> Vec<(&'static str, String)> {
        let point = self.point.borrow();
        let (Some(point), true) = (point.as_ref(), role == victim) else { return Vec::new() };
        let mut settings = Vec::new();
        if !self.has_begun.get() {
            settings.push(("HOLDFAST_PAUSE_AT", point.clone()));
            settings.push(("HOLDFAST_PAUSE_MARK", self.mark.to_str().expect("UTF-8").to_owned()));
        }
        if let Some(wire) = self.wires.borrow().get(role) {
            settings.push(("AMQP_URL", wire.over(&stack.amqp_url)));
        }
        settings
    }

    /// Whether the process has stopped at the point, and has no twin yet.
    fn is_reached(&self) -> bool {
        self.point.borrow().is_some() && !self.has_begun.get() && self.mark.exists()
    }

    /// Whether the process may still be paused, or is.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.point.borrow().is_some() && self.seen.get().is_none()
    }

    /// Ends the twin; answers what it had done when the paused process went on.
    pub(crate) fn end(&self) -> Option<Twin> {
        self.end_the_twin();
        // A command that is paused would stay so for ever.
        if let Some(pid) = self.command.take() {
            signal("-KILL", pid);
        }
        if self.point.take().is_some() {
            self.door.turn_to(self.api);
        }
        self.seen.take()
    }

    pub(crate) fn stop_the_twin_of(&self, role: &str) {
        if self.twin.borrow().as_ref().is_some_and(|(of, _)| *of == role) {
            self.end_the_twin();
        }
    }

    fn end_the_twin(&self) {
        if let Some((_, mut child)) = self.twin.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.end();
    }
}

impl Crew<'_> {
    /// Starts the twin when the process is paused, and lets the process go on when the twin is done; never returns.
    pub(crate) async fn watch_the_pause(&self, watch: &Watch) -> Infallible {
        loop {
            if self.victim.get() != CLI && self.pause.is_reached() {
                self.pause.has_begun.set(true);
                let twin = self.work_beside_the_paused(watch).await;
                self.pause.seen.set(Some(twin));
                let paused = self.running.borrow().get(self.victim.get()).map(Child::id);
                paused.into_iter().for_each(|pid| signal("-CONT", pid));
            }
            self.look_after_the_twin();
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether the process that was paused has finished what it was at, as far as its points show it.
    pub(crate) fn the_first_is_done(&self) -> bool {
        let role = self.victim.get();
        let point = self.pause.point.borrow();
        // A command is waited for where it is run.
        let Some(point) = point.as_ref().filter(|_| role != CLI) else { return true };
        let before = BTreeMap::from([(role, self.pause.from.get())]);
        let points: Vec<String> = self.passed_since(&before).into_iter().map(|point| point.name).collect();
        let Some(place) = points.iter().position(|passed| passed == point) else { return true };
        match self.pause.seen.get() {
            None => false,
            Some(Twin::Ended) => true,
            Some(Twin::Handled | Twin::WaitedAtALock | Twin::Waited | Twin::HadNothing) => {
                // A worker acknowledges last, and finds out then that it is too late.
                let ends =
                    !WORKERS.contains(&role) || points[place..].iter().any(|point| point.starts_with("ack.after"));
                ends && !is_between_points(&points[place..])
            }
        }
    }

    /// A twin that ends is an error, but where a queue is missing for a moment: then it is started again.
    fn look_after_the_twin(&self) {
        let mut twin = self.pause.twin.borrow_mut();
        let Some((role, child)) = twin.as_mut() else { return };
        if let Some(status) = child.try_wait().expect("known") {
            let refuses = self.queue_is_gone.get() && status.code() == Some(REFUSES_TO_RUN);
            assert!(refuses, "the twin of {role} ended by itself: {status}");
            *child = self.start_twin(role);
        }
    }

    fn start_twin(&self, role: &'static str) -> Child {
        let name = name_of_twin(role);
        let mut command = self.command(role, &arguments_of(role));
        command.env("HOLDFAST_CRASH_RECORD", self.record(name));
        command.env("HOLDFAST_HEALTH__LISTEN", format!("127.0.0.1:{}", self.pause.health));
        if role == "api" {
            command.env("HOLDFAST_API__LISTEN", format!("127.0.0.1:{}", self.pause.twins));
        }
        self.start_as(name, command)
    }

    async fn work_beside_the_paused(&self, watch: &Watch) -> Twin {
        let role = self.victim.get();
        let from = self.recorded()[name_of_twin(role)];
        if role == "reconcile" {
            self.take_the_lead_away().await;
        }
        if let Some(wire) = self.pause.wires.borrow().get(role) {
            wire.becomes(Break::Cut);
        }
        let child = self.start_twin(role);
        *self.pause.twin.borrow_mut() = Some((role, child));
        let ready = until_within(STARTS_WITHIN, format!("the twin of {role} is ready"), async || {
            self.look_after_the_twin();
            let gone = !self.is_running(role) || self.pause.twin.borrow().is_none();
            if gone { Some(false) } else { self.ask_the_twin("/readyz").await.map(|_| true) }
        });
        if !ready.await {
            return Twin::Ended;
        }
        if role == "api" {
            self.pause.door.turn_to(self.pause.twins);
        }
        self.until_the_twin_is_done(role, from, watch).await
    }

    async fn until_the_twin_is_done(&self, role: &'static str, from: u64, watch: &Watch) -> Twin {
        let mut quiet = Quiet::since_now();
        loop {
            if !self.is_running(role) || self.pause.twin.borrow().is_none() {
                return Twin::Ended;
            }
            self.look_after_the_twin();
            let points = self.passed_by_twin(role, from);
            let quiet = quiet.with(points.len());
            if quiet >= QUIET && !is_between_points(&points) && self.has_handled(role, &points, watch).await {
                return if points.is_empty() { Twin::HadNothing } else { Twin::Handled };
            }
            if let Some(waits) = self.waits_for_the_paused(quiet).await {
                return waits;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether the second copy is handled, as far as the role shows it.
    async fn has_handled(&self, role: &'static str, points: &[String], watch: &Watch) -> bool {
        match role {
            "api" => self.pause.door.all_were_repeated(),
            // Two passes are complete: in the meantime each of its other tasks has had its turn.
            "reconcile" => {
                let metrics = self.ask_the_twin("/metrics").await.unwrap_or_default();
                let passes =
                    metrics.lines().find_map(|line| line.split_once("reconcile_pass_seconds_count ")?.1.parse().ok());
                passes.is_some_and(|passes: u64| passes >= 2)
            }
            worker => {
                // The broker has taken the acknowledgement of the paused process, and delivers nothing again.
                let was_acknowledged = self.pause.point.borrow().as_ref().is_some_and(|at| at.starts_with("ack.after"));
                let has_acknowledged = points.iter().any(|point| point.starts_with("ack.after"));
                (was_acknowledged || has_acknowledged) && watch.are_taken(worker).await
            }
        }
    }

    async fn waits_for_the_paused(&self, quiet: Duration) -> Option<Twin> {
        if quiet >= QUIET && self.someone_waits_at_a_lock().await {
            Some(Twin::WaitedAtALock)
        } else {
            (quiet >= WAITS_FOR_THE_OTHER).then_some(Twin::Waited)
        }
    }

    /// Whether a transaction waits for one that has been idle longer than transactions of a running process are.
    async fn someone_waits_at_a_lock(&self) -> bool {
        let waiting = "SELECT count(*) FROM pg_stat_activity waits
             WHERE waits.datname = current_database() AND waits.wait_event_type = 'Lock' AND EXISTS (
                   SELECT FROM pg_stat_activity holds
                    WHERE holds.pid = ANY(pg_blocking_pids(waits.pid)) AND holds.state LIKE 'idle in transaction%'
                      AND holds.state_change < clock_timestamp() - interval '100 milliseconds')";
        self.stack.count(waiting).await > 0
    }

    /// Ends the connection of the leader among the `reconcile` processes, as PostgreSQL does when it takes the process
    /// for dead. A transaction that holds an advisory lock is no such connection.
    async fn take_the_lead_away(&self) {
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks JOIN pg_stat_activity USING (pid)
             WHERE datname = current_database() AND locktype = 'advisory' AND granted AND state = 'idle'";
        self.stack.count(ended).await;
    }

    async fn ask_the_twin(&self, path: &str) -> Option<String> {
        let url = format!("http://127.0.0.1:{}{path}", self.pause.health);
        let answer = Answer::try_of(self.stack.http.get(url)).await.ok()?;
        let text = || answer.body.as_str().map_or_else(|| answer.body.to_string(), str::to_owned);
        answer.status.is_success().then(text)
    }

    fn passed_by_twin(&self, role: &'static str, from: u64) -> Vec<String> {
        let before = BTreeMap::from([(name_of_twin(role), from)]);
        self.passed_since(&before).into_iter().map(|point| point.name).collect()
    }

    /// Runs a command to its end, and the same command again beside it when it is paused. Answers the output of the
    /// second one, unless only the first one succeeded.
    pub(crate) async fn run_beside_a_twin(
        &self,
        mut command: Command,
        settings: &[(&str, &str)],
        arguments: &[&str],
    ) -> Output {
        command.envs(self.pause.settings(CLI, self.victim.get(), self.stack));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("the executable starts");
        let pid = child.id();
        self.pause.command.set(Some(pid));
        let first = tokio::task::spawn_blocking(move || child.wait_with_output().expect("waited"));
        let is_paused = || self.victim.get() == CLI && self.pause.is_reached();
        while !first.is_finished() && !is_paused() {
            tokio::time::sleep(LOOK).await;
        }
        if first.is_finished() {
            self.pause.command.set(None);
            return first.await.expect("waited");
        }
        self.pause.has_begun.set(true);
        let from = self.recorded()[name_of_twin(CLI)];
        let mut command = self.command(CLI, arguments);
        command.env("HOLDFAST_CRASH_RECORD", self.record(name_of_twin(CLI))).envs(settings.iter().copied());
        let twin = tokio::task::spawn_blocking(move || command.output().expect("the executable starts"));
        let mut quiet = Quiet::since_now();
        let seen = loop {
            if twin.is_finished() {
                break Twin::Handled;
            }
            let quiet = quiet.with(self.passed_by_twin(CLI, from).len());
            if let Some(waits) = self.waits_for_the_paused(quiet).await {
                break waits;
            }
            tokio::time::sleep(LOOK).await;
        };
        self.pause.seen.set(Some(seen));
        signal("-CONT", pid);
        let first = first.await.expect("waited");
        self.pause.command.set(None);
        let twin = twin.await.expect("waited");
        if twin.status.success() || !first.status.success() { twin } else { first }
    }
}

fn name_of_twin(role: &str) -> &'static str {
    TWIN.iter().find(|(of, _)| *of == role).map(|(_, twin)| *twin).expect("a role")
}

fn signal(signal: &str, pid: u32) {
    let _ = Command::new("kill").args([signal, &pid.to_string()]).status();
}

/// Whether something has begun and not ended: a commit, a publish, a call or an acknowledgement.
fn is_between_points(points: &[String]) -> bool {
    let mut open = BTreeSet::new();
    for (moment, matter) in points.iter().filter_map(|point| point.split_once(':')) {
        match moment.split_once('.') {
            Some((deed, "before")) => open.insert((deed, matter)),
            Some((deed, "after")) => open.remove(&(deed, matter)),
            _ => false,
        };
    }
    !open.is_empty()
}

/// For how long a number has stayed the same.
struct Quiet {
    last: usize,
    since: Instant,
}

impl Quiet {
    fn since_now() -> Self {
        Self { last: 0, since: Instant::now() }
    }

    fn with(&mut self, now: usize) -> Duration {
        if now != self.last {
            *self = Self { last: now, since: Instant::now() };
        }
        self.since.elapsed()
    }
}
