//! `holdfast token`: mints a token with the configured key, for scripts, tests and first steps.

use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::{
    api::{AuthKeys, Role},
    config::Settings,
    exit::Failure,
};

#[derive(clap::Args)]
pub struct Arguments {
    /// The customer's or operator's name: the token's `sub`.
    #[arg(long)]
    user: String,
    #[arg(long, value_enum, default_value_t = RoleName::Customer)]
    role: RoleName,
    /// WeChat's name of the customer; `openid-USER` when left out in development.
    #[arg(long)]
    openid: Option<String>,
    /// How long it is good for.
    #[arg(long, default_value_t = 86_400)]
    seconds: u32,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum RoleName {
    Customer,
    Viewer,
    Operator,
}

pub fn run(arguments: &Arguments, settings: &Settings, json: bool) -> Result<(), Failure> {
    let keys = AuthKeys::from_settings(&settings.auth).map_err(|fault| Failure::wrong(fault.to_string()))?;
    let role = match arguments.role {
        RoleName::Customer => Role::Customer,
        RoleName::Viewer => Role::Viewer,
        RoleName::Operator => Role::Operator,
    };
    let openid =
        arguments.openid.clone().or_else(|| settings.api.development.then(|| format!("openid-{}", arguments.user)));
    let expires = OffsetDateTime::now_utc() + Duration::seconds(arguments.seconds.into());
    let token = keys
        .mint(&arguments.user, role, openid.as_deref(), expires)
        .map_err(|fault| Failure::wrong(fault.to_string()))?;
    super::print(json, &json!({ "token": token }), || token.clone());
    Ok(())
}
