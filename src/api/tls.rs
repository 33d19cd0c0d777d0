//! TLS of our own listener. The certificate is read again when its file changes, so that a renewed one needs no restart.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Whoever takes longer to shake hands is cut off.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A listener's certificate and key.
#[derive(Clone)]
pub(super) struct Tls {
    files: Arc<Files>,
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

struct Files {
    certificates: PathBuf,
    key: PathBuf,
}

impl Tls {
    /// # Errors
    /// A file cannot be read, or they do not belong together.
    pub(super) fn load(certificates: PathBuf, key: PathBuf) -> io::Result<Self> {
        let files = Files { certificates, key };
        let current = Arc::new(RwLock::new(files.read()?));
        Ok(Self { files: Arc::new(files), current })
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let shake = TlsAcceptor::from(current).accept(stream);
        tokio::time::timeout(HANDSHAKE_LIMIT, shake).await.unwrap_or_else(|late| Err(late.into()))
    }

    /// Takes up new files as long as it is polled. Half-written ones are left until they are whole.
    pub(super) async fn follow_files(self) {
        let mut seen = self.files.changed();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.files.changed();
            if now == seen {
                continue;
            }
            match self.files.read() {
                Ok(fresh) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                    seen = now;
                    tracing::info!("the listener's certificate was replaced");
                }
                Err(error) => tracing::error!(%error, "the listener keeps its old certificate"),
            }
        }
    }
}

impl Files {
    fn changed(&self) -> [Option<SystemTime>; 2] {
        [&self.certificates, &self.key].map(|file| fs::metadata(file).and_then(|found| found.modified()).ok())
    }

    fn read(&self) -> io::Result<Arc<ServerConfig>> {
        let unusable =
            |what: &str, error: String| io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {error}"));
        let certificates = CertificateDer::pem_file_iter(&self.certificates)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unusable("api.certificate_file", error.to_string()))?;
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|error| unusable("api.key_file", error.to_string()))?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(|error| unusable("api.certificate_file", error.to_string()))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
