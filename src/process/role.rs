//! What each process works with: its accounts at the servers, the queues that it takes from and those that it publishes
//! to. The one source for the start of a process, for `holdfast accounts` (which `./dev up` asks) and for the tests.

use std::collections::BTreeSet;

use clap::ValueEnum as _;

use super::WorkerName;
use crate::{
    broker::topology::Uses,
    domain::{
        message::{Alarm, Queue},
        retry::Tier,
    },
};

/// A kind of long-running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Api,
    Worker(WorkerName),
}

/// An account that a process has at a server, where each kind of process has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// The environment variable that carries the process's own address.
    pub setting: &'static str,
    /// The environment variable that carries the owner's address of the same server.
    pub server: &'static str,
    /// What follows `holdfast_` in the account's name.
    pub kind: &'static str,
}

/// Of the accounts' owner, whose name begins theirs.
const OWNER: &str = "holdfast";

impl Account {
    /// The same address for this account.
    pub fn address(&self, owners: &str) -> String {
        address_of(self.kind, owners)
    }
}

/// The owner's address for the account of a kind of process. The address of a stranger's server, where another user owns
/// everything, stays as it is.
pub fn address_of(kind: &str, owners: &str) -> String {
    let swapped = owners.split_once("://").and_then(|(scheme, rest)| {
        let after = rest.strip_prefix(OWNER)?;
        after.starts_with(':').then(|| format!("{scheme}://{OWNER}_{kind}{after}"))
    });
    swapped.unwrap_or_else(|| owners.to_owned())
}

pub(super) const INGRESS: &str = "ingress";
pub(super) const DESK: &str = "desk";

const API: [Account; 3] = [
    Account { setting: "DATABASE_URL", server: "DATABASE_URL", kind: INGRESS },
    Account { setting: "HOLDFAST_DATABASE__OPERATORS_URL", server: "DATABASE_URL", kind: DESK },
    Account { setting: "AMQP_URL", server: "AMQP_URL", kind: "api" },
];

impl Role {
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Api].into_iter().chain(WorkerName::value_variants().iter().copied().map(Self::Worker))
    }

    /// `api`, or the worker's name as `holdfast worker NAME` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Worker(worker) => worker.name(),
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        Self::all().find(|role| role.name() == name)
    }

    /// Its accounts, each of a different setting.
    pub fn accounts(self) -> Vec<Account> {
        match self {
            Self::Api => API.to_vec(),
            Self::Worker(worker) => ["DATABASE_URL", "AMQP_URL"]
                .map(|setting| Account { setting, server: setting, kind: worker.name() })
                .to_vec(),
        }
    }

    /// What it does at the broker.
    pub fn uses(self) -> Uses {
        let names = |queues: &[Queue]| queues.iter().map(|queue| queue.name()).collect::<BTreeSet<_>>();
        let all = || Queue::all().map(Queue::name).collect::<BTreeSet<_>>();
        let (publishes_to, sets_alarms) = match self {
            // Replays go to every work queue.
            Self::Api => (all(), false),
            Self::Worker(worker) => match worker {
                WorkerName::Seats => (names(&[Queue::Prepay, Queue::Expiry, Queue::Notifications]), true),
                WorkerName::Prepay => (names(&[Queue::Payments]), false),
                WorkerName::Payments => (names(&[Queue::Notifications, Queue::Refunds, Queue::Expiry]), false),
                WorkerName::Expiry => {
                    (names(&[Queue::Payments, Queue::Prepay, Queue::Expiry, Queue::Notifications]), true)
                }
                WorkerName::Refunds => {
                    (names(&[Queue::Refunds, Queue::Prepay, Queue::Expiry, Queue::Notifications]), true)
                }
                WorkerName::Notifications => (BTreeSet::new(), false),
                WorkerName::Reconcile => (all(), true),
            },
        };
        let mut uses = Uses { publishes_to, ..Uses::default() };
        match self {
            Self::Api => uses.reads.extend(Queue::DEAD.map(str::to_owned)),
            Self::Worker(worker) => {
                for queue in worker.takes_from() {
                    uses.consumes.insert(queue.name());
                    uses.publishes_to.insert(queue.dead().to_owned());
                }
                uses.waits_in.extend(Tier::ALL.map(Tier::name));
                uses.declares = worker == WorkerName::Reconcile;
            }
        }
        if sets_alarms {
            uses.waits_in.extend(Alarm::ALL.iter().filter_map(|alarm| alarm.delay()));
        }
        uses
    }
}

impl WorkerName {
    /// As operators write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seats => "seats",
            Self::Prepay => "prepay",
            Self::Payments => "payments",
            Self::Expiry => "expiry",
            Self::Refunds => "refunds",
            Self::Notifications => "notifications",
            Self::Reconcile => "reconcile",
        }
    }

    /// The queues that it consumes; none where the clock drives it.
    pub fn takes_from(self) -> Vec<Queue> {
        match self {
            Self::Seats => Queue::order_lanes().collect(),
            Self::Prepay => vec![Queue::Prepay],
            Self::Payments => vec![Queue::Payments],
            Self::Expiry => vec![Queue::Expiry],
            Self::Refunds => vec![Queue::Refunds],
            Self::Notifications => vec![Queue::Notifications],
            Self::Reconcile => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_called_as_the_command_line_calls_it() {
        for worker in WorkerName::value_variants() {
            assert_eq!(
                worker.to_possible_value().map(|value| value.get_name().to_owned()).as_deref(),
                Some(worker.name())
            );
            assert_eq!(Role::of_name(worker.name()), Some(Role::Worker(*worker)));
        }
    }

    #[test]
    fn every_work_queue_has_one_worker() {
        let mut taken: Vec<Queue> =
            WorkerName::value_variants().iter().flat_map(|worker| worker.takes_from()).collect();
        taken.sort_unstable();
        assert_eq!(taken, Queue::all().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn only_the_owners_name_is_swapped() {
        let seats = Role::Worker(WorkerName::Seats).accounts()[0];
        assert_eq!(seats.address("postgres://holdfast:pw@h/holdfast"), "postgres://holdfast_seats:pw@h/holdfast");
        for strange in ["postgres://other:holdfast:@h/d", "postgres://holdfaster:pw@h/d", "no address"] {
            assert_eq!(seats.address(strange), strange);
        }
    }

    #[test]
    fn the_broker_gives_each_account_what_its_role_does_there() {
        let permissions: serde_json::Value =
            serde_json::from_str(include_str!("../../rabbitmq/permissions.json")).expect("JSON");
        let rows = permissions["permissions"].as_array().expect("a list");
        for role in Role::all() {
            let kind = role.accounts().iter().find(|account| account.setting == "AMQP_URL").expect("an account").kind;
            let row = rows.iter().find(|row| row["user"] == format!("holdfast_{kind}")).expect("its permissions");
            let given = |right: &str| row[right].as_str().expect("a pattern").to_owned();
            let uses = role.uses();
            for queue in uses.consumes.iter().chain(&uses.reads) {
                assert!(fits(&given("read"), queue), "{} reads {queue}", role.name());
            }
            for exchange in uses.waits_in.iter().copied().chain(["amq.default"]) {
                assert!(fits(&given("write"), exchange), "{} writes to {exchange}", role.name());
            }
            assert_eq!(fits(&given("configure"), "prepay"), uses.declares, "{}", role.name());
        }
    }

    /// The few forms of a pattern that rabbitmq/permissions.json uses.
    fn fits(pattern: &str, name: &str) -> bool {
        let inner = pattern.trim_start_matches('^').trim_end_matches('$');
        let inner = inner.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(inner);
        inner.split('|').any(|form| match form {
            ".*" => true,
            form => match (form.strip_suffix(".+"), form.strip_prefix(".+"), form.strip_suffix("[0-7]")) {
                (Some(start), ..) => name.starts_with(&start.replace('\\', "")),
                (_, Some(end), _) => name.ends_with(&end.replace('\\', "")),
                (.., Some(start)) => {
                    name.strip_prefix(&start.replace('\\', "")).is_some_and(|lane| "01234567".contains(lane))
                }
                _ => name == form.replace('\\', ""),
            },
        })
    }
}
