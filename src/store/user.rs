//! `users`: who booked, and WeChat's name for them, sealed.

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};

use super::{Step, StoreError};
use crate::domain::{ids::UserId, message::Openid};

/// The key that personal data is sealed with in the database (AES-256-GCM). It never is in the database.
pub struct PersonalKey(RandomizedNonceKey);

/// First byte of a sealed value: which key sealed it. Another number when keys rotate.
const KEY_ONE: u8 = 1;
const NONCE_LENGTH: usize = 12;

impl PersonalKey {
    /// # Errors
    /// The text is not the base64 of 32 bytes.
    pub fn parse(text: &SecretString) -> Result<Self, &'static str> {
        let wrong = "must be the base64 of 32 random bytes";
        let key = STANDARD.decode(text.expose_secret().trim()).map_err(|_| wrong)?;
        RandomizedNonceKey::new(&AES_256_GCM, &key).map(Self).map_err(|_| wrong)
    }

    /// Seals an openid for one user: it opens only together with that user's id.
    fn seal(&self, user: &UserId, openid: &Openid) -> Vec<u8> {
        self.seal_for(user.as_str(), openid.0.as_bytes())
    }

    /// Seals what belongs to one owner: it opens only together with the owner's name.
    pub(super) fn seal_for(&self, owner: &str, plain: &[u8]) -> Vec<u8> {
        let mut sealed = plain.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(owner), &mut sealed)
            .expect("no message comes near the cipher's limit of 64 GiB");
        let mut value = vec![KEY_ONE];
        value.extend_from_slice(nonce.as_ref());
        value.append(&mut sealed);
        value
    }

    /// `None` when the value was not sealed by this key for this user.
    pub(super) fn open(&self, user: &UserId, sealed: &[u8]) -> Option<Openid> {
        String::from_utf8(self.open_for(user.as_str(), sealed)?).ok().map(Openid)
    }

    /// `None` when the value was not sealed by this key for this owner.
    pub(super) fn open_for(&self, owner: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (key, sealed) = sealed.split_first()?;
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE_LENGTH)?;
        if *key != KEY_ONE {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = ciphertext.to_vec();
        self.0.open_in_place(nonce, Aad::from(owner), &mut plain).ok().map(|plain| plain.to_vec())
    }
}

impl std::fmt::Debug for PersonalKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PersonalKey(…)")
    }
}

/// Makes sure that these users exist; an openid replaces the one known before.
pub async fn upsert(
    step: &mut Step<'_>,
    key: &PersonalKey,
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
        once.iter().map(|(user, openid)| openid.map(|openid| key.seal(user, openid))).collect();
    sqlx::query(
        "INSERT INTO users (user_id, openid)
         SELECT * FROM unnest($1::text[], $2::bytea[])
         ON CONFLICT (user_id) DO UPDATE SET openid = excluded.openid, updated_at = now()
          WHERE excluded.openid IS NOT NULL",
    )
    .bind(ids)
    .bind(sealed)
    .execute(&mut *step.transaction)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s6_4_an_openid_opens_only_with_its_key_and_its_user() {
        let key = PersonalKey::parse(&STANDARD.encode([1; 32]).into()).unwrap();
        let other = PersonalKey::parse(&STANDARD.encode([2; 32]).into()).unwrap();
        let ann = UserId::try_from("ann".to_owned()).unwrap();
        let bob = UserId::try_from("bob".to_owned()).unwrap();
        let openid = Openid("oOpenid".into());
        let sealed = key.seal(&ann, &openid);
        assert_eq!(key.open(&ann, &sealed), Some(openid));
        assert_eq!(key.open(&bob, &sealed), None);
        assert_eq!(other.open(&ann, &sealed), None);
        assert_eq!(key.open(&ann, &[]), None);
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        assert!(PersonalKey::parse(&STANDARD.encode([1; 16]).into()).is_err());
        assert!(PersonalKey::parse(&"not base64".to_owned().into()).is_err());
    }
}
