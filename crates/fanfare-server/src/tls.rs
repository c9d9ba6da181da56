//! The certificate and key of the configuration.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// What is wrong with one of the two files.
#[derive(Debug)]
pub(crate) enum Fault {
    /// With the certificate.
    Cert(String),
    /// With the key, or with the two together.
    Key(String),
}

/// Reads both files.
///
/// # Errors
/// A file cannot be read or is not what it should be, or the key is not that of the certificate.
pub(crate) fn load(cert: &Path, key: &Path) -> Result<ServerConfig, Fault> {
    let certs = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certs = certs.map_err(|error| Fault::Cert(explain(cert, &error)))?;
    if certs.is_empty() {
        return Err(Fault::Cert(format!("{} has no certificate in PEM form", cert.display())));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| Fault::Key(explain(key, &error)))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| Fault::Key(error.to_string()))?;
    let config = builder.with_no_client_auth().with_single_cert(certs, private);
    let mut config = config.map_err(|error| match error {
        rustls::Error::InvalidCertificate(_) => Fault::Cert(format!("{}: {error}", cert.display())),
        _ => Fault::Key(format!("{} is not the key of {}: {error}", key.display(), cert.display())),
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// When the first certificate of a file expires, if it can be read.
pub(crate) fn not_after(cert: &Path) -> Option<SystemTime> {
    let first = CertificateDer::pem_file_iter(cert).ok()?.next()?.ok()?;
    let certificate = Certificate::from_der(&first).ok()?;
    Some(certificate.tbs_certificate.validity.not_after.to_system_time())
}

fn explain(file: &Path, error: &PemError) -> String {
    let is_encrypted = || std::fs::read_to_string(file).is_ok_and(|text| text.contains("ENCRYPTED"));
    match error {
        PemError::NoItemsFound if is_encrypted() => format!(
            "{} is encrypted with a passphrase, which nobody could type at the start: \
             write it without, by `openssl pkey -in {} -out key.pem`",
            file.display(),
            file.display()
        ),
        PemError::Io(error) => format!("cannot read {}: {error}", file.display()),
        PemError::NoItemsFound => format!("{} has no private key in PEM form", file.display()),
        // The parser's own text may quote the file.
        _ => format!("{} is not a PEM file", file.display()),
    }
}
