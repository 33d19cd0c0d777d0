//! What `/openapi.json` says about how operations follow each other: each has a name of its own, and an answer that
//! tells an id links to every operation that takes one of its kind.

use serde_json::json;
use utoipa::openapi::{
    OpenApi, RefOr,
    link::{Link, LinkBuilder},
    path::{Operation, PathItem},
};

/// Collections, and the member of their documents that stands as the parameter in their items' addresses.
const COLLECTIONS: [(&str, &str); 9] = [
    ("/v1/schedules", "schedule_id"),
    ("/v1/orders", "order_id"),
    ("/v1/ops/orders", "order_id"),
    ("/v1/ops/schedules", "schedule_id"),
    ("/v1/ops/cases", "case_id"),
    ("/v1/ops/overrides", "override_id"),
    ("/v1/ops/dead-letters", "letter_id"),
    ("/v1/ops/dead-letters/replays", "replay_id"),
    ("/v1/ops/reconciliations", "date"),
];

/// To be called before any other change: the generator's names are those of our functions, and some are the same.
pub(super) fn name_and_link(openapi: &mut OpenApi) {
    for (path, item) in &mut openapi.paths.paths {
        for (method, operation) in operations(item) {
            operation.operation_id = Some(name(method, path));
        }
    }
    for (collection, member) in COLLECTIONS {
        let targets: Vec<(String, String)> = openapi
            .paths
            .paths
            .iter_mut()
            .filter_map(|(path, item)| {
                let parameter = path.strip_prefix(collection)?.strip_prefix("/{")?.split('}').next()?.to_owned();
                let names = operations(item).map(|(method, _)| name(method, path));
                Some(names.map(move |name| (name, parameter.clone())).collect::<Vec<_>>())
            })
            .flatten()
            .collect();
        let Some(item) = openapi.paths.paths.get_mut(collection) else { continue };
        for (method, operation) in operations(item) {
            let place = if method == "get" { "/items/0" } else { "" };
            let value = format!("$response.body#{place}/{member}");
            for (target, parameter) in &targets {
                let link = LinkBuilder::new().operation_id(target).parameter(parameter, value.as_str());
                add(operation, target, &link.build());
            }
        }
    }
    if let Some(operation) = openapi.paths.paths.get_mut("/v1/schedules").and_then(|item| item.get.as_mut()) {
        let target = name("post", "/v1/orders");
        let wish = json!({
            "schedule_id": "$response.body#/items/0/schedule_id",
            "amount_fen": "$response.body#/items/0/price_fen",
        });
        add(operation, &target, &LinkBuilder::new().operation_id(&target).request_body(Some(wish)).build());
    }
}

/// Of this method at this address, and of no other: `post_v1_orders_id_refunds`.
fn name(method: &str, path: &str) -> String {
    let words = path.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    [method].into_iter().chain(words).collect::<Vec<_>>().join("_")
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [("get", &mut item.get), ("post", &mut item.post), ("delete", &mut item.delete)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// To every answer that says it is done, and says what.
fn add(operation: &mut Operation, name: &str, link: &Link) {
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.starts_with('2')
            && response.content.contains_key("application/json")
        {
            response.links.insert(name.to_owned(), RefOr::T(link.clone()));
        }
    }
}
