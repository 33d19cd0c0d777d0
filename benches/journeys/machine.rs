//! What the operating system counts: CPU time and memory of processes (Linux; elsewhere nothing is counted).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

/// The processes whose CPU and memory are told, by role.
pub(crate) type Roles = BTreeMap<String, u32>;

/// The servers that `./dev` started, from the pids that it noted in its directory.
pub(crate) fn servers() -> Roles {
    let Some(directory) = std::env::var_os("HOLDFAST_DEV_DIR").map(PathBuf::from) else {
        return Roles::new();
    };
    let pid = |server: &str| {
        let noted = fs::read_to_string(directory.join(format!("run/{server}.pid"))).ok()?;
        noted.split_whitespace().next()?.parse().ok()
    };
    ["postgres", "rabbitmq", "redis"].iter().filter_map(|server| Some(((*server).to_owned(), pid(server)?))).collect()
}

/// Resident memory of each role, in MiB. Of a server that is many processes (PostgreSQL) each is charged its share of
/// what they have in common.
pub(crate) fn rss_mib(roles: &Roles) -> BTreeMap<String, u64> {
    let sizes = roles.iter().map(|(role, pid)| {
        let family = family(*pid);
        let shares = family.iter().filter_map(|stat| share_mib(stat.pid)).sum();
        let resident = family.iter().map(|stat| stat.rss_mib).sum();
        (role.clone(), if family.len() > 1 && shares > 0 { shares } else { resident })
    });
    sizes.collect()
}

fn share_mib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().trim_end_matches(" kB").parse::<u64>();
    Some(kib.ok()? / 1024)
}

/// The processes that are holdfast.
const OURS: [&str; 7] = ["api", "expiry", "notifications", "payments", "prepay", "refunds", "seats"];
/// Our own threads, by the names of their runtimes.
const THREADS: [&str; 2] = ["customers", "simulator"];

/// What has been used up to a moment.
pub(crate) struct Snapshot {
    cpu_ms: BTreeMap<String, u64>,
    /// Of the whole machine, in hundredths of a second: spent, and there to be spent.
    all: (u64, u64),
}

impl Snapshot {
    pub(crate) fn now(roles: &Roles) -> Self {
        let mut cpu_ms: BTreeMap<String, u64> =
            roles.iter().map(|(role, pid)| (role.clone(), family(*pid).iter().map(|stat| stat.cpu_ms).sum())).collect();
        cpu_ms.extend(THREADS.map(|name| (name.to_owned(), threads_ms(name))));
        Self { cpu_ms, all: busy_of_all() }
    }
}

/// What runs of journeys have used together.
#[derive(Default)]
pub(crate) struct Used {
    cpu_ms: BTreeMap<String, u64>,
    journeys: f64,
    all: (u64, u64),
}

impl Used {
    pub(crate) fn add(&mut self, before: &Snapshot, after: &Snapshot, journeys: f64) {
        for (role, ms) in &after.cpu_ms {
            *self.cpu_ms.entry(role.clone()).or_default() += ms.saturating_sub(before.cpu_ms[role]);
        }
        self.journeys += journeys;
        self.all.0 += after.all.0 - before.all.0;
        self.all.1 += after.all.1 - before.all.1;
    }

    /// By role; `ours` are holdfast's processes, `total` are they and the servers, without customers and simulator.
    pub(crate) fn cpu_ms_each(&self) -> Value {
        let each = |ms: u64| (ms as f64 / self.journeys * 100.0).round() / 100.0;
        let sum =
            |of: &dyn Fn(&str) -> bool| each(self.cpu_ms.iter().filter(|(role, _)| of(role)).map(|(_, ms)| ms).sum());
        let mut roles: Map<String, Value> =
            self.cpu_ms.iter().map(|(role, ms)| (role.clone(), json!(each(*ms)))).collect();
        roles.insert("ours".into(), json!(sum(&|role| OURS.contains(&role))));
        roles.insert("total".into(), json!(sum(&|role| !THREADS.contains(&role))));
        roles.into()
    }

    pub(crate) fn busy_percent(&self) -> f64 {
        (self.all.0 as f64 / self.all.1 as f64 * 100.0).round()
    }

    /// How much of the machine this benchmark and its stack had: the rest was somebody else's.
    pub(crate) fn ours_percent(&self) -> f64 {
        (self.cpu_ms.values().sum::<u64>() as f64 / 10.0 / self.all.1 as f64 * 100.0).round()
    }
}

/// CPU time of this process's threads of that name.
fn threads_ms(name: &str) -> u64 {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let named =
        threads.filter(|thread| fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim() == name));
    named.filter_map(|thread| stat(&thread.path())).map(|stat| stat.own_cpu_ms).sum()
}

pub(crate) fn describe() -> Map<String, Value> {
    let line = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let found = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
        found.map(|(_, value)| value.trim().to_owned())
    };
    let load = fs::read_to_string("/proc/loadavg").ok().and_then(|text| Some(text.split(' ').next()?.to_owned()));
    let known = [
        ("cores", json!(std::thread::available_parallelism().map_or(0, std::num::NonZero::get))),
        ("cpu", json!(line("/proc/cpuinfo", "model name"))),
        ("memory", json!(line("/proc/meminfo", "MemTotal"))),
        ("load_before", json!(load)),
    ];
    known.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// CPU time of the whole machine since it began, in hundredths of a second: spent, and there to be spent.
fn busy_of_all() -> (u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted in these already.
    let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
    let (all, idle): (u64, u64) = (ticks.iter().sum(), ticks.iter().skip(3).take(2).sum());
    (all - idle, all)
}

struct Stat {
    pid: u32,
    parent: u32,
    /// With that of children that have ended.
    cpu_ms: u64,
    own_cpu_ms: u64,
    rss_mib: u64,
}

/// A process and its children: PostgreSQL is many.
fn family(pid: u32) -> Vec<Stat> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| stat(&entry.path())).filter(|stat| stat.pid == pid || stat.parent == pid).collect()
}

fn stat(process: &Path) -> Option<Stat> {
    let pid = process.file_name()?.to_str()?.parse().ok()?;
    let text = fs::read_to_string(process.join("stat")).ok()?;
    // The second field is the program's name and may hold anything; proc(5) counts the others after it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |proc_field: usize| fields.get(proc_field - 3).and_then(|field| field.parse::<u64>().ok());
    // Clock ticks are hundredths of a second on every Linux we run on; pages have 4 KiB.
    let ms = |fields: std::ops::RangeInclusive<usize>| fields.filter_map(number).sum::<u64>() * 10;
    Some(Stat {
        pid,
        parent: u32::try_from(number(4)?).ok()?,
        cpu_ms: ms(14..=17),
        own_cpu_ms: ms(14..=15),
        rss_mib: number(24)? * 4 / 1024,
    })
}
