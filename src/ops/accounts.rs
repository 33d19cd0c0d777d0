//! `holdfast accounts ROLE`: the addresses of a role's own accounts, made from the owner's. For stacks where all accounts share the
//! owner's password, as that of `./dev up`; not shown in `--help`. With `--secrets`: which secrets the role needs.

use serde::Serialize;

use crate::{
    exit::Failure,
    process::{
        role::Role,
        secrets::{Need, Secret},
    },
};

#[derive(clap::Args)]
pub struct Arguments {
    /// `api`, or a worker's name.
    role: String,
    /// Print the settings that carry secrets, and whether the role needs them.
    #[arg(long)]
    secrets: bool,
}

/// A secret as a role sees it.
#[derive(Serialize)]
struct Row {
    /// Any of them carries the secret.
    settings: &'static [&'static str],
    /// `always`, `never`, or the condition.
    needed: String,
}

/// Prints `SETTING=ADDRESS` lines to be put into the environment of the role, or the list of secrets.
///
/// # Errors
/// There is no such role, or the owner's address is not in the environment.
pub fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let role = role_of(&arguments.role)?;
    if arguments.secrets {
        let items = Secret::ALL.map(|secret| Row { settings: secret.settings(), needed: words(role.needs(secret)) });
        let page = super::Page { items: Vec::from(items), next: None };
        super::print(json, &page, || {
            page.table(&["settings", "needed"], |row| vec![row.settings.join(" "), row.needed.clone()])
        });
        return Ok(());
    }
    for account in role.accounts() {
        let owners =
            std::env::var(account.server).map_err(|_| Failure::wrong(format!("{} is not set", account.server)))?;
        println!("{}={}", account.setting, account.address(&owners));
    }
    Ok(())
}

fn words(need: Need) -> String {
    match need {
        Need::Always => "always".into(),
        Need::Never => "never".into(),
        Need::When(condition) => format!("when {}", condition.words()),
    }
}

/// # Errors
/// There is no such role.
pub(super) fn role_of(name: &str) -> Result<Role, Failure> {
    Role::of_name(name).ok_or_else(|| {
        let known: Vec<&str> = Role::all().map(Role::name).collect();
        Failure::wrong(format!("no role has this name; there are {}", known.join(", ")))
    })
}
