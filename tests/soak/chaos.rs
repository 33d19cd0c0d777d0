//! What breaks, when and for how long: all of it drawn from the seed.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    servers::Servers,
    twins::{ROLES, Twins},
    wire::{BREAKS, Wires},
};

pub(crate) struct Chaos {
    dice: Dice,
    servers: Servers,
    wires: Wires,
    twins: Twins,
    began: Instant,
    log: Vec<Value>,
}

impl Chaos {
    pub(crate) fn new(seed: u64, servers: Servers, wires: Wires, twins: Twins) -> Self {
        Self { dice: Dice(seed), servers, wires, twins, began: Instant::now(), log: Vec::new() }
    }

    /// Breaks one thing after the other, with pauses in which work may recover.
    pub(crate) async fn reign(mut self, length: Duration) -> Self {
        sleep(Duration::from_secs(10)).await;
        while self.began.elapsed() < length {
            match self.dice.below(10) {
                0..=2 => self.kill_a_process().await,
                3 => self.freeze_a_process().await,
                4 => self.crash_a_server().await,
                5 => self.break_two_wires().await,
                _ => self.break_a_wire().await,
            }
            sleep(self.dice.between(1, 6)).await;
        }
        self
    }

    async fn kill_a_process(&mut self) {
        let role = ROLES[self.dice.below(ROLES.len())];
        let signal = ["KILL", "TERM"][self.dice.below(2)];
        self.note("process", format!("{role} gets SIG{signal}"));
        self.twins.signal(role, signal);
        sleep(self.dice.between(0, 2)).await;
        self.twins.replace(role).await;
    }

    /// A machine that is suspended for longer than its servers wait for it, and wakes up.
    async fn freeze_a_process(&mut self) {
        let (role, time) = (ROLES[self.dice.below(ROLES.len())], self.dice.between(2, 25));
        self.note("freeze", format!("{role} sleeps for {time:?}"));
        self.twins.signal(role, "STOP");
        sleep(time).await;
        self.twins.signal(role, "CONT");
    }

    async fn crash_a_server(&mut self) {
        // PostgreSQL's own "immediate" end; its children would outlive a SIGKILL.
        let (server, signal) = [("postgres", "QUIT"), ("rabbitmq", "KILL"), ("redis", "KILL")][self.dice.below(3)];
        self.note("server", format!("{server} is killed"));
        self.servers.crash(server, signal).await;
    }

    async fn break_a_wire(&mut self) {
        let (number, how) = (self.dice.below(4), BREAKS[self.dice.below(BREAKS.len())]);
        let time = if how.is_momentary() { Duration::ZERO } else { self.dice.between(1, 10) };
        let (name, wire) = self.wires.named()[number];
        let words = format!("the wire to {name}: {how:?} for {time:?}");
        wire.becomes(how);
        self.note("wire", words);
        sleep(time).await;
        self.wires.named()[number].1.is_mended();
    }

    async fn break_two_wires(&mut self) {
        let one = self.dice.below(4);
        let other = (one + 1 + self.dice.below(3)) % 4;
        let (first, second) = (BREAKS[self.dice.below(BREAKS.len())], BREAKS[self.dice.below(BREAKS.len())]);
        let time = self.dice.between(1, 10);
        let wires = self.wires.named();
        let words =
            format!("the wires to {}: {first:?}, and {}: {second:?} for {time:?}", wires[one].0, wires[other].0);
        wires[one].1.becomes(first);
        wires[other].1.becomes(second);
        self.note("two wires", words);
        sleep(time).await;
        for number in [one, other] {
            self.wires.named()[number].1.is_mended();
        }
    }

    fn note(&mut self, kind: &str, what: String) {
        let second = self.began.elapsed().as_secs();
        println!("{:02}:{:02}    {what}", second / 60, second % 60);
        self.log.push(json!({ "second": second, "kind": kind, "what": what }));
    }

    /// Everything is whole from now on; answers what was broken.
    pub(crate) async fn ends(&mut self) -> Vec<Value> {
        for (_, wire) in self.wires.named() {
            wire.is_mended();
        }
        self.servers.start().await;
        self.log.clone()
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for entry in &self.log {
            *counts.entry(entry["kind"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        counts
    }
}

/// The generator `splitmix64`: a seed is a whole run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).expect("below a usize")
    }

    /// Tenths of seconds from `least` to `most` seconds.
    fn between(&mut self, least: u64, most: u64) -> Duration {
        let tenths = usize::try_from((most - least) * 10).expect("small");
        Duration::from_millis(1000 * least + 100 * self.below(tenths + 1) as u64)
    }
}
