//! Keys of issuers, made for one test, and tokens signed with them by hand: any header, any claims.

use aws_lc_rs::{
    encoding::AsDer,
    hmac,
    rand::SystemRandom,
    rsa,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A key and the name that its issuer gives it.
pub(crate) struct Signer {
    pub kid: String,
    key: Key,
}

enum Key {
    Rsa(rsa::KeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Secret(Vec<u8>),
}

/// A part of a token.
pub(crate) fn part(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

impl Signer {
    pub(crate) fn rsa(kid: &str) -> Self {
        Self { kid: kid.to_owned(), key: Key::Rsa(rsa::KeyPair::generate(rsa::KeySize::Rsa2048).expect("a key")) }
    }

    pub(crate) fn ec(kid: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        Self { kid: kid.to_owned(), key: Key::Ec(key) }
    }

    pub(crate) fn ed(kid: &str) -> Self {
        Self { kid: kid.to_owned(), key: Key::Ed(Ed25519KeyPair::generate().expect("a key")) }
    }

    pub(crate) fn secret(secret: &[u8]) -> Self {
        Self { kid: "secret".to_owned(), key: Key::Secret(secret.to_vec()) }
    }

    pub(crate) fn algorithm(&self) -> &'static str {
        match &self.key {
            Key::Rsa(_) => "RS256",
            Key::Ec(_) => "ES256",
            Key::Ed(_) => "EdDSA",
            Key::Secret(_) => "HS256",
        }
    }

    /// As its issuer publishes it.
    pub(crate) fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let public = self.public();
        let mut jwk = match &self.key {
            Key::Rsa(_) => {
                let (n, e) = modulus_and_exponent(&public);
                json!({ "kty": "RSA", "n": text(n), "e": text(e) })
            }
            Key::Ec(_) => json!({ "kty": "EC", "crv": "P-256", "x": text(&public[1..33]), "y": text(&public[33..]) }),
            Key::Ed(_) => json!({ "kty": "OKP", "crv": "Ed25519", "x": text(&public) }),
            Key::Secret(_) => panic!("a secret is not published"),
        };
        for (name, value) in [("kid", self.kid.as_str()), ("use", "sig"), ("alg", self.algorithm())] {
            jwk[name] = json!(value);
        }
        jwk
    }

    fn public(&self) -> Vec<u8> {
        match &self.key {
            Key::Rsa(key) => key.public_key().as_ref().to_vec(),
            Key::Ec(key) => key.public_key().as_ref().to_vec(),
            Key::Ed(key) => key.public_key().as_ref().to_vec(),
            Key::Secret(_) => Vec::new(),
        }
    }

    /// The bytes that a forger could take for a secret.
    pub(crate) fn public_in_every_form(&self) -> Vec<Vec<u8>> {
        let public = self.public();
        let spki = match &self.key {
            Key::Rsa(key) => key.public_key().as_der().expect("DER").as_ref().to_vec(),
            Key::Ec(key) => key.public_key().as_der().expect("DER").as_ref().to_vec(),
            Key::Ed(key) => key.public_key().as_der().expect("DER").as_ref().to_vec(),
            Key::Secret(_) => Vec::new(),
        };
        let body = base64::engine::general_purpose::STANDARD.encode(&spki);
        let lines: Vec<&str> =
            body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
        let jwk = self.jwk().to_string().into_bytes();
        vec![public, spki, pem.trim_end().as_bytes().to_vec(), pem.into_bytes(), jwk, self.kid.clone().into_bytes()]
    }

    /// A token with this key's algorithm and name in its header, unless `header` says otherwise; null leaves a member out.
    pub(crate) fn token(&self, header: Value, claims: &Value) -> String {
        let mut head = json!({ "alg": self.algorithm(), "kid": self.kid, "typ": "JWT" });
        for (name, value) in header.as_object().expect("an object") {
            head[name] = value.clone();
        }
        let without_nulls = |json: &Value| {
            let members = json.as_object().expect("an object").iter().filter(|(_, value)| !value.is_null());
            Value::Object(members.map(|(name, value)| (name.clone(), value.clone())).collect())
        };
        let message = format!("{}.{}", part(&without_nulls(&head)), part(&without_nulls(claims)));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes())))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("a signature");
                signature
            }
            Key::Ec(key) => key.sign(&random, message).expect("a signature").as_ref().to_vec(),
            Key::Ed(key) => key.sign(message).as_ref().to_vec(),
            Key::Secret(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec(),
        }
    }
}

/// From the DER of a 2048-bit key (RFC 8017, A.1.1): a sequence of two integers, the first with a leading zero.
fn modulus_and_exponent(der: &[u8]) -> (&[u8], &[u8]) {
    let (modulus, rest) = der[9..].split_at(256);
    (modulus, &rest[2..])
}
