//! Personal data as it lies in the database: sealed with AES-256-GCM, under a key that never is in it.
//!
//! ```text
//! 1 | nonce (12) | ciphertext and tag                                   under the key without a name
//! 2 | length of the name (1) | name | nonce (12) | ciphertext and tag   under the key of that name
//! ```
//!
//! A key without a name seals as the first release did, which knew one key only. So releases can be mixed until the
//! first rotation, and every value tells which key it needs.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    domain::{ids::UserId, message::Openid},
    keys::{self, Listed},
    live::Live,
};

const UNNAMED: u8 = 1;
const NAMED: u8 = 2;
const NONCE_LENGTH: usize = 12;

/// The keys that personal data is sealed with: the first seals, each opens.
pub struct PersonalKeys(Live<Vec<PersonalKey>>);

struct PersonalKey {
    /// Empty for the one without a name.
    name: String,
    key: RandomizedNonceKey,
}

/// Why a sealed value stays closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    #[error("is sealed with {}, which this process does not hold", called(.0))]
    NoKey(String),
    #[error("does not open with {}: it is another's, or was changed, or the key's name was given to another key", called(.0))]
    Changed(String),
    #[error("is not what we seal")]
    Foreign,
}

/// A key's name for people.
pub fn called(name: &str) -> String {
    if name.is_empty() { "the key without a name".to_owned() } else { format!("the key `{name}`") }
}

impl PersonalKeys {
    /// Reads the keys as [`keys::lines`] lists them, each the base64 of 32 bytes.
    ///
    /// # Errors
    /// Says what is wrong, without quoting it.
    pub fn parse(text: &SecretString) -> Result<Self, &'static str> {
        let wrong = "must be the base64 of 32 random bytes";
        let listed = keys::lines(text)?;
        let read = listed.into_iter().map(|Listed { name, key }| {
            let key = STANDARD.decode(key.expose_secret()).map_err(|_| wrong)?;
            let key = RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| wrong)?;
            Ok(PersonalKey { name: name.unwrap_or_default(), key })
        });
        let read: Vec<PersonalKey> = read.collect::<Result<_, &str>>()?;
        match read.iter().filter(|one| one.name.is_empty()).count() {
            0 | 1 => Ok(Self(Live::new(read))),
            _ => Err("has two keys without a name"),
        }
    }

    /// Takes the keys of `fresh` in place of these.
    pub fn renew(&self, fresh: &Self) {
        self.0.copy(&fresh.0);
    }

    /// The name of each key; empty for the one without.
    pub fn names(&self) -> Vec<String> {
        self.0.get().iter().map(|one| one.name.clone()).collect()
    }

    /// The name of the key that seals.
    pub fn in_force(&self) -> String {
        self.names().swap_remove(0)
    }

    /// Seals an openid for one user: it opens only together with that user's id.
    pub(super) fn seal(&self, user: &UserId, openid: &Openid) -> Vec<u8> {
        self.seal_for(user.as_str(), openid.0.as_bytes())
    }

    /// Seals what belongs to one owner: it opens only together with the owner's name.
    pub(super) fn seal_for(&self, owner: &str, plain: &[u8]) -> Vec<u8> {
        let keys = self.0.get();
        let PersonalKey { name, key } = keys.first().expect("a list of keys without one is not taken");
        let mut sealed = plain.to_vec();
        let nonce = key
            .seal_in_place_append_tag(Aad::from(owner), &mut sealed)
            .expect("no message comes near the cipher's limit of 64 GiB");
        let mut value = match u8::try_from(name.len()).expect("names are short") {
            0 => vec![UNNAMED],
            length => [&[NAMED, length], name.as_bytes()].concat(),
        };
        value.extend_from_slice(nonce.as_ref());
        value.append(&mut sealed);
        value
    }

    /// # Errors
    /// It was not sealed for this user, or the key is not at hand.
    pub(super) fn open(&self, user: &UserId, sealed: &[u8]) -> Result<Openid, Closed> {
        let plain = self.open_for(user.as_str(), sealed)?;
        String::from_utf8(plain).map(Openid).map_err(|_| Closed::Foreign)
    }

    /// # Errors
    /// It was not sealed for this owner, or the key is not at hand.
    pub(super) fn open_for(&self, owner: &str, sealed: &[u8]) -> Result<Vec<u8>, Closed> {
        let (name, rest) = split(sealed).ok_or(Closed::Foreign)?;
        let keys = self.0.get();
        let one = keys.iter().find(|one| one.name == name).ok_or_else(|| Closed::NoKey(name.to_owned()))?;
        let changed = || Closed::Changed(name.to_owned());
        let (nonce, ciphertext) = rest.split_at_checked(NONCE_LENGTH).ok_or(Closed::Foreign)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Closed::Foreign)?;
        let mut plain = ciphertext.to_vec();
        let plain = one.key.open_in_place(nonce, Aad::from(owner), &mut plain).map_err(|_| changed())?;
        Ok(plain.to_vec())
    }
}

/// The name of a value's key, and what follows it.
fn split(sealed: &[u8]) -> Option<(&str, &[u8])> {
    match sealed {
        [UNNAMED, rest @ ..] => Some(("", rest)),
        [NAMED, length, rest @ ..] => {
            let (name, rest) = rest.split_at_checked(usize::from(*length))?;
            Some((std::str::from_utf8(name).ok()?, rest))
        }
        _ => None,
    }
}

impl std::fmt::Debug for PersonalKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PersonalKeys").field(&self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> PersonalKeys {
        PersonalKeys::parse(&text.into()).unwrap()
    }

    fn key(byte: u8) -> String {
        STANDARD.encode([byte; 32])
    }

    fn user(name: &str) -> UserId {
        UserId::try_from(name.to_owned()).unwrap()
    }

    #[test]
    fn s6_4_an_openid_opens_only_with_its_key_and_its_user() {
        let one = keys(&key(1));
        let openid = Openid("oOpenid".into());
        let sealed = one.seal(&user("ann"), &openid);
        assert_eq!(one.open(&user("ann"), &sealed), Ok(openid));
        assert_eq!(one.open(&user("bob"), &sealed), Err(Closed::Changed(String::new())));
        assert_eq!(keys(&key(2)).open(&user("ann"), &sealed), Err(Closed::Changed(String::new())));
        for foreign in [&[][..], &[1], &[2], &[2, 9, 97], &[3, 0, 0]] {
            assert_eq!(one.open(&user("ann"), foreign), Err(Closed::Foreign), "{foreign:?}");
        }
    }

    #[test]
    fn s6_4_a_value_names_its_key_and_opens_while_the_key_is_listed() {
        let ann = user("ann");
        let (old, both, turned, new) = (
            keys(&key(1)),
            keys(&format!("{}\nmay {}", key(1), key(2))),
            keys(&format!("may {}\n{}", key(2), key(1))),
            keys(&format!("may {}", key(2))),
        );
        let (before, after) = (both.seal_for("ann", b"o"), turned.seal_for("ann", b"o"));
        assert_eq!((before[0], &after[..5]), (UNNAMED, &b"\x02\x03may"[..]));
        for (ring, can) in [(&old, [true, false]), (&both, [true; 2]), (&turned, [true; 2]), (&new, [false, true])] {
            assert_eq!([&before, &after].map(|sealed| ring.open(&ann, sealed).is_ok()), can);
        }
        assert_eq!(old.open(&ann, &after), Err(Closed::NoKey("may".into())));
        old.renew(&turned);
        assert_eq!((old.in_force(), old.open(&ann, &before).is_ok()), ("may".into(), true));
    }

    /// Sealed by other means, in the form of the first release.
    #[test]
    fn s6_4_what_the_first_release_sealed_opens() {
        let hex = "016e6f6e63652d6f662d3132625468d7d3c04e70d7f07324f90db081a242a8d23ff55294";
        let sealed: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let ring = keys(&format!("may {}\n{}", key(2), key(1)));
        assert_eq!(ring.open(&user("ann"), &sealed), Ok(Openid("oOpenid".into())));
    }

    #[test]
    fn keys_that_cannot_seal_are_refused() {
        let both = format!("{}\n{}", key(1), key(2));
        for text in [STANDARD.encode([1; 16]), "not base64".into(), String::new(), both] {
            assert!(PersonalKeys::parse(&text.into()).is_err());
        }
    }
}
