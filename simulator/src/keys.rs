//! Every key of the play: the merchant's, WeChat Pay's, and the secret they share.
//!
//! A merchant gets the files that a real one would download from the merchant platform; WeChat's private
//! halves stay in files of their own. Keys are parsed once, then shared.

use std::{collections::BTreeMap, fmt, fs, io::Write as _, path::Path, sync::Arc};

use anyhow::{Context as _, Result, anyhow, ensure};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256, RsaKeySize, SerialNumber};
use time::{Duration, OffsetDateTime};

use crate::random;

/// What each file of a key directory holds; `true` marks the secret ones.
const FILES: [(&str, bool); 11] = [
    ("merchant_private_key.pem", true),
    ("merchant_certificate.pem", false),
    ("merchant_serial_no", false),
    ("apiv3_key", true),
    ("public_key.pem", false),
    ("public_key_id", false),
    ("platform_private_key.pem", true),
    ("platform_certificate_1.pem", false),
    ("platform_certificate_1_private_key.pem", true),
    ("platform_certificate_2.pem", false),
    ("platform_certificate_2_private_key.pem", true),
];

/// The keys of one merchant and of the WeChat Pay it talks to. Cheap to clone.
#[derive(Clone)]
pub struct Keys {
    /// PKCS#8 PEM, RSA 2048; what a merchant knows as `apiclient_key.pem`.
    pub merchant_private_key_pem: String,
    /// X.509 PEM of the same key.
    pub merchant_certificate_pem: String,
    /// Serial of that certificate: 40 upper-case hex digits.
    pub merchant_serial_no: String,
    /// 32 ASCII characters, used as they are as an AES-256 key.
    pub apiv3_key: String,
    /// WeChat Pay's public key, SPKI PEM.
    pub public_key_pem: String,
    /// Its name, `PUB_KEY_ID_…`.
    pub public_key_id: String,
    /// WeChat Pay's platform certificates: the one in use, and the one a rotation brings.
    pub platform_certificates: [PlatformCertificate; 2],
    pub(crate) merchant: Arc<ParsedPublicKey>,
    pub(crate) public: Signer,
    files: Arc<BTreeMap<&'static str, String>>,
}

/// One platform certificate, published by `GET /v3/certificates` in encrypted form.
#[derive(Clone, Debug)]
pub struct PlatformCertificate {
    /// X.509 PEM.
    pub pem: String,
    /// 40 upper-case hex digits.
    pub serial_no: String,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    pub(crate) signer: Signer,
}

impl Keys {
    /// Makes a fresh set: four RSA keys, some tenths of a second, so let tests share one.
    ///
    /// # Errors
    /// When the machine gives no randomness.
    pub fn generate() -> Result<Self> {
        let mut files = BTreeMap::new();
        let (private_key, certificate, serial_no) = certified("Simulated Merchant")?;
        files.insert("merchant_private_key.pem", private_key);
        files.insert("merchant_certificate.pem", certificate);
        files.insert("merchant_serial_no", serial_no);
        files.insert("apiv3_key", random::text(32));

        let platform = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        files.insert("public_key.pem", platform.public_key_pem());
        files.insert("public_key_id", format!("PUB_KEY_ID_01{}", random::digits(32)));
        files.insert("platform_private_key.pem", platform.serialize_pem());

        let (private_key, certificate, _) = certified("Simulated Platform 1")?;
        files.insert("platform_certificate_1_private_key.pem", private_key);
        files.insert("platform_certificate_1.pem", certificate);
        let (private_key, certificate, _) = certified("Simulated Platform 2")?;
        files.insert("platform_certificate_2_private_key.pem", private_key);
        files.insert("platform_certificate_2.pem", certificate);
        Self::parse(files)
    }

    /// Reads a set that [`Keys::save`] wrote.
    ///
    /// # Errors
    /// Names the file that is missing, unreadable or not a key of the right kind.
    pub fn load(directory: &Path) -> Result<Self> {
        let read = |(name, _)| {
            let path = directory.join(name);
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok((name, text))
        };
        Self::parse(FILES.into_iter().map(read).collect::<Result<_>>()?)
    }

    /// Writes the set into `directory`, made if need be. Secret files are readable by their owner only.
    ///
    /// # Errors
    /// Names the file that could not be written.
    pub fn save(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        for (name, secret) in FILES {
            let path = directory.join(name);
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            if secret {
                use std::os::unix::fs::OpenOptionsExt as _;
                options.mode(0o600);
            }
            options
                .open(&path)
                .and_then(|mut file| file.write_all(self.files[name].as_bytes()))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// The set in `directory`, or a fresh one saved there when it holds none yet.
    ///
    /// # Errors
    /// As [`Keys::load`] and [`Keys::save`]; a directory with a part of a set is an error, never overwritten.
    pub fn load_or_generate(directory: &Path) -> Result<Self> {
        if FILES.iter().any(|(name, _)| directory.join(name).exists()) {
            return Self::load(directory);
        }
        let keys = Self::generate()?;
        keys.save(directory)?;
        Ok(keys)
    }

    fn parse(files: BTreeMap<&'static str, String>) -> Result<Self> {
        let text = |name: &str| files[name].clone();
        let line = |name: &str| files[name].trim().to_owned();

        let apiv3_key = line("apiv3_key");
        ensure!(apiv3_key.len() == 32 && apiv3_key.is_ascii(), "apiv3_key must be 32 ASCII characters");
        let public_key_id = line("public_key_id");
        let merchant = private_key(&files["merchant_private_key.pem"]).context("merchant_private_key.pem")?;
        let merchant = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, merchant.public_key().as_ref())
            .map_err(|_| anyhow!("merchant_private_key.pem is not an RSA key of at least 2048 bits"))?;
        Ok(Self {
            merchant_private_key_pem: text("merchant_private_key.pem"),
            merchant_certificate_pem: text("merchant_certificate.pem"),
            merchant_serial_no: line("merchant_serial_no"),
            public_key_pem: text("public_key.pem"),
            platform_certificates: [
                PlatformCertificate::parse(
                    &files["platform_certificate_1.pem"],
                    &files["platform_certificate_1_private_key.pem"],
                )
                .context("platform_certificate_1.pem")?,
                PlatformCertificate::parse(
                    &files["platform_certificate_2.pem"],
                    &files["platform_certificate_2_private_key.pem"],
                )
                .context("platform_certificate_2.pem")?,
            ],
            merchant: Arc::new(merchant),
            public: Signer::new(
                &public_key_id,
                private_key(&files["platform_private_key.pem"]).context("platform_private_key.pem")?,
            ),
            apiv3_key,
            public_key_id,
            files: Arc::new(files),
        })
    }
}

impl PlatformCertificate {
    fn parse(pem: &str, key: &str) -> Result<Self> {
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes())?;
        let certificate = block.parse_x509()?;
        let serial_no: String = certificate.raw_serial().iter().map(|byte| format!("{byte:02X}")).collect();
        let validity = certificate.validity();
        Ok(Self {
            pem: pem.to_owned(),
            not_before: validity.not_before.to_datetime(),
            not_after: validity.not_after.to_datetime(),
            signer: Signer::new(&serial_no, private_key(key)?),
            serial_no,
        })
    }
}

/// A private key of WeChat's and the name that goes into `Wechatpay-Serial`.
#[derive(Clone)]
pub(crate) struct Signer {
    pub(crate) serial: Arc<str>,
    key: Arc<RsaKeyPair>,
}

impl Signer {
    fn new(serial: &str, key: RsaKeyPair) -> Self {
        Self { serial: serial.into(), key: Arc::new(key) }
    }

    /// The same key under a name that nobody knows.
    pub(crate) fn stranger(&self) -> Self {
        Self { serial: "5F5F5F5F5F5F5F5F5F5F5F5F5F5F5F5F5F5F5F5F".into(), key: Arc::clone(&self.key) }
    }

    /// Base64 of the RSASSA-PKCS1-v1_5 signature with SHA-256.
    pub(crate) fn sign(&self, message: &[u8]) -> String {
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .expect("the buffer has the length of the modulus, the only thing that could be wrong");
        BASE64_STANDARD.encode(signature)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.serial)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("merchant_serial_no", &self.merchant_serial_no)
            .field("public_key_id", &self.public_key_id)
            .finish_non_exhaustive()
    }
}

/// Serial and public key of a merchant's certificate.
pub(crate) fn certificate_of(pem: &str) -> Result<(String, ParsedPublicKey)> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes())?;
    let certificate = block.parse_x509()?;
    let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, certificate.public_key().raw)
        .map_err(|_| anyhow!("not an RSA key of at least 2048 bits"))?;
    Ok((certificate.raw_serial().iter().map(|byte| format!("{byte:02X}")).collect(), key))
}

/// Another public key of WeChat Pay's, and its SPKI PEM.
pub(crate) fn new_public_key() -> Result<(Signer, String)> {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
    let id = format!("PUB_KEY_ID_01{}", random::digits(32));
    Ok((Signer::new(&id, private_key(&key.serialize_pem())?), key.public_key_pem()))
}

fn private_key(pem: &str) -> Result<RsaKeyPair> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes())?;
    RsaKeyPair::from_pkcs8(&block.contents).map_err(|reason| anyhow!("not a PKCS#8 RSA key: {reason}"))
}

/// A new key, a certificate of it that lasts five years as WeChat's do, and the certificate's serial.
fn certified(name: &str) -> Result<(String, String, String)> {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
    let mut serial = [0; 20];
    aws_lc_rs::rand::fill(&mut serial)?;
    // A DER integer of exactly 20 bytes: positive, and with no leading zero to be dropped.
    serial[0] = serial[0] & 0x3F | 0x40;

    let mut certificate = CertificateParams::default();
    certificate.distinguished_name.push(DnType::CommonName, name);
    certificate.not_before = OffsetDateTime::now_utc() - Duration::DAY;
    certificate.not_after = certificate.not_before + Duration::days(5 * 365);
    certificate.serial_number = Some(SerialNumber::from_slice(&serial));
    let pem = certificate.self_signed(&key)?.pem();
    let serial_no = serial.iter().map(|byte| format!("{byte:02X}")).collect();
    Ok((key.serialize_pem(), pem, serial_no))
}
