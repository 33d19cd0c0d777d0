//! `holdfast accounts ROLE`: the addresses of a role's own accounts, made from the owner's. For stacks where all accounts share the
//! owner's password, as that of `./dev up`; not shown in `--help`.

use crate::{exit::Failure, process::role::Role};

#[derive(clap::Args)]
pub struct Arguments {
    /// `api`, or a worker's name.
    role: String,
}

/// Prints `SETTING=ADDRESS` lines to be put into the environment of the role.
///
/// # Errors
/// There is no such role, or the owner's address is not in the environment.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let role = Role::of_name(&arguments.role).ok_or_else(|| {
        let known: Vec<&str> = Role::all().map(Role::name).collect();
        Failure::wrong(format!("no role has this name; there are {}", known.join(", ")))
    })?;
    for account in role.accounts() {
        let owners =
            std::env::var(account.server).map_err(|_| Failure::wrong(format!("{} is not set", account.server)))?;
        println!("{}={}", account.setting, account.address(&owners));
    }
    Ok(())
}
