//! Which certificates a client takes when the URL is `wss://`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

const NEXT: &str = "give a PEM file with --ca, or --insecure to take any certificate";

/// Which certificates of a server are taken.
#[derive(Args, Clone, Debug, Default)]
pub struct Trust {
    /// Accept any certificate of the server
    #[arg(long, help_heading = "TLS")]
    insecure: bool,
    /// Certificates to trust, a PEM file [default: those of the system, or of SSL_CERT_FILE]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure", help_heading = "TLS")]
    ca: Option<PathBuf>,
}

impl Trust {
    /// The configuration of a client.
    ///
    /// # Errors
    /// A file that cannot be read, or has no certificate in it; a system that trusts none.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let config = match (self.insecure, &self.ca) {
            (true, _) => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))),
            (false, Some(file)) => builder.with_root_certificates(roots_of(file)?),
            (false, None) => builder.with_root_certificates(roots_of_system()?),
        };
        Ok(Arc::new(config.with_no_client_auth()))
    }
}

fn roots_of(file: &Path) -> Result<RootCertStore, String> {
    let shown = file.display();
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| format!("cannot read certificates from {shown}: {error}; {NEXT}"))?;
    store(certificates).ok_or_else(|| format!("{shown} has no certificate in it; {NEXT}"))
}

fn roots_of_system() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    store(found.certs).ok_or_else(|| format!("found no certificates to trust on this machine; {NEXT}"))
}

/// Those that can be read; `None` if there are none.
fn store(certificates: Vec<CertificateDer<'static>>) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    (roots.add_parsable_certificates(certificates).0 > 0).then_some(roots)
}

/// Takes every certificate, for servers with one of their own making.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
