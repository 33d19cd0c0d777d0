//! `holdfast migrate`: brings the schema to head.

use serde_json::json;

use crate::{config::Settings, exit::Failure};

pub async fn run(settings: &Settings, json: bool) -> Result<(), Failure> {
    let database = super::owners_database(settings)?;
    database.ping().await?;
    database.migrate().await.map_err(|error| Failure::wrong(format!("{error:#}")))?;
    super::print(json, &json!({ "schema": "head" }), || "the schema is at head".into());
    Ok(())
}
