//! `holdfast config check`: every setting, its source, secrets masked; and all that is wrong, at once.

use serde::Serialize;

use super::accounts::role_of;
use crate::{
    config::{Loaded, Loads, Settings, Shown},
    exit::Failure,
    process::{
        role::Role,
        secrets::{Need, Secret},
    },
    setting::BadSetting,
};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Show every setting and say everything that is wrong; exit 2 if anything is.
    Check {
        /// Also say what must not go live: simulators, examples, default passwords, unencrypted wires.
        #[arg(long)]
        production: bool,
        /// As this role alone (`api` or a worker's name): what it does not read may be absent, and a secret that it
        /// does not need is wrong.
        #[arg(long)]
        role: Option<String>,
    },
}

#[derive(Serialize)]
struct Report {
    items: Vec<Shown>,
    next: Option<String>,
    problems: Vec<String>,
}

/// # Errors
/// Something is wrong, or there is no such role.
pub fn run(Command::Check { production, role }: &Command, loaded: Loaded, json: bool) -> Result<(), Failure> {
    let role = role.as_deref().map(role_of).transpose()?;
    let problems = match &loaded.settings {
        Ok(settings) => {
            let mut problems = if *production { loaded.unfilled() } else { Vec::new() };
            problems.extend(settings.problems_of(role.map_or(Loads::EVERYTHING, Role::loads)));
            if *production {
                problems.extend(settings.production_problems());
            }
            problems.extend(role.map(|role| surplus(role, settings, &loaded.shown)).unwrap_or_default());
            problems
        }
        Err(unreadable) => vec![unreadable.clone()],
    };
    let report =
        Report { items: loaded.shown, next: None, problems: problems.iter().map(ToString::to_string).collect() };
    super::print(json, &report, || {
        let rows =
            report.items.iter().map(|shown| vec![shown.setting.clone(), shown.value.clone(), shown.source.clone()]);
        super::table(&["setting", "value", "source"], rows)
    });
    if report.problems.is_empty() { Ok(()) } else { Err(Failure::Wrong(report.problems)) }
}

/// Secrets that were given to a role that does not need them: who takes the process over would have them.
fn surplus(role: Role, settings: &Settings, given: &[Shown]) -> Vec<BadSetting> {
    let mut found = Vec::new();
    for secret in Secret::ALL {
        let need = role.needs(secret);
        if need.holds(settings) {
            continue;
        }
        let name = role.name();
        let what = match need {
            Need::When(condition) => format!("is given, and {name} needs it only when {}", condition.words()),
            Need::Always | Need::Never => format!("is given, and {name} does not need it"),
        };
        let carried = secret.settings().iter().filter(|setting| given.iter().any(|one| one.setting == **setting));
        found.extend(carried.map(|setting| BadSetting { setting: (*setting).to_owned(), what: what.clone() }));
    }
    found
}
