//! The certificates of the configuration: read from their files or ordered (`acme`), exchanged while the server runs, chosen by the name
//! that a client asks for.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use fanfare::Endpoint;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::config::Config;
use crate::health::Part;

#[cfg(not(feature = "acme"))]
mod absent;
#[cfg(feature = "acme")]
mod acme;

#[cfg(not(feature = "acme"))]
use absent as acme;

#[cfg(test)]
pub(crate) use acme::COUNTED;
pub(crate) use acme::Settings as Orders;

/// How often the files are looked at: whoever renews certificates tells nobody.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What is wrong with one of the two files of a certificate.
#[derive(Debug)]
pub(crate) enum Fault {
    /// With the certificate.
    Cert(String),
    /// With the key, or with the two together.
    Key(String),
}

impl Fault {
    fn text(self) -> String {
        let (Self::Cert(text) | Self::Key(text)) = self;
        text
    }
}

/// A certificate with its key, as it is served.
#[derive(Debug)]
pub(crate) struct Served {
    /// The names of hosts that it is for.
    names: Vec<String>,
    key: Arc<CertifiedKey>,
    begins: SystemTime,
    ends: SystemTime,
}

impl Served {
    fn is_for(&self, host: &str) -> bool {
        self.names.iter().any(|name| covers(name, host))
    }
}

/// Reads both files.
///
/// # Errors
/// A file cannot be read or is not what it should be, or the key is not that of the certificate.
pub(crate) fn load(cert: &Path, key: &Path) -> Result<Served, Fault> {
    crate::file::check(cert).map_err(|error| Fault::Cert(explain(cert, &PemError::Io(error))))?;
    crate::file::check(key).map_err(|error| Fault::Key(explain(key, &PemError::Io(error))))?;
    let certs = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certs = certs.map_err(|error| Fault::Cert(explain(cert, &error)))?;
    let Some(first) = certs.first() else {
        return Err(Fault::Cert(format!("{} has no certificate in PEM form", cert.display())));
    };
    let certificate = Certificate::from_der(first);
    let certificate = certificate.map_err(|error| Fault::Cert(format!("{}: {error}", cert.display())))?;
    let (names, validity) = (names(&certificate), certificate.tbs_certificate.validity);
    let (begins, ends) = (validity.not_before.to_system_time(), validity.not_after.to_system_time());
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| Fault::Key(explain(key, &error)))?;
    let certified = CertifiedKey::from_der(certs, private, &aws_lc_rs::default_provider());
    let certified = certified.map_err(|error| match error {
        rustls::Error::InvalidCertificate(_) => Fault::Cert(format!("{}: {error}", cert.display())),
        rustls::Error::InconsistentKeys(_) => {
            Fault::Key(format!("{} is the key of another certificate than {}", key.display(), cert.display()))
        }
        _ => Fault::Key(format!("{} cannot be used as the key of {}: {error}", key.display(), cert.display())),
    })?;
    Ok(Served { names, key: Arc::new(certified), begins, ends })
}

fn names(certificate: &Certificate) -> Vec<String> {
    let Ok(Some((_, SubjectAltName(names)))) = certificate.tbs_certificate.get::<SubjectAltName>() else {
        return Vec::new();
    };
    let dns = |name: &GeneralName| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        _ => None,
    };
    names.iter().filter_map(dns).collect()
}

/// The certificates in force. Those who have connected by one keep it.
#[derive(Debug)]
pub(crate) struct Certificates {
    of_files: ArcSwap<Current>,
    ordered: Arc<acme::Ordered>,
    /// What orders them, by its settings.
    driver: Mutex<Option<acme::Driver>>,
}

#[derive(Debug)]
struct Current {
    /// With the weight that both had.
    files: Vec<(Files, u64)>,
    /// In the order of the configuration.
    served: Vec<Served>,
}

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    /// Something that changes with the content of the two; none while one of them cannot be read.
    fn weight(&self) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        for file in [&self.cert, &self.key] {
            crate::file::read(file).ok()?.hash(&mut hasher);
        }
        Some(hasher.finish())
    }
}

impl Current {
    fn load(files: Vec<Files>) -> Result<Self, String> {
        // Weighed before they are read: what is exchanged in between is found out the next time.
        let weights: Vec<_> = files.iter().map(|files| files.weight().unwrap_or_default()).collect();
        let served = files.iter().map(|files| load(&files.cert, &files.key).map_err(Fault::text));
        Ok(Self { served: served.collect::<Result<_, _>>()?, files: files.into_iter().zip(weights).collect() })
    }
}

/// Certificates that were read and can be served, and how others are ordered.
#[derive(Debug)]
pub(crate) struct Loaded {
    of_files: Current,
    orders: Option<acme::Settings>,
}

impl Certificates {
    /// Reads the files that a configuration names, if it wants TLS.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub(crate) fn read(config: &Config) -> Result<Option<Loaded>, String> {
        let Some(tls) = &config.tls else { return Ok(None) };
        let others = config.certificates.iter().map(|certificate| (&*certificate.cert, &*certificate.key));
        let files = tls.files().into_iter().chain(others);
        let files = files.map(|(cert, key)| Files { cert: cert.to_owned(), key: key.to_owned() });
        let (of_files, orders) = (Current::load(files.collect())?, config.acme.as_ref().map(acme::Settings::new));
        Ok(Some(Loaded { of_files, orders: orders.transpose()? }))
    }

    /// Serves them, and looks at their files from now on.
    pub(crate) fn start(Loaded { of_files, orders }: Loaded) -> Arc<Self> {
        let certificates = Arc::new(Self {
            of_files: ArcSwap::from_pointee(of_files),
            ordered: Arc::new(acme::Ordered::new(orders.as_ref())),
            driver: Mutex::new(orders.map(acme::Driver::resting)),
        });
        let watched = Arc::downgrade(&certificates);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let Some(certificates) = watched.upgrade() else { return };
                // A file system may stall.
                let _ = tokio::task::spawn_blocking(move || certificates.look()).await;
            }
        });
        certificates
    }

    /// Serves others to whoever connects from now on.
    pub(crate) fn replace(&self, Loaded { of_files, orders }: Loaded, endpoint: &Endpoint) {
        self.of_files.store(Arc::new(of_files));
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        if driver.as_ref().map(acme::Driver::settings) != orders.as_ref() {
            self.ordered.replace(orders.as_ref());
            let before = driver.take();
            *driver = orders.map(|settings| acme::Driver::resting(settings).running(before, &self.ordered, endpoint));
        }
    }

    /// Orders those that are to be ordered, from now on. The endpoint is what requests of a certificate authority are counted with.
    pub(crate) fn order(&self, endpoint: &Endpoint) {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        *driver = driver.take().map(|driver| driver.running(None, &self.ordered, endpoint));
    }

    /// Orders none any more: this process ends, or another does it.
    pub(crate) fn rest(&self) {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// How those stand that are ordered, if any are.
    pub(crate) fn part(&self) -> Option<Arc<dyn Part>> {
        self.ordered.is_wanted().then(|| self.ordered.clone() as Arc<dyn Part>)
    }

    /// Reads files again that have changed. What cannot be served is told, and the old ones stay in force.
    fn look(&self) {
        let current = self.of_files.load();
        if current.files.iter().all(|(files, weight)| files.weight().is_none_or(|now| now == *weight)) {
            return;
        }
        let files: Vec<Files> = current.files.iter().map(|(files, _)| files.clone()).collect();
        match Current::load(files.clone()) {
            Ok(new) => {
                self.of_files.store(Arc::new(new));
                let expires_in_days = files.iter().filter_map(|files| days_left(&files.cert)).min();
                tracing::info!(
                    expires_in_days,
                    "the certificate files have changed: clients that connect get the new ones"
                );
            }
            Err(reason) => tracing::error!(
                reason,
                "the certificate files have changed and cannot be served: the old certificates stay in force"
            ),
        }
    }

    /// When they expire, by the first name that each is for: of several, the first that does.
    pub(crate) fn ends(&self) -> BTreeMap<String, SystemTime> {
        let mut ends = BTreeMap::new();
        let (of_files, ordered) = (self.of_files.load(), self.ordered.served());
        for served in of_files.served.iter().chain(ordered.as_deref()) {
            let name = served.names.first().cloned().unwrap_or_default();
            ends.entry(name).and_modify(|end: &mut SystemTime| *end = served.ends.min(*end)).or_insert(served.ends);
        }
        ends
    }

    /// How TLS is spoken with them, and whether HTTP/2 is.
    ///
    /// # Errors
    /// The library cannot do what we ask of it.
    pub(crate) fn config(self: &Arc<Self>, http2: bool) -> Result<ServerConfig, String> {
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.clone());
        let http2 = http2.then(|| b"h2".to_vec());
        config.alpn_protocols = http2.into_iter().chain([b"http/1.1".to_vec(), acme::ALPN.to_vec()]).collect();
        Ok(config)
    }
}

impl ResolvesServerCert for Certificates {
    /// The first that is for the name, or else the first; for a certificate authority what shows that the name is ours.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().map(str::to_ascii_lowercase);
        if hello.alpn().is_some_and(|mut protocols| protocols.next() == Some(acme::ALPN) && protocols.next().is_none())
        {
            return self.ordered.proof(&asked?);
        }
        let (of_files, ordered) = (self.of_files.load(), self.ordered.served());
        let all = || of_files.served.iter().chain(ordered.as_deref());
        let is_for = |served: &&Served| asked.as_ref().is_some_and(|asked| served.is_for(asked));
        all().find(is_for).or(all().next()).map(|served| served.key.clone())
    }
}

/// Whether a name of a certificate, perhaps `*.example.com`, is that of a host. A star stands for one label.
fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(domain) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == domain),
        None => name == host,
    }
}

/// When the first certificate of a file expires, if it can be read.
pub(crate) fn not_after(cert: &Path) -> Option<SystemTime> {
    let first = CertificateDer::pem_file_iter(cert).ok()?.next()?.ok()?;
    let certificate = Certificate::from_der(&first).ok()?;
    Some(certificate.tbs_certificate.validity.not_after.to_system_time())
}

fn days_left(cert: &Path) -> Option<u64> {
    let left = not_after(cert)?.duration_since(SystemTime::now()).ok()?;
    Some(left.as_secs() / 86_400)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        for (name, host, expected) in [
            ("example.com", "example.com", true),
            ("example.com", "www.example.com", false),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "a.www.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
        ] {
            assert_eq!(covers(name, host), expected, "{name} {host}");
        }
    }

    #[test]
    fn files_that_have_changed_are_served_and_wrong_ones_are_not() {
        let dir =
            std::env::temp_dir().join(format!("fanfare-tls-{}-{:x}", std::process::id(), getrandom::u64().unwrap()));
        std::fs::create_dir(&dir).unwrap();
        let files = Files { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
        let write = || {
            let made = rcgen::generate_simple_self_signed(["example.com".to_owned()]).unwrap();
            std::fs::write(&files.cert, made.cert.pem()).unwrap();
            std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
            made.cert.der().to_vec()
        };
        let first = write();
        let of_files = ArcSwap::from_pointee(Current::load(vec![files.clone()]).unwrap());
        let certificates =
            Certificates { of_files, ordered: Arc::new(acme::Ordered::new(None)), driver: Mutex::default() };
        let served = || certificates.of_files.load().served[0].key.cert[0].to_vec();
        assert_eq!(served(), first);
        certificates.look();
        assert_eq!(served(), first);
        let second = write();
        certificates.look();
        assert_eq!(served(), second);
        // As while one of the two is renewed before the other.
        let other = rcgen::generate_simple_self_signed(["example.com".to_owned()]).unwrap();
        std::fs::write(&files.cert, other.cert.pem()).unwrap();
        certificates.look();
        assert_eq!(served(), second, "its key is not this one");
        std::fs::write(&files.key, other.signing_key.serialize_pem()).unwrap();
        certificates.look();
        assert_eq!(served(), other.cert.der().to_vec());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
