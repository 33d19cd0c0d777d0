//! The merchant as the program holds it: settings read, keys parsed, everything checked against everything.

use crate::keys::{self, Listed};
use crate::live::Live;
use crate::setting::BadSetting;
use crate::wechat::aead::{ApiV3Key, ApiV3Keys};
use crate::wechat::notification::NotificationKeys;
use crate::wechat::settings::{Check, PAY, PAYMENTS_PATH, PaySettings, REFUNDS_PATH, is_appid, is_local};
use crate::wechat::sign::MerchantKey;
use crate::wechat::verify::{PUBLIC_KEY_ID_PREFIX, PlatformKey, PlatformKeys, certificate_serial};
use reqwest::Url;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use std::path::{Path, PathBuf};
use std::time::Duration;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A merchant that can call WeChat Pay and be called by it.
#[derive(Debug)]
pub struct PayAccount {
    pub base_url: Url,
    pub appid: String,
    pub mchid: String,
    pub merchant_key: Live<MerchantKey>,
    /// What reading a callback needs.
    pub keys: NotificationKeys,
    pub platform_certificates: bool,
    pub notify_url: String,
    pub refund_notify_url: Option<String>,
    pub timeout: Duration,
}

impl PayAccount {
    /// Takes over the keys of the same merchant, read again. Platform certificates stay: WeChat told us of them.
    pub fn renew(&self, fresh: &Self) {
        self.merchant_key.copy(&fresh.merchant_key);
        self.keys.api_v3.copy(&fresh.keys.api_v3);
        self.keys.platform.replace_public_keys(&fresh.keys.platform);
    }
}

/// The merchant's numbers, which are on every bill and in every customer's app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    pub mchid: String,
    pub appid: String,
}

impl PaySettings {
    /// Files that are read again when they change.
    pub fn files(&self) -> Vec<PathBuf> {
        let files = [
            &self.merchant_private_key_file,
            &self.merchant_certificate_file,
            &self.apiv3_key_file,
            &self.previous_apiv3_key_file,
            &self.public_key_file,
            &self.previous_public_key_file,
        ];
        files.into_iter().flatten().cloned().collect()
    }

    /// Everything that is wrong; empty when the merchant can work.
    pub fn problems(&self) -> Vec<BadSetting> {
        self.load().err().unwrap_or_default()
    }

    /// The merchant, or every problem at once. Reads the key files.
    pub fn load(&self) -> Result<PayAccount, Vec<BadSetting>> {
        self.load_with(true)
    }

    /// The same for a process that calls WeChat and takes no callbacks: it needs the APIv3 key only to open platform
    /// certificates, where they are in use.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn load_to_call(&self) -> Result<PayAccount, Vec<BadSetting>> {
        self.load_with(self.platform_certificates)
    }

    /// The merchant's numbers alone, for a process that compares them and holds no key.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn numbers(&self) -> Result<Numbers, Vec<BadSetting>> {
        let mut check = Check::new(PAY);
        match (self.appid(&mut check), self.mchid(&mut check)) {
            (Some(appid), Some(mchid)) => Ok(Numbers { mchid: mchid.to_owned(), appid: appid.to_owned() }),
            _ => Err(check.problems),
        }
    }

    fn appid(&self, check: &mut Check) -> Option<&str> {
        check.text("appid", &self.appid, "wx and 16 hex digits", is_appid)
    }

    fn mchid(&self, check: &mut Check) -> Option<&str> {
        check.text("mchid", &self.mchid, "8 to 10 digits", |text| {
            (8..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
        })
    }

    fn load_with(&self, needs_api_v3: bool) -> Result<PayAccount, Vec<BadSetting>> {
        let mut check = Check::new(PAY);
        let base_url = check.base_url(&self.base_url);
        let local = base_url.as_ref().is_none_or(is_local);
        let appid = self.appid(&mut check);
        let mchid = self.mchid(&mut check);
        let merchant_key = self.merchant_key(&mut check, mchid.unwrap_or_default());
        let api_v3 = self.api_v3(&mut check, needs_api_v3);
        let platform = self.platform_keys(&mut check);
        if let Some(merchant) = &merchant_key
            && platform.hold(merchant.public_key())
        {
            check.wrong("public_key", "is the merchant's own; WeChat Pay's is wxp_pub.pem of the merchant platform");
        }
        let notify_url = check.notify_url("notify_url", &self.notify_url, 255, local, PAYMENTS_PATH);
        let refund_notify_url = match &self.refund_notify_url {
            Some(_) => check.notify_url("refund_notify_url", &self.refund_notify_url, 256, local, REFUNDS_PATH),
            None => notify_url.as_deref().and_then(beside),
        };
        let timeout = check.timeout(self.timeout_ms);

        match (base_url, appid, mchid, merchant_key, api_v3, notify_url) {
            (Some(base_url), Some(appid), Some(mchid), Some(merchant_key), Some(api_v3), Some(notify_url))
                if check.problems.is_empty() =>
            {
                Ok(PayAccount {
                    base_url,
                    appid: appid.to_owned(),
                    mchid: mchid.to_owned(),
                    merchant_key: Live::new(merchant_key),
                    keys: NotificationKeys { platform, api_v3 },
                    platform_certificates: self.platform_certificates,
                    notify_url,
                    refund_notify_url,
                    timeout,
                })
            }
            _ => Err(check.problems),
        }
    }

    fn merchant_key(&self, check: &mut Check, mchid: &str) -> Option<MerchantKey> {
        let certificate = self.merchant_certificate_file.as_deref().and_then(|path| merchant_certificate(check, path));
        let serial_no = match (&self.merchant_serial_no, &self.merchant_certificate_file) {
            (None, Some(_)) => certificate.as_ref().map(|certificate| certificate.serial_no.clone()),
            (configured, _) => check
                .text("merchant_serial_no", configured, "40 hex characters", |text| {
                    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
                })
                .map(str::to_ascii_uppercase),
        };
        let pem =
            check.needed_secret("merchant_private_key", &self.merchant_private_key, &self.merchant_private_key_file)?;
        let key =
            MerchantKey::from_pem(pem.expose_secret().as_bytes(), mchid, serial_no.as_deref().unwrap_or_default());
        let key = check.ok("merchant_private_key", key)?;
        // The classic mix-up: key of one certificate, serial of another.
        if let Some(certificate) = certificate {
            if certificate.public_key != key.public_key() {
                check.wrong("merchant_private_key", "does not belong to merchant_certificate_file");
            }
            if serial_no.is_some_and(|configured| configured != certificate.serial_no) {
                check.wrong("merchant_serial_no", format!("differs from the certificate's, {}", certificate.serial_no));
            }
        }
        Some(key)
    }

    fn api_v3(&self, check: &mut Check, is_needed: bool) -> Option<ApiV3Keys> {
        if !is_needed && self.apiv3_key.is_none() && self.apiv3_key_file.is_none() {
            return Some(ApiV3Keys::none());
        }
        let newest = check.needed_secret("apiv3_key", &self.apiv3_key, &self.apiv3_key_file);
        let previous = check.secret("previous_apiv3_key", &self.previous_apiv3_key, &self.previous_apiv3_key_file);
        let mut read = |name: &str, text: &SecretString| {
            let listed = check.ok(name, keys::lines(text)).unwrap_or_default();
            let keys = listed.iter().map(|Listed { key, .. }| check.ok(name, ApiV3Key::new(key.expose_secret())));
            keys.collect::<Option<Vec<_>>>()
        };
        let newest = newest.and_then(|text| read("apiv3_key", &text));
        let previous = previous.and_then(|text| read("previous_apiv3_key", &text)).unwrap_or_default();
        let mut keys = newest?.into_iter();
        Some(ApiV3Keys::new(keys.next()?, keys.chain(previous)))
    }

    fn platform_keys(&self, check: &mut Check) -> PlatformKeys {
        let current = public_keys(check, "public_key", &self.public_key_id, &self.public_key, &self.public_key_file);
        let previous = public_keys(
            check,
            "previous_public_key",
            &self.previous_public_key_id,
            &self.previous_public_key,
            &self.previous_public_key_file,
        );
        let has_public_key = [self.public_key.is_some(), self.public_key_file.is_some(), self.public_key_id.is_some()];
        if !has_public_key.contains(&true) && !self.platform_certificates {
            check.wrong("public_key_id", "is missing (or platform_certificates = true)");
        }
        PlatformKeys::new(current.into_iter().chain(previous))
    }
}

/// WeChat Pay public keys with their ids; `name` is the setting's, `{name}_id` that of the first one's id.
fn public_keys(
    check: &mut Check,
    name: &str,
    id: &Option<String>,
    direct: &Option<SecretString>,
    file: &Option<PathBuf>,
) -> Vec<(String, PlatformKey)> {
    if id.is_none() && direct.is_none() && file.is_none() {
        return Vec::new();
    }
    let id_name = format!("{name}_id");
    let configured = id.as_ref().map(|_| public_key_id(check, &id_name, id));
    let text = check.needed_secret(name, direct, file);
    let listed = text.and_then(|text| check.ok(name, keys::blocks(&text))).unwrap_or_default();
    let mut read = Vec::with_capacity(listed.len());
    for (place, Listed { name: own, key }) in listed.into_iter().enumerate() {
        let id = match (place, &configured) {
            (0, Some(configured)) => {
                if own.is_some() && own != *configured {
                    check.wrong(&id_name, format!("differs from the one in {name}_file"));
                }
                configured.clone()
            }
            _ => public_key_id(check, &id_name, &own),
        };
        let key = check.ok(name, PlatformKey::from_public_key_pem(key.expose_secret().as_bytes()));
        read.extend(id.zip(key));
    }
    read
}

fn public_key_id(check: &mut Check, name: &str, id: &Option<String>) -> Option<String> {
    let expected = format!("{PUBLIC_KEY_ID_PREFIX} and digits");
    let is_id = |text: &str| {
        text.strip_prefix(PUBLIC_KEY_ID_PREFIX)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
    };
    check.text(name, id, &expected, is_id).map(str::to_owned)
}

/// What `apiclient_cert.pem` says of the merchant's key.
struct MerchantCertificate {
    serial_no: String,
    /// PKCS#1 DER.
    public_key: Vec<u8>,
}

fn merchant_certificate(check: &mut Check, path: &Path) -> Option<MerchantCertificate> {
    const NAME: &str = "merchant_certificate_file";
    let der =
        CertificateDer::from_pem_file(path).map_err(|error| format!("cannot be read: {}: {error}", path.display()));
    let der = check.ok(NAME, der)?;
    let Ok((_, certificate)) = X509Certificate::from_der(&der) else {
        check.wrong(NAME, "is not an X.509 certificate in PEM");
        return None;
    };
    Some(MerchantCertificate {
        serial_no: certificate_serial(&certificate),
        public_key: certificate.public_key().subject_public_key.data.to_vec(),
    })
}

/// Where the ingress takes refunds, when it takes payments at `notify_url`.
fn beside(notify_url: &str) -> Option<String> {
    notify_url.strip_suffix(PAYMENTS_PATH).map(|ingress| format!("{ingress}{REFUNDS_PATH}"))
}
