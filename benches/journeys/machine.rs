//! What the operating system counts: CPU time and memory of processes (Linux; elsewhere nothing is counted).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

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

/// CPU milliseconds that each role has used since it began, its children included.
pub(crate) fn cpu_ms(roles: &Roles) -> BTreeMap<String, u64> {
    roles.iter().map(|(role, pid)| (role.clone(), family(*pid).iter().map(|stat| stat.cpu_ms).sum())).collect()
}

/// Resident memory of each role, in MiB; of PostgreSQL's backends the shared part is counted in each.
pub(crate) fn rss_mib(roles: &Roles) -> BTreeMap<String, u64> {
    roles.iter().map(|(role, pid)| (role.clone(), family(*pid).iter().map(|stat| stat.rss_mib).sum())).collect()
}

pub(crate) fn describe() -> Value {
    let line = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let found = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
        found.map(|(_, value)| value.trim().to_owned())
    };
    json!({
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "cpu": line("/proc/cpuinfo", "model name"),
        "memory": line("/proc/meminfo", "MemTotal"),
        "load_before": fs::read_to_string("/proc/loadavg").ok().and_then(|text| Some(text.split(' ').next()?.to_owned())),
    })
}

/// CPU time of the whole machine since it began, in hundredths of a second: spent, and there to be spent.
pub(crate) fn busy_of_all() -> (u64, u64) {
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
    cpu_ms: u64,
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
    let ticks: u64 = (14..=17).filter_map(number).sum();
    Some(Stat { pid, parent: u32::try_from(number(4)?).ok()?, cpu_ms: ticks * 10, rss_mib: number(24)? * 4 / 1024 })
}
