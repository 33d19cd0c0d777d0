//! TLS of our own listener. The certificate is read again when its file changes, so that a renewed one needs no restart.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{keys, live::Live};

/// Whoever takes longer to shake hands is cut off.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// A listener's certificate and key.
#[derive(Clone)]
pub(super) struct Tls {
    files: Arc<Files>,
    current: Arc<Live<ServerConfig>>,
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
        let current = Arc::new(Live::new(files.read()?));
        Ok(Self { files: Arc::new(files), current })
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let shake = TlsAcceptor::from(self.current.get()).accept(stream);
        tokio::time::timeout(HANDSHAKE_LIMIT, shake).await.unwrap_or_else(|late| Err(late.into()))
    }

    /// Takes up new files as long as it is polled. Half-written ones are left until they are whole.
    pub(super) async fn follow_files(self) {
        let files = vec![self.files.certificates.clone(), self.files.key.clone()];
        let take = || std::future::ready(self.take().map_err(|error| error.to_string()));
        keys::follow("listener", files, take).await;
    }

    fn take(&self) -> io::Result<()> {
        self.current.replace(self.files.read()?);
        Ok(())
    }
}

impl Files {
    fn read(&self) -> io::Result<ServerConfig> {
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
        Ok(config)
    }
}
