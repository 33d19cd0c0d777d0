//! The certificates that a server's URL names, spelled as in RabbitMQ's own URIs: `cacertfile` (whom to trust beside the
//! system's authorities), `certfile` and `keyfile` (who we are, where the server asks). All PEM. For RabbitMQ and Redis;
//! PostgreSQL's URLs have words of their own (`sslmode`, `sslrootcert`, `sslcert`, `sslkey`).

use std::{fs, path::Path};

use url::Url;

/// A server's URL without what only we understand, and the files that it named, read.
pub struct Secured {
    /// Holds the password.
    pub url: Url,
    /// PEM.
    pub ca: Option<Vec<u8>>,
    pub client: Option<Identity>,
}

/// A client's own certificate chain and its key, PEM.
pub struct Identity {
    pub certificates: Vec<u8>,
    pub key: Vec<u8>,
}

/// What is wrong with such a URL; never quotes it.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    #[error("is no URL: {0}")]
    Url(#[from] url::ParseError),
    #[error("names the {0} {1}, which cannot be read: {2}")]
    File(&'static str, String, std::io::Error),
    #[error("names only one of certfile and keyfile")]
    HalfAnIdentity,
    #[error("names certificates, but its scheme is not that of TLS")]
    Plain,
}

impl Secured {
    /// Reads the files that the URL names.
    ///
    /// # Errors
    /// The URL or one of the files cannot be read.
    pub fn parse(text: &str) -> Result<Self, TlsFault> {
        let mut url = Url::parse(text)?;
        let (mut ca, mut certificates, mut key, mut rest) = (None, None, None, Vec::new());
        for (name, value) in url.query_pairs() {
            match name.as_ref() {
                "cacertfile" => ca = Some(read("cacertfile", &value)?),
                "certfile" => certificates = Some(read("certfile", &value)?),
                "keyfile" => key = Some(read("keyfile", &value)?),
                _ => rest.push((name.into_owned(), value.into_owned())),
            }
        }
        let client = match (certificates, key) {
            (Some(certificates), Some(key)) => Some(Identity { certificates, key }),
            (None, None) => None,
            _ => return Err(TlsFault::HalfAnIdentity),
        };
        if (ca.is_some() || client.is_some()) && !matches!(url.scheme(), "amqps" | "rediss") {
            return Err(TlsFault::Plain);
        }
        url.set_query(None);
        if !rest.is_empty() {
            url.query_pairs_mut().extend_pairs(rest);
        }
        Ok(Self { url, ca, client })
    }
}

fn read(what: &'static str, path: &str) -> Result<Vec<u8>, TlsFault> {
    fs::read(Path::new(path)).map_err(|error| TlsFault::File(what, path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_understand_stays_in_the_url() {
        let Secured { url, ca, client } = Secured::parse("amqps://a:b%2F@h:5671/v?heartbeat=3").unwrap();
        assert_eq!(url.as_str(), "amqps://a:b%2F@h:5671/v?heartbeat=3");
        assert!(ca.is_none() && client.is_none());
    }

    #[test]
    fn what_is_wrong_is_told_without_the_password() {
        let wrong = [
            ("amqps://u:secret@h/v?cacertfile=/not/there.pem", "names the cacertfile /not/there.pem"),
            ("rediss://u:secret@h/0?certfile=/dev/null", "names only one of certfile and keyfile"),
            ("amqp://u:secret@h/v?cacertfile=/dev/null", "its scheme is not that of TLS"),
            ("secret", "is no URL"),
        ];
        for (url, words) in wrong {
            let fault = Secured::parse(url).err().expect(url).to_string();
            assert!(fault.contains(words) && !fault.contains("secret"), "{fault}");
        }
    }
}
