//! `holdfast keys`: which keys there are, and sealing personal data anew.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    api::AuthKeys,
    config::Settings,
    exit::Failure,
    store::{
        Database,
        reseal::{self, Place, SealedBy},
        sealed::{PersonalKeys, called},
    },
};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Every key by its name: which is in force, which are accepted still, and what personal data each has sealed. Exit 1
    /// when a key is missing.
    List,
    /// Seal with the key in force whatever other keys have sealed. Work goes on meanwhile; interrupted, run it again.
    Reseal {
        /// Show what there is to do, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

pub async fn run(command: &Command, settings: &Settings, json: bool) -> Result<(), Failure> {
    match command {
        Command::List => list(&super::database(settings)?, settings, json).await,
        Command::Reseal { dry_run } => {
            let database = super::owners_database(settings)?;
            reseal(&database, &settings.personal.load()?, *dry_run, json).await
        }
    }
}

/// What a key is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Use {
    InForce,
    Accepted,
    /// Values need it and it is not configured.
    Missing,
}

impl Use {
    fn of(place: usize) -> Self {
        if place == 0 { Self::InForce } else { Self::Accepted }
    }

    fn words(self) -> &'static str {
        match self {
            Self::InForce => "in force",
            Self::Accepted => "accepted",
            Self::Missing => "MISSING",
        }
    }
}

/// One key, never its bytes.
#[derive(Debug, Serialize)]
struct Key {
    /// `tokens`, `personal`, `merchant`, `apiv3`, `wechat`
    keys: &'static str,
    name: Option<String>,
    #[serde(rename = "use")]
    used: Use,
    /// Of `personal`: how many values it has sealed.
    openids: Option<i64>,
    dead_letters: Option<i64>,
}

impl Key {
    fn new(keys: &'static str, name: Option<String>, used: Use) -> Self {
        Self { keys, name: name.filter(|name| !name.is_empty()), used, openids: None, dead_letters: None }
    }
}

async fn list(db: &Database, settings: &Settings, json: bool) -> Result<(), Failure> {
    let mut items = Vec::new();
    let tokens = AuthKeys::from_settings(&settings.auth)?;
    for (place, name) in tokens.names().into_iter().enumerate() {
        items.push(Key::new("tokens", name.map(str::to_owned), Use::of(place)));
    }
    items.extend(personal(&reseal::census(db.pool()).await?, &settings.personal.load()?));
    let account = settings.wechat_pay.load()?;
    items.push(Key::new("merchant", Some(account.merchant_key.get().serial_no().to_owned()), Use::InForce));
    items.extend((0..account.keys.api_v3.count()).map(|place| Key::new("apiv3", None, Use::of(place))));
    let preferred = account.keys.platform.preferred();
    for id in account.keys.platform.serials() {
        let used = if Some(&id) == preferred.as_ref() { Use::InForce } else { Use::Accepted };
        items.push(Key::new("wechat", Some(id), used));
    }

    let missing = items.iter().filter(|key| key.used == Use::Missing).count();
    let page = super::Page { items, next: None };
    super::print(json, &page, || told(&page.items));
    if missing > 0 {
        return Err(Failure::No("personal data needs a key that is missing; see `personal.key_file`".into()));
    }
    Ok(())
}

fn personal(census: &[SealedBy], keys: &PersonalKeys) -> Vec<Key> {
    let mut sealed: BTreeMap<&str, &SealedBy> = census.iter().map(|one| (one.name.as_str(), one)).collect();
    let key = |name: &str, used, sealed: Option<&SealedBy>| Key {
        openids: Some(sealed.map_or(0, |one| one.openids)),
        dead_letters: Some(sealed.map_or(0, |one| one.dead_letters)),
        ..Key::new("personal", Some(name.to_owned()), used)
    };
    let names = keys.names();
    let configured =
        names.iter().enumerate().map(|(place, name)| key(name, Use::of(place), sealed.remove(name.as_str())));
    let mut items: Vec<Key> = configured.collect();
    items.extend(sealed.into_iter().map(|(name, one)| key(name, Use::Missing, Some(one))));
    items
}

fn told(items: &[Key]) -> String {
    let count = |count: Option<i64>| count.map_or_else(String::new, |count| count.to_string());
    let rows = items.iter().map(|key| {
        let name = key.name.clone().unwrap_or_else(|| "(no name)".to_owned());
        let counts = [count(key.openids), count(key.dead_letters)];
        [[key.keys.to_owned(), name, key.used.words().to_owned()].as_slice(), &counts].concat()
    });
    super::table(&["keys", "name", "", "openids", "dead letters"], rows)
}

#[derive(Serialize)]
struct Report {
    dry_run: bool,
    /// The key in force; null for the one without a name.
    key: Option<String>,
    resealed: u64,
    /// What other keys have sealed still.
    items: Vec<SealedBy>,
    next: Option<String>,
}

async fn reseal(db: &Database, keys: &PersonalKeys, dry_run: bool, json: bool) -> Result<(), Failure> {
    let in_force = keys.in_force();
    let rest = async || -> Result<Vec<SealedBy>, Failure> {
        let census = reseal::census(db.pool()).await?;
        Ok(census.into_iter().filter(|sealed| sealed.name != in_force).collect())
    };
    let before = rest().await?;
    let (mut resealed, mut closed) = (0, 0);
    if !dry_run {
        let all: i64 = before.iter().map(|sealed| sealed.values()).sum();
        for place in Place::ALL {
            let mut after = Some(String::new());
            while let Some(begin) = after {
                let batch = reseal::batch(db, keys, place, &begin).await?;
                resealed += batch.resealed;
                closed += batch.closed.len();
                // Whose it is, is personal too: the reason is enough to know which key to look for.
                if let Some((_, reason)) = batch.closed.first() {
                    eprintln!("{} values stay as they are: the first {reason}", batch.closed.len());
                }
                if batch.next.is_some() {
                    eprintln!("{resealed} of {all} sealed with {}", called(&in_force));
                }
                after = batch.next;
            }
        }
    }
    let items = if dry_run { before } else { rest().await? };
    let left: i64 = items.iter().map(|sealed| sealed.values()).sum();
    let report =
        Report { dry_run, key: Some(in_force.clone()).filter(|name| !name.is_empty()), resealed, items, next: None };
    super::print(json, &report, || {
        let mut words = vec![format!("{resealed} values were sealed anew, with {}", called(&in_force))];
        words.extend(report.items.iter().map(|SealedBy { name, openids, dead_letters }| {
            format!("{} still seals {openids} openids and {dead_letters} dead letters", called(name))
        }));
        words.join("\n")
    });
    match (dry_run, closed, left) {
        (true, ..) | (false, 0, 0) => Ok(()),
        (false, 0, left) => Err(Failure::No(format!(
            "{left} values were in use, or a process still seals with an older key: run it again"
        ))),
        (false, closed, _) => Err(Failure::No(format!("{closed} values do not open with the keys of personal.key"))),
    }
}
