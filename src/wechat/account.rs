//! The merchant as the program holds it: settings read, keys parsed, everything checked against everything.

use crate::setting::BadSetting;
use crate::wechat::aead::{ApiV3Key, ApiV3Keys};
use crate::wechat::notification::NotificationKeys;
use crate::wechat::settings::{Check, PAY, PaySettings, is_appid, is_local};
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
    pub merchant_key: MerchantKey,
    /// What reading a callback needs.
    pub keys: NotificationKeys,
    /// Sent with every call in public-key mode, so that WeChat answers with that key.
    pub public_key_id: Option<String>,
    pub platform_certificates: bool,
    pub notify_url: String,
    pub refund_notify_url: Option<String>,
    pub timeout: Duration,
}

impl PaySettings {
    /// Everything that is wrong; empty when the merchant can work.
    pub fn problems(&self) -> Vec<BadSetting> {
        self.load().err().unwrap_or_default()
    }

    /// The merchant, or every problem at once. Reads the key files.
    pub fn load(&self) -> Result<PayAccount, Vec<BadSetting>> {
        let mut check = Check::new(PAY);
        let base_url = check.base_url(&self.base_url);
        let local = base_url.as_ref().is_none_or(is_local);
        let appid = check.text("appid", &self.appid, "wx and 16 hex digits", is_appid);
        let mchid = check.text("mchid", &self.mchid, "8 to 10 digits", |text| {
            (8..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
        });
        let merchant_key = self.merchant_key(&mut check, mchid.unwrap_or_default());
        let api_v3 = self.api_v3(&mut check);
        let platform = self.platform_keys(&mut check);
        let notify_url = check.notify_url("notify_url", &self.notify_url, 255, local);
        let refund_notify_url = match &self.refund_notify_url {
            Some(_) => check.notify_url("refund_notify_url", &self.refund_notify_url, 256, local),
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
                    merchant_key,
                    keys: NotificationKeys { platform, api_v3 },
                    public_key_id: self.public_key_id.clone(),
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
        let serial_no = check
            .text("merchant_serial_no", &self.merchant_serial_no, "40 hex characters", |text| {
                text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
            })
            .map(str::to_ascii_uppercase);
        let pem =
            check.needed_secret("merchant_private_key", &self.merchant_private_key, &self.merchant_private_key_file)?;
        let key =
            MerchantKey::from_pem(pem.expose_secret().as_bytes(), mchid, serial_no.as_deref().unwrap_or_default());
        let key = check.ok("merchant_private_key", key)?;
        if let Some(path) = &self.merchant_certificate_file {
            compare_with_certificate(check, path, &key, serial_no.as_deref());
        }
        Some(key)
    }

    fn api_v3(&self, check: &mut Check) -> Option<ApiV3Keys> {
        let newest = check.needed_secret("apiv3_key", &self.apiv3_key, &self.apiv3_key_file);
        let previous = check.secret("previous_apiv3_key", &self.previous_apiv3_key, &self.previous_apiv3_key_file);
        let mut key = |name, text: SecretString| {
            let key = ApiV3Key::new(text.expose_secret());
            check.ok(name, key)
        };
        let newest = newest.and_then(|text| key("apiv3_key", text));
        let previous = previous.and_then(|text| key("previous_apiv3_key", text));
        Some(ApiV3Keys::new(newest?, previous))
    }

    fn platform_keys(&self, check: &mut Check) -> PlatformKeys {
        let current = public_key(check, "public_key", &self.public_key_id, &self.public_key, &self.public_key_file);
        let previous = public_key(
            check,
            "previous_public_key",
            &self.previous_public_key_id,
            &self.previous_public_key,
            &self.previous_public_key_file,
        );
        if self.public_key_id.is_none() && !self.platform_certificates {
            check.wrong("public_key_id", "is missing (or platform_certificates = true)");
        }
        PlatformKeys::new(current.into_iter().chain(previous))
    }
}

/// A WeChat Pay public key with its id; `name` is the setting's, `{name}_id` that of its id.
fn public_key(
    check: &mut Check,
    name: &str,
    id: &Option<String>,
    direct: &Option<SecretString>,
    file: &Option<PathBuf>,
) -> Option<(String, PlatformKey)> {
    let id_name = format!("{name}_id");
    if id.is_none() && direct.is_none() && file.is_none() {
        return None;
    }
    let expected = format!("{PUBLIC_KEY_ID_PREFIX} and digits");
    let id = check.text(&id_name, id, &expected, |text| {
        text.strip_prefix(PUBLIC_KEY_ID_PREFIX)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
    });
    let pem = check.needed_secret(name, direct, file)?;
    let key = PlatformKey::from_public_key_pem(pem.expose_secret().as_bytes());
    let key = check.ok(name, key)?;
    Some((id?.to_owned(), key))
}

/// The classic mix-up: key of one certificate, serial of another.
fn compare_with_certificate(check: &mut Check, path: &Path, key: &MerchantKey, serial_no: Option<&str>) {
    const NAME: &str = "merchant_certificate_file";
    let der = match CertificateDer::from_pem_file(path) {
        Ok(der) => der,
        Err(error) => {
            return check.wrong(NAME, format!("cannot be read: {}: {error}", path.display()));
        }
    };
    let Ok((_, certificate)) = X509Certificate::from_der(&der) else {
        return check.wrong(NAME, "is not an X.509 certificate in PEM");
    };
    if certificate.public_key().subject_public_key.data.as_ref() != key.public_key() {
        check.wrong("merchant_private_key", "does not belong to merchant_certificate_file");
    }
    let serial = certificate_serial(&certificate);
    if serial_no.is_some_and(|configured| configured != serial) {
        check.wrong("merchant_serial_no", format!("differs from the certificate's, {serial}"));
    }
}

/// Where the ingress takes refunds, when it takes payments at `notify_url`.
fn beside(notify_url: &str) -> Option<String> {
    notify_url.strip_suffix("/v1/wechat/notify/payments").map(|ingress| format!("{ingress}/v1/wechat/notify/refunds"))
}
