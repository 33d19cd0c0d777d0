//! What a caller may do, read from the values of one claim.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::settings::Names;
use crate::setting::BadSetting;

/// Longest name of a claim, in bytes; names of claims are short, or URLs.
const CLAIM_BYTES_MAX: usize = 256;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Books, and sees their own orders.
    Customer,
    /// Looks at everything operators see.
    Viewer,
    Operator,
}

impl Role {
    /// From the least right to the most.
    pub const ALL: [Self; 3] = [Self::Customer, Self::Viewer, Self::Operator];

    /// As commands and documents write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.name() == word).ok_or("a role is customer, viewer or operator")
    }
}

/// `auth.roles`: the values of the role claim that give each role. A role without an entry is given by its own name, a
/// role with an empty one by no value.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoleValues {
    pub customer: Option<Names>,
    pub viewer: Option<Names>,
    pub operator: Option<Names>,
}

impl RoleValues {
    fn of(&self, role: Role) -> Option<&Names> {
        match role {
            Role::Customer => self.customer.as_ref(),
            Role::Viewer => self.viewer.as_ref(),
            Role::Operator => self.operator.as_ref(),
        }
    }
}

/// Reads roles from claims.
#[derive(Clone)]
pub(super) struct RoleRules {
    claim: String,
    /// In the order of [`Role::ALL`].
    values: Vec<(Role, Vec<String>)>,
}

impl RoleRules {
    /// # Errors
    /// The claim has no usable name, or one value would give two roles.
    pub(super) fn new(claim: &str, given: &RoleValues) -> Result<Self, BadSetting> {
        if claim.is_empty() || claim.len() > CLAIM_BYTES_MAX || claim.split('.').any(str::is_empty) {
            return Err(BadSetting {
                setting: "auth.role_claim".into(),
                what: format!(
                    "must be the name of a claim, at most {CLAIM_BYTES_MAX} bytes, or names with dots between"
                ),
            });
        }
        let own_name = |role: Role| vec![role.name().to_owned()];
        let values: Vec<(Role, Vec<String>)> = Role::ALL
            .into_iter()
            .map(|role| (role, given.of(role).map_or_else(|| own_name(role), |names| names.as_slice().to_vec())))
            .collect();
        for (at, (role, names)) in values.iter().enumerate() {
            for (other, others) in values.iter().take(at) {
                if let Some(twice) = names.iter().find(|name| others.contains(name)) {
                    return Err(BadSetting {
                        setting: format!("auth.roles.{}", role.name()),
                        what: format!("has {twice:?}, which gives the role {} as well", other.name()),
                    });
                }
            }
        }
        Ok(Self { claim: claim.to_owned(), values })
    }

    /// The role with the most rights that the claim's values give; `None` when they give none.
    pub(super) fn role_of(&self, claims: &Map<String, Value>) -> Option<Role> {
        let given: Vec<&str> = match self.claimed(claims)? {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
        };
        let gives = |names: &[String]| names.iter().any(|name| given.contains(&name.as_str()));
        self.values.iter().rev().find(|(_, names)| gives(names)).map(|(role, _)| *role)
    }

    /// The claim of that very name (names may hold dots: `https://example.com/roles`), else the end of the path.
    fn claimed<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        if let Some(value) = claims.get(&self.claim) {
            return Some(value);
        }
        let mut names = self.claim.split('.');
        let first = claims.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))
    }

    /// Writes a value that gives this role; `false` when none does.
    pub(super) fn write(&self, role: Role, claims: &mut Map<String, Value>) -> bool {
        let value = self.values.iter().find(|(one, _)| *one == role).and_then(|(_, names)| names.first());
        let Some(value) = value else { return false };
        let mut path = self.claim.split('.').rev();
        // A claim of the token's own (`sub.x`) keeps its place: the dotted name is then written as it stands.
        let top = self.claim.split('.').next().unwrap_or_default();
        if claims.contains_key(top) {
            claims.insert(self.claim.clone(), json!(value));
            return true;
        }
        let innermost = path.next().unwrap_or_default();
        let nested = path.fold((innermost, json!(value)), |(name, value), outer| (outer, json!({ name: value })));
        claims.insert(nested.0.to_owned(), nested.1);
        true
    }
}

/// What a token must claim, for the caller whose token claims something else.
impl fmt::Display for RoleRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<&str> = self.values.iter().flat_map(|(_, names)| names).map(String::as_str).collect();
        write!(f, "The token's {} gives no role; expected is one of: {}.", self.claim, all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(claim: &str, operator: &[&str]) -> RoleRules {
        let given = RoleValues { operator: Some(operator.to_vec().into()), ..RoleValues::default() };
        RoleRules::new(claim, &given).unwrap()
    }

    fn claims(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    /// F12: A list of groups gives the role with the most rights; a path leads into objects, and a name with dots is tried
    /// as it stands first.
    #[test]
    fn f12_groups_are_mapped_to_roles() {
        let rules = rules("realm_access.roles", &["studio-ops", "owners"]);
        for (given, role) in [
            (json!({"realm_access": {"roles": ["x", "viewer", "owners"]}}), Some(Role::Operator)),
            (json!({"realm_access": {"roles": "studio-ops"}}), Some(Role::Operator)),
            (json!({"realm_access": {"roles": ["viewer"]}}), Some(Role::Viewer)),
            (json!({"realm_access.roles": ["customer"]}), Some(Role::Customer)),
            (json!({"realm_access": {"roles": ["operator"]}}), None),
            (json!({"realm_access": {"roles": [["owners"], 1, null]}}), None),
            (json!({"realm_access": {"roles": {"owners": true}}}), None),
            (json!({"realm_access": "owners"}), None),
            (json!({"roles": ["owners"]}), None),
        ] {
            assert_eq!(rules.role_of(&claims(given.clone())), role, "{given}");
        }
    }

    #[test]
    fn f12_what_is_minted_is_read_back() {
        for claim in ["role", "a.b.c", "sub.role", "https://example.com/roles"] {
            let rules = rules(claim, &["owners"]);
            for role in Role::ALL {
                let mut written = claims(json!({"sub": "ann"}));
                assert!(rules.write(role, &mut written));
                assert_eq!((rules.role_of(&written), &written["sub"]), (Some(role), &json!("ann")), "{claim}");
            }
        }
        assert!(
            !rules("role", &[]).write(Role::Operator, &mut Map::new()),
            "an empty entry gives the role to no value"
        );
    }

    #[test]
    fn f12_one_value_gives_one_role() {
        let given = |viewer: &[&str], operator: &[&str]| RoleValues {
            customer: None,
            viewer: Some(viewer.to_vec().into()),
            operator: Some(operator.to_vec().into()),
        };
        let wrong = |values: &RoleValues| RoleRules::new("role", values).err().map(|problem| problem.to_string());
        assert_eq!(wrong(&given(&["a"], &["b"])), None);
        let twice = wrong(&given(&["a"], &["b", "a"])).unwrap();
        assert_eq!(twice, "auth.roles.operator has \"a\", which gives the role viewer as well");
        assert!(wrong(&given(&["customer"], &[])).is_some(), "the name of a role without an entry is taken, too");
        for claim in ["", ".", "a..b", "a."] {
            assert!(RoleRules::new(claim, &RoleValues::default()).is_err(), "{claim:?}");
        }
    }
}
