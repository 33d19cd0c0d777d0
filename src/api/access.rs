//! Who may ask for which address: every address with its rule, from the very lists that the router is built of.
//!
//! The extractors in `auth.rs` enforce, `security` in each handler's description promises, and `tests/it/access.rs`
//! holds the two against each other, cell by cell. An address without a rule fails that test.

use axum::{
    Router,
    handler::Handler,
    routing::{get, post},
};
use serde_json::Value;
use utoipa::openapi::OpenApi;

use super::{Api, auth::Role};

/// The scheme in `/openapi.json` of what proves itself by a JSON Web Token …
pub(super) const BEARER: &str = "bearer";
/// … and by WeChat's signature.
pub(super) const WECHAT: &str = "wechat";

/// One method of one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// In capitals.
    pub method: String,
    /// With parameters as `{id}`.
    pub path: String,
    /// `None`: nobody has said, which is a mistake.
    pub rule: Option<Rule>,
}

/// What a request must bring with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    Anybody,
    /// WeChat's signature over the body.
    WeChat,
    /// A valid token: with one of these roles, or, if `owner`, of the customer to whom the order belongs.
    Token {
        owner: bool,
        roles: Vec<Role>,
    },
}

impl Rule {
    /// Reads an operation's `security`: `[{"bearer": ["owner", "operator"]}]`; no names mean any role.
    fn of(security: &Value) -> Option<Self> {
        let requirement = security.as_array().filter(|all| all.len() == 1)?.first()?.as_object()?;
        let (scheme, names) = requirement.iter().next().filter(|_| requirement.len() == 1)?;
        let names: Vec<&str> = names.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?;
        match (scheme.as_str(), names.as_slice()) {
            (WECHAT, []) => Some(Self::WeChat),
            (BEARER, []) => Some(Self::Token { owner: false, roles: Role::ALL.to_vec() }),
            (BEARER, names) => {
                let roles = names.iter().filter(|name| **name != "owner").map(|name| name.parse());
                Some(Self::Token { owner: names.contains(&"owner"), roles: roles.collect::<Result<_, _>>().ok()? })
            }
            _ => None,
        }
    }
}

/// Every address of the ingress; its health is told elsewhere.
pub fn surface() -> Vec<Address> {
    let (_, openapi) = super::documented().split_for_parts();
    let mut surface = described(&openapi);
    surface.extend(super::pages(super::docs::Prebuilt::new(&openapi)).addresses);
    surface.extend(super::development().addresses);
    surface
}

fn described(openapi: &OpenApi) -> Vec<Address> {
    let openapi = serde_json::to_value(openapi).expect("plain structs with text keys always serialize");
    let paths = openapi["paths"].as_object().into_iter().flatten();
    let operations = paths.flat_map(|(path, item)| {
        let item = item.as_object().into_iter().flatten();
        item.map(|(method, operation)| (method.to_uppercase(), path.clone(), Rule::of(&operation["security"])))
    });
    operations.map(|(method, path, rule)| Address { method, path, rule }).collect()
}

/// Addresses that need no token, kept in a list while they are put into a router.
#[derive(Default)]
pub(super) struct Open {
    pub(super) router: Router<Api>,
    addresses: Vec<Address>,
}

impl Open {
    pub(super) fn get<H: Handler<T, Api>, T: 'static>(mut self, path: &str, handler: H) -> Self {
        self.addresses.push(Self::address("GET", path));
        self.router = self.router.route(path, get(handler));
        self
    }

    pub(super) fn post<H: Handler<T, Api>, T: 'static>(mut self, path: &str, handler: H) -> Self {
        self.addresses.push(Self::address("POST", path));
        self.router = self.router.route(path, post(handler));
        self
    }

    fn address(method: &str, path: &str) -> Address {
        Address { method: method.into(), path: path.into(), rule: Some(Rule::Anybody) }
    }
}
