//! `holdfast order`: one order.

use crate::{
    config::Settings,
    domain::ids::OrderId,
    exit::Failure,
    store::{self},
};

#[derive(clap::Subcommand)]
pub enum Command {
    /// The order as its owner sees it.
    Show { order_id: String },
}

pub async fn run(Command::Show { order_id }: &Command, settings: &Settings, json: bool) -> Result<(), Failure> {
    let id = OrderId::try_from(order_id.clone()).map_err(|malformed| Failure::wrong(malformed.to_string()))?;
    let database = super::database(settings)?;
    let Some(snapshot) = store::order::snapshot(database.pool(), &id).await? else {
        return Err(Failure::No(format!("there is no order {id} in the books")));
    };
    super::print(json, &snapshot.document, || {
        let document = serde_json::to_value(&snapshot.document).expect("plain data");
        let rows = document.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        super::table(&[], rows.map(|(name, value)| vec![name.clone(), value.to_string().trim_matches('"').to_owned()]))
    });
    Ok(())
}
