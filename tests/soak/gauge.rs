//! Memory and connections over the run: what grows without end shows in the last third.

use std::{collections::BTreeMap, fs, time::Duration};

use serde_json::{Value, json};

use crate::{
    stack::{Answer, Stack, server_resources::server},
    twins::ROLES,
};

/// Samples below which a third is weather, not climate: some nine minutes.
const JUDGED: usize = 50;

pub(crate) struct Gauge {
    stack: Sight,
    samples: Vec<BTreeMap<String, u64>>,
}

/// What of a stack is looked at.
struct Sight {
    name: String,
    pids: BTreeMap<&'static str, u32>,
    db: sqlx::PgPool,
    http: reqwest::Client,
}

pub(crate) struct Flatness {
    pub figures: Value,
    pub table: String,
    pub findings: Vec<String>,
}

impl Gauge {
    pub(crate) fn of(stack: &Stack) -> Self {
        let pids = ROLES.into_iter().map(|role| (role, stack.pid(role))).collect();
        let sight = Sight { name: stack.name.clone(), pids, db: stack.db.clone(), http: stack.http.clone() };
        Self { stack: sight, samples: Vec::new() }
    }

    /// What cannot be seen just now is left out.
    pub(crate) async fn sample(&mut self) {
        let mut sample = BTreeMap::new();
        for (role, pid) in &self.stack.pids {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
            if let Some(kib) = kib.and_then(|kib| kib.parse::<u64>().ok()) {
                sample.insert(format!("{role} memory KiB"), kib);
            }
            if let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) {
                sample.insert(format!("{role} open files"), files.count() as u64);
            }
        }
        let asked = sqlx::query_scalar::<_, i64>(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'holdfast'",
        );
        if let Ok(Ok(count)) =
            tokio::time::timeout(Duration::from_secs(2), asked.bind(&self.stack.name).fetch_one(&self.stack.db)).await
        {
            sample.insert("postgresql connections".into(), count.cast_unsigned());
        }
        for what in ["connections", "channels"] {
            if let Some(count) = self.of_broker(what).await {
                sample.insert(format!("rabbitmq {what}"), count);
            }
        }
        self.samples.push(sample);
    }

    async fn of_broker(&self, what: &str) -> Option<u64> {
        let url = format!("{}/api/vhosts/{}/{what}", server("RABBITMQ_MANAGEMENT_URL"), self.stack.name);
        let asked = self.stack.http.get(url).timeout(Duration::from_secs(2));
        Some(Answer::try_of(asked).await.ok()?.body.as_array()?.len() as u64)
    }

    /// One line of progress.
    pub(crate) async fn line(&self) -> String {
        let asked = sqlx::query_as::<_, (String, i64)>(
            "SELECT status::text, count(*) FROM payment_orders GROUP BY status ORDER BY status",
        );
        let rows = tokio::time::timeout(Duration::from_secs(2), asked.fetch_all(&self.stack.db)).await;
        let Ok(Ok(rows)) = rows else { return "PostgreSQL is away".into() };
        let orders: Vec<String> = rows.into_iter().map(|(status, count)| format!("{status} {count}")).collect();
        let last = self.samples.last().cloned().unwrap_or_default();
        let memory: u64 = last.iter().filter(|(name, _)| name.ends_with("KiB")).map(|(_, kib)| kib).sum();
        format!("{} · {} MiB in {} processes", orders.join(", "), memory / 1024, ROLES.len())
    }

    /// The middle of the first third beside that of the last; the minute in which everything starts is left out.
    pub(crate) fn flatness(&self) -> Flatness {
        let warm = self.samples.get(6..).unwrap_or_default();
        let third = warm.len() / 3;
        let names: std::collections::BTreeSet<&String> = warm.iter().flat_map(BTreeMap::keys).collect();
        let (mut figures, mut table, mut findings) = (BTreeMap::new(), String::new(), Vec::new());
        for name in names {
            let (Some(first), Some(last)) = (middle(&warm[..third], name), middle(&warm[warm.len() - third..], name))
            else {
                continue;
            };
            table += &format!("{name:<28} {first:>9} → {last:>9}\n");
            figures.insert(name, json!({ "first_third": first, "last_third": last }));
            // A fifth more, and what the buffers of a backlog or some reconnecting sockets take.
            let slack = if name.ends_with("KiB") { 8 * 1024 } else { 12 };
            if warm.len() >= JUDGED && last > first + first / 5 + slack {
                findings.push(format!("{name} grew from {first} to {last}"));
            }
        }
        if warm.len() < JUDGED {
            table += "too short a run to judge memory and connections by\n";
        }
        Flatness { figures: json!(figures), table, findings }
    }
}

fn middle(samples: &[BTreeMap<String, u64>], name: &str) -> Option<u64> {
    let mut seen: Vec<u64> = samples.iter().filter_map(|sample| sample.get(name).copied()).collect();
    seen.sort_unstable();
    seen.get(seen.len() / 2).copied()
}
