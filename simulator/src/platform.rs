//! What the merchant platform knows: keys that change while WeChat works. In memory only; a simulator that starts anew
//! has those of its files.

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::signature::ParsedPublicKey;

use crate::keys::{Keys, Signer};

/// The keys in force.
pub(crate) struct Platform(RwLock<InForce>);

struct InForce {
    /// The merchant's certificates, by serial: any of them may have signed a request.
    merchants: Vec<(String, Arc<ParsedPublicKey>)>,
    /// Every APIv3 key there has been, the present one last: what was sealed stays so.
    apiv3: Vec<Arc<str>>,
    /// WeChat Pay's public keys, the newest last.
    public: Vec<Signer>,
    /// The newest that a request has asked for: callbacks come with no newer one, so that they are not signed with a
    /// key of which the merchant has just heard.
    asked: usize,
}

impl Platform {
    pub(crate) fn new(keys: &Keys) -> Self {
        Self(RwLock::new(InForce {
            merchants: vec![(keys.merchant_serial_no.clone(), Arc::clone(&keys.merchant))],
            apiv3: vec![keys.apiv3_key.as_str().into()],
            public: vec![keys.public.clone()],
            asked: 0,
        }))
    }

    /// The public key of the merchant's certificate with this serial: a hexadecimal number, in either case.
    pub(crate) fn merchant(&self, serial_no: &str) -> Option<Arc<ParsedPublicKey>> {
        self.look(|keys| {
            let own = keys.merchants.iter().find(|(serial, _)| serial.eq_ignore_ascii_case(serial_no));
            own.map(|(_, key)| Arc::clone(key))
        })
    }

    /// An APIv3 key by its number, the present one beyond the last.
    pub(crate) fn apiv3(&self, number: usize) -> Arc<str> {
        self.look(|keys| Arc::clone(&keys.apiv3[number.min(keys.apiv3.len() - 1)]))
    }

    /// The public key of this name.
    pub(crate) fn public(&self, id: &str) -> Option<Signer> {
        self.look(|keys| keys.public.iter().find(|signer| &*signer.serial == id).cloned())
    }

    /// The public key of this name, for an answer that was asked to be signed with it.
    pub(crate) fn asked_for(&self, id: &str) -> Option<Signer> {
        self.change(|keys| {
            let place = keys.public.iter().position(|signer| &*signer.serial == id)?;
            keys.asked = keys.asked.max(place);
            Some(keys.public[place].clone())
        })
    }

    /// The newest public key in use, or with `older` the one before it.
    pub(crate) fn newest_public(&self, older: bool) -> Signer {
        self.look(|keys| keys.public[keys.asked.saturating_sub(usize::from(older))].clone())
    }

    pub(crate) fn add_certificate(&self, serial_no: String, key: ParsedPublicKey) {
        self.change(|keys| keys.merchants.push((serial_no, Arc::new(key))));
    }

    pub(crate) fn revoke_certificate(&self, serial_no: &str) -> Result<(), &'static str> {
        self.change(|keys| remove(&mut keys.merchants, |(serial, _)| serial == serial_no))
    }

    pub(crate) fn add_apiv3(&self, key: &str) {
        self.change(|keys| keys.apiv3.push(key.into()));
    }

    pub(crate) fn add_public(&self, signer: Signer) {
        self.change(|keys| keys.public.push(signer));
    }

    pub(crate) fn retire_public(&self, id: &str) -> Result<(), &'static str> {
        self.change(|keys| {
            remove(&mut keys.public, |signer| &*signer.serial == id)?;
            keys.asked = keys.asked.saturating_sub(1);
            Ok(())
        })
    }

    fn look<T>(&self, look: impl FnOnce(&InForce) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, deed: impl FnOnce(&mut InForce) -> T) -> T {
        deed(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The last one is needed.
fn remove<T>(list: &mut Vec<T>, is_it: impl Fn(&T) -> bool) -> Result<(), &'static str> {
    let place = list.iter().position(is_it).ok_or("there is none of this name")?;
    if list.len() == 1 {
        return Err("it is the last one");
    }
    list.remove(place);
    Ok(())
}
