//! `users`: who booked, and WeChat's name for them, sealed.

use std::collections::BTreeMap;

use super::{Step, StoreError, sealed::PersonalKeys};
use crate::domain::{ids::UserId, message::Openid};

/// Makes sure that these users exist; an openid replaces the one known before.
pub async fn upsert(
    step: &mut Step<'_>,
    keys: &PersonalKeys,
    users: impl IntoIterator<Item = (&UserId, Option<&Openid>)>,
) -> Result<(), StoreError> {
    // Sorted and once each, so that two transactions cannot lock two users crosswise.
    let mut once: BTreeMap<&UserId, Option<&Openid>> = BTreeMap::new();
    for (user, openid) in users {
        let known = once.entry(user).or_default();
        *known = openid.or(*known);
    }
    let ids: Vec<&UserId> = once.keys().copied().collect();
    let sealed: Vec<Option<Vec<u8>>> =
        once.iter().map(|(user, openid)| openid.map(|openid| keys.seal(user, openid))).collect();
    sqlx::query(
        "INSERT INTO users (user_id, openid)
         SELECT t.user_id, t.openid FROM unnest($1::text[], $2::bytea[]) AS t(user_id, openid)
         ON CONFLICT (user_id) DO UPDATE SET openid = excluded.openid, updated_at = now()
          WHERE excluded.openid IS NOT NULL",
    )
    .bind(ids)
    .bind(sealed)
    .execute(&mut *step.transaction)
    .await?;
    Ok(())
}
