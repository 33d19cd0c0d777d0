//! The keys of a role, each kept as fresh as its file.

use std::{future::ready, path::PathBuf, sync::Arc, time::Duration};

use super::Process;
use crate::{
    config::PayUse,
    exit::Failure,
    keys,
    setting::BadSetting,
    store::{
        Database,
        reseal::{self, SealedBy},
        sealed::{PersonalKeys, called},
    },
    tokens::{AuthKeys, Issuer, Tokens},
    wechat::{account::PayAccount, official_account::OfficialAccount, settings::PaySettings},
};

/// A start does not wait longer to hear whether every sealed value can be opened.
const CHECK_WITHIN: Duration = Duration::from_secs(10);

impl Process {
    pub(super) fn tokens(&self) -> Result<Arc<Tokens>, Failure> {
        let settings = self.settings.auth.clone();
        let issuer = Issuer::start(&settings, self.settings.api.development)?;
        let held = Arc::new(Tokens::new(AuthKeys::from_settings(&settings)?, issuer));
        let kept = Arc::clone(&held);
        keep("tokens", settings.files(), move || {
            let fresh = AuthKeys::from_settings(&settings).map_err(|problem| problem.to_string())?;
            kept.replace(fresh);
            Ok(())
        });
        Ok(held)
    }

    pub(super) fn pay_account(&self, used: PayUse) -> Result<Arc<PayAccount>, Failure> {
        let settings = self.settings.wechat_pay.clone();
        let load = move |settings: &PaySettings| match used {
            PayUse::Calls => settings.load_to_call(),
            PayUse::Nothing | PayUse::Numbers | PayUse::CallsAndCallbacks => settings.load(),
        };
        let held = Arc::new(load(&settings)?);
        let kept = Arc::clone(&held);
        keep("wechat_pay", settings.files(), move || load(&settings).map(|fresh| kept.renew(&fresh)).map_err(told));
        Ok(held)
    }

    pub(super) fn official_account(&self) -> Result<Arc<OfficialAccount>, Failure> {
        let settings = self.settings.official_account.clone();
        let held = Arc::new(settings.load()?);
        let kept = Arc::clone(&held);
        let take = move || settings.load().map(|fresh| kept.renew(&fresh)).map_err(told);
        keep("official_account", self.settings.official_account.files(), take);
        Ok(held)
    }

    /// Once read again they lack no key that is needed still.
    pub(super) fn personal_keys(&self, db: &Database) -> Result<Arc<PersonalKeys>, Failure> {
        let settings = self.settings.personal.clone();
        let held = Arc::new(settings.load()?);
        let (db, kept) = (db.clone(), Arc::clone(&held));
        let take = move || {
            let (settings, db, kept) = (settings.clone(), db.clone(), Arc::clone(&kept));
            async move {
                let fresh = settings.load().map_err(|problem| problem.to_string())?;
                let names = fresh.names();
                if kept.names().iter().any(|name| !names.contains(name)) {
                    let census = reseal::census(db.pool()).await.map_err(|error| error.to_string())?;
                    nothing_lost(&census, &fresh)?;
                }
                kept.renew(&fresh);
                Ok(())
            }
        };
        tokio::spawn(keys::follow("personal", self.settings.personal.files(), take));
        Ok(held)
    }

    /// The same for those whose work is to seal or to open: they do not begin without a key that is needed. While
    /// PostgreSQL is away nobody can tell.
    pub(super) async fn all_personal_keys(&self, db: &Database) -> Result<Arc<PersonalKeys>, Failure> {
        let held = self.personal_keys(db)?;
        if let Ok(Ok(census)) = tokio::time::timeout(CHECK_WITHIN, reseal::census(db.pool())).await {
            nothing_lost(&census, &held).map_err(Failure::wrong)?;
        }
        Ok(held)
    }
}

fn keep(keys: &'static str, files: Vec<PathBuf>, mut take: impl FnMut() -> Result<(), String> + Send + 'static) {
    tokio::spawn(keys::follow(keys, files, move || ready(take())));
}

fn told(problems: Vec<BadSetting>) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Whether every value that is sealed can be opened with these keys.
fn nothing_lost(census: &[SealedBy], keys: &PersonalKeys) -> Result<(), String> {
    let lost: Vec<String> = reseal::lacking(census, keys)
        .into_iter()
        .map(|SealedBy { name, openids, dead_letters }| {
            format!("{}, which sealed {openids} openids and {dead_letters} dead letters", called(name))
        })
        .collect();
    if lost.is_empty() {
        return Ok(());
    }
    Err(format!("personal.key lacks {}: put it back, run `holdfast keys reseal`, then take it out", lost.join("; ")))
}
