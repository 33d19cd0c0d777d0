//! The processes of a stack, one of which is to die: watched, and replaced by a fresh one as soon as it does. A process
//! that is to be paused gets its twin in `twin.rs`.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{
    cell::{Cell as MatrixCell, Point, Twin, Without},
    rest::Watch,
    stack::{Stack, WORKERS},
    twin::{Pause, TWIN},
};

const KILLED: i32 = 9;
/// Not a process of its own until somebody calls it: the operator's commands.
pub(crate) const CLI: &str = "cli";

pub(crate) struct Crew<'a> {
    pub stack: &'a Stack,
    pub(crate) running: RefCell<BTreeMap<&'static str, Child>>,
    /// Whose death or pause is wanted.
    pub(crate) victim: Cell<&'static str>,
    pub(crate) pause: Pause,
    deaths_to_come: RefCell<VecDeque<String>>,
    died: Cell<usize>,
    without: Cell<Option<Without>>,
    /// A queue is missing for a moment: who starts then refuses to run, and is started again, as any supervisor does.
    pub(crate) queue_is_gone: Cell<bool>,
    refused_to_run: Cell<bool>,
}

/// The exit status of a process that finds the broker other than it must be.
pub(crate) const REFUSES_TO_RUN: i32 = 2;

impl<'a> Crew<'a> {
    /// Starts the API, all workers and these besides.
    pub(crate) async fn start(stack: &'a mut Stack, more: &[&'static str]) -> Self {
        let pause = Pause::on(stack).await;
        let crew = Self {
            stack,
            pause,
            running: RefCell::default(),
            victim: Cell::new(""),
            deaths_to_come: RefCell::default(),
            died: Cell::new(0),
            without: Cell::new(None),
            queue_is_gone: Cell::new(false),
            refused_to_run: Cell::new(false),
        };
        for role in ["api"].iter().chain(&WORKERS).chain(more) {
            crew.spawn(role);
        }
        crew
    }

    /// Has a role die its deaths, one process after the other, or be paused.
    pub(crate) async fn doom(&self, cell: &MatrixCell) {
        let role = cell.role;
        let runs = self.is_running(role);
        if runs {
            self.stop(role);
        }
        self.victim.set(role);
        *self.deaths_to_come.borrow_mut() = cell.deaths.iter().cloned().collect();
        self.died.set(0);
        self.without.set(cell.without);
        let from = self.recorded().get(role).copied().unwrap_or_default();
        self.pause.is_to_come(role, cell.pause.as_deref(), from, self.stack).await;
        self.queue_is_gone.set(false);
        self.refused_to_run.set(false);
        if runs {
            self.spawn(role);
        }
    }

    /// Lets everybody live again; answers how many deaths there were, and what the twin did.
    pub(crate) fn pardon(&self) -> (usize, Option<Twin>) {
        let role = self.victim.replace("");
        let unfinished = !self.deaths_to_come.take().is_empty() || self.pause.is_unfinished();
        let twin = self.pause.end();
        if (unfinished || self.without.take().is_some()) && self.is_running(role) {
            self.stop(role);
            self.spawn(role);
        }
        (self.died.get(), twin)
    }

    pub(crate) fn is_running(&self, role: &str) -> bool {
        self.running.borrow().contains_key(role)
    }

    /// Ends a role at once, until it is started again.
    pub(crate) fn stop(&self, role: &str) {
        let mut child = self.running.borrow_mut().remove(role).expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ended");
        self.pause.stop_the_twin_of(role);
        // It may have died its own death in this moment.
        if self.recorded_death(role) {
            self.note_death();
        }
    }

    pub(crate) fn spawn(&self, role: &'static str) {
        let mut command = self.command(role, &arguments_of(role));
        command.envs(self.pause.settings(role, self.victim.get(), self.stack));
        let child = self.start_as(role, command);
        self.running.borrow_mut().insert(role, child);
    }

    /// Starts a process that runs until it is stopped, with a log of this name.
    pub(crate) fn start_as(&self, name: &str, mut command: Command) -> Child {
        let log = File::options().create(true).append(true).open(self.stack.log(name)).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("the executable starts")
    }

    /// Runs an operator's command that is answered with yes.
    pub(crate) async fn operate(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.try_to_operate(arguments).await;
        assert_eq!(code, Some(0), "holdfast {arguments:?} failed: {stderr}");
        stdout
    }

    /// Runs an operator's command, as often as it takes when it is the one that dies: exit code, standard output,
    /// standard error. What it was to do may be done before it is run again, and then it says so.
    pub(crate) async fn try_to_operate(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        self.try_to_operate_with(&[], arguments).await
    }

    /// The same, with other settings than the workers'.
    pub(crate) async fn try_to_operate_with(
        &self,
        settings: &[(&str, &str)],
        arguments: &[&str],
    ) -> (Option<i32>, String, String) {
        loop {
            let mut command = self.command(CLI, arguments);
            command.envs(settings.iter().copied());
            let output = self.run_beside_a_twin(command, settings, arguments).await;
            if self.is_next_death(CLI, output.status) {
                self.note_death();
                continue;
            }
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
            return (output.status.code(), text(output.stdout), text(output.stderr));
        }
    }

    /// Runs an operator's command and does not run it again when it dies: nobody notices.
    pub(crate) async fn operate_once(&self, arguments: &[&str]) {
        let output = self.run_beside_a_twin(self.command(CLI, arguments), &[], arguments).await;
        if self.is_next_death(CLI, output.status) {
            self.note_death();
        }
    }

    /// From here to the end of the story.
    pub(crate) fn a_queue_is_gone(&self) {
        self.queue_is_gone.set(true);
    }

    /// Whether somebody noticed at their start.
    pub(crate) fn refused_to_run(&self) -> bool {
        self.refused_to_run.get()
    }

    pub(crate) fn command(&self, role: &'static str, arguments: &[&str]) -> Command {
        let mut command = self.stack.command(arguments);
        command.env("HOLDFAST_CRASH_RECORD", self.record(role));
        if role == self.victim.get() {
            if let Some(point) = self.deaths_to_come.borrow().front() {
                command.env("HOLDFAST_CRASH_AT", point);
            }
            if let Some(Without { safeguard, after_the_crash }) = self.without.get()
                && (!after_the_crash || self.died.get() > 0)
            {
                command.env("HOLDFAST_UNSAFE", safeguard);
            }
        }
        command
    }

    /// Replaces processes that died, and gives the paused one its twin; never returns. A death that was not ordered is
    /// an error.
    pub(crate) async fn watch(&self, watch: &Watch) -> Infallible {
        tokio::select! { never = self.watch_deaths() => never, never = self.watch_the_pause(watch) => never }
    }

    async fn watch_deaths(&self) -> Infallible {
        loop {
            let ended: Vec<(&'static str, ExitStatus)> = {
                let mut running = self.running.borrow_mut();
                let status = |child: &mut Child| child.try_wait().expect("known");
                running.iter_mut().filter_map(|(role, child)| Some((*role, status(child)?))).collect()
            };
            for (role, status) in ended {
                if self.queue_is_gone.get() && status.code() == Some(REFUSES_TO_RUN) {
                    self.refused_to_run.set(true);
                    self.spawn(role);
                    continue;
                }
                assert!(self.is_next_death(role, status), "{role} ended by itself: {status}");
                self.note_death();
                self.spawn(role);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn is_next_death(&self, role: &str, status: ExitStatus) -> bool {
        role == self.victim.get() && status.signal() == Some(KILLED) && !self.deaths_to_come.borrow().is_empty()
    }

    fn note_death(&self) {
        self.deaths_to_come.borrow_mut().pop_front();
        self.died.set(self.died.get() + 1);
    }

    /// Whether the last point that the role passed is the one it was to die at.
    fn recorded_death(&self, role: &str) -> bool {
        let record = fs::read_to_string(self.record(role)).unwrap_or_default();
        let at_its_end = record.lines().last().zip(self.deaths_to_come.borrow().front()).is_some_and(|(a, b)| a == b);
        role == self.victim.get() && at_its_end
    }

    // ---- what they passed

    pub(crate) fn record(&self, role: &str) -> PathBuf {
        self.stack.artifact(&format!("{role}.points"))
    }

    /// How many bytes of points each role has recorded so far, and the twins of each role.
    pub(crate) fn recorded(&self) -> BTreeMap<&'static str, u64> {
        let roles = ["api", CLI, "reconcile"].into_iter().chain(WORKERS).chain(TWIN.map(|(_, twin)| twin));
        roles.map(|role| (role, fs::metadata(self.record(role)).map_or(0, |record| record.len()))).collect()
    }

    /// The points that were passed since then, by a role or its twin.
    pub(crate) fn passed_since(&self, before: &BTreeMap<&'static str, u64>) -> Vec<Point> {
        let mut passed = Vec::new();
        for (role, from) in before {
            let record = fs::read_to_string(self.record(role)).unwrap_or_default();
            let from = usize::try_from(*from).expect("small");
            let role = TWIN.iter().find(|(_, twin)| twin == role).map_or(*role, |(role, _)| *role);
            passed.extend(record[from..].lines().map(|name| Point { role, name: name.to_owned() }));
        }
        passed
    }
}

pub(crate) fn arguments_of(role: &'static str) -> Vec<&'static str> {
    if role == "api" { vec!["api"] } else { vec!["worker", role] }
}

/// The one document that a command prints.
pub(crate) fn document(printed: &str) -> Value {
    serde_json::from_str(printed).unwrap_or_else(|_| panic!("no document: {printed:?}"))
}

impl Drop for Crew<'_> {
    fn drop(&mut self) {
        for child in self.running.get_mut().values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
