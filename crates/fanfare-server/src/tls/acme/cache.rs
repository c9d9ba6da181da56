//! What is kept of orders, in a folder that nodes may share: the account with the authority, the certificate, and what shows that its
//! domains are ours, as long as somebody looks.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use instant_acme::AccountCredentials;
use serde::{Deserialize, Serialize};

use super::super::{Fault, Served, load};
use super::Settings;

/// The file of a certificate and its key, in the folder of its domains.
const CERTIFICATE: &str = "certificate.pem";

/// No refusal counts for longer: twice what an authority may ask for is more than any wait.
const REFUSED_MAX: Duration = Duration::from_secs(14 * 86_400);

/// What is kept for some domains of one authority.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    domains: Vec<String>,
    /// Of all who share it.
    root: PathBuf,
    account: PathBuf,
    /// Of these domains.
    folder: PathBuf,
}

/// Whom the authority knows, and by which key.
#[derive(Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) contact: Vec<String>,
    pub(super) credentials: AccountCredentials,
}

/// That the authority has refused, and when it may be asked again.
#[derive(Serialize, Deserialize)]
pub(super) struct Refusal {
    /// In seconds since 1970.
    until_s: u64,
    /// How often it has refused, one time after the other.
    pub(super) times: u32,
    pub(super) reason: String,
    /// What it may have been about.
    terms: String,
}

impl Refusal {
    pub(super) fn new(wait: Duration, times: u32, reason: &str, terms: String) -> Self {
        let until_s = now_s().saturating_add(wait.as_secs());
        Self { until_s, times, reason: reason.to_owned(), terms }
    }

    /// For how long it is not asked.
    pub(super) fn left(&self) -> Duration {
        // A clock that was set back must not make it longer than it can have been.
        Duration::from_secs(self.until_s.saturating_sub(now_s())).min(REFUSED_MAX)
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Cache {
    pub(super) fn new(settings: &Settings) -> Self {
        let Settings { domains, directory, cache_dir, .. } = settings;
        let mut sorted = domains.clone();
        sorted.sort();
        let first = domains.first().map_or("", String::as_str);
        let account = cache_dir.join(format!("account-{}.json", short(directory)));
        let folder = cache_dir.join(format!("{first}-{}", short(&format!("{directory} {}", sorted.join(" ")))));
        Self { domains: domains.clone(), root: cache_dir.clone(), account, folder }
    }

    /// Keeps other nodes from ordering what this one does, until the file is closed; `None` while another does.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub(super) fn lock(&self) -> Result<Option<File>, String> {
        for folder in [&self.folder, &self.proofs()] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|error| format!("cannot make the folder {}: {error}", folder.display()))?;
        }
        let path = self.root.join("lock");
        let told = |error: std::io::Error| format!("cannot lock {}: {error}", path.display());
        let file = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(&path).map_err(told)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(told(error)),
        }
    }

    /// The account, if there is one.
    ///
    /// # Errors
    /// The file cannot be read, or is none of ours.
    pub(super) fn account(&self) -> Result<Option<Account>, String> {
        let Some(bytes) = read(&self.account)? else { return Ok(None) };
        let account = serde_json::from_slice(&bytes);
        // The parser's own text may quote the key.
        let told =
            |_| format!("{} is not what was written there; remove it to make a new account", self.account.display());
        account.map(Some).map_err(told)
    }

    /// # Errors
    /// It cannot be written.
    pub(super) fn keep_account(&self, account: &Account) -> Result<(), String> {
        let text = serde_json::to_vec(account).map_err(|error| error.to_string())?;
        write(&self.account, &text)
    }

    /// Forgets one that the authority does not know.
    pub(super) fn forget_account(&self) {
        let _ = std::fs::remove_file(&self.account);
    }

    /// The file of the certificate, if there is one.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn certificate_bytes(&self) -> Result<Option<Vec<u8>>, String> {
        read(&self.certificate_path())
    }

    /// The certificate with its key.
    ///
    /// # Errors
    /// It cannot be served.
    pub(super) fn certificate(&self) -> Result<Served, String> {
        let path = self.certificate_path();
        load(&path, &path).map_err(|fault| format!("{}; remove it to order another", Fault::text(fault)))
    }

    /// Keeps one: its key, the certificate and those between it and the root, in PEM form.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn keep_certificate(&self, pem: &str) -> Result<(), String> {
        write(&self.certificate_path(), pem.as_bytes())
    }

    /// What the authority has refused lately, on these terms.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn refusal(&self, terms: &str) -> Result<Option<Refusal>, String> {
        let Some(bytes) = read(&self.refusal_path())? else { return Ok(None) };
        let refusal: Option<Refusal> = serde_json::from_slice(&bytes).ok();
        Ok(refusal.filter(|refusal| refusal.terms == terms))
    }

    /// # Errors
    /// It cannot be written.
    pub(super) fn keep_refusal(&self, refusal: &Refusal) -> Result<(), String> {
        let text = serde_json::to_vec(refusal).map_err(|error| error.to_string())?;
        write(&self.refusal_path(), &text)
    }

    pub(super) fn forget_refusal(&self) {
        let _ = std::fs::remove_file(self.refusal_path());
    }

    pub(super) fn refusal_path(&self) -> PathBuf {
        self.folder.join("refused.json")
    }

    /// Where the certificate for these domains is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// All others that were ordered and can be served, with the folders where they are.
    pub(super) fn others(&self) -> Vec<(PathBuf, Served)> {
        let Ok(found) = std::fs::read_dir(&self.root) else { return Vec::new() };
        let folders = found.flatten().map(|entry| entry.path()).filter(|folder| *folder != self.folder);
        let with_certificate = |folder: PathBuf| {
            let path = folder.join(CERTIFICATE);
            load(&path, &path).ok().map(|served| (folder, served))
        };
        folders.filter_map(with_certificate).collect()
    }

    /// What makes one certificate better than another: for how many of the domains it is, and since when.
    pub(super) fn rank(&self, served: &Served) -> (usize, SystemTime) {
        (self.covered(served), served.begins)
    }

    /// For how many of the domains a certificate is; for none if it has expired.
    pub(super) fn covered(&self, served: &Served) -> usize {
        if served.ends <= SystemTime::now() { 0 } else { self.domains.len() - self.uncovered(served).len() }
    }

    /// The domains that a certificate is not for.
    pub(super) fn uncovered(&self, served: &Served) -> Vec<&str> {
        self.domains.iter().map(String::as_str).filter(|domain| !served.is_for(domain)).collect()
    }

    fn certificate_path(&self) -> PathBuf {
        self.folder.join(CERTIFICATE)
    }

    fn proofs(&self) -> PathBuf {
        self.folder.join("challenges")
    }

    /// What shows that a domain is ours, if one of the nodes has been asked for it.
    pub(super) fn proof(&self, domain: &str) -> Option<String> {
        // Nothing else becomes a part of a path.
        let domain = self.domains.iter().find(|own| *own == domain)?;
        std::fs::read_to_string(self.proofs().join(domain)).ok()
    }

    /// Has all nodes show it.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn keep_proof(&self, domain: &str, proof: &str) -> Result<(), String> {
        write(&self.proofs().join(domain), proof.as_bytes())
    }

    /// Shows nothing any more.
    pub(super) fn forget_proofs(&self) {
        for domain in &self.domains {
            let _ = std::fs::remove_file(self.proofs().join(domain));
        }
    }
}

/// Something short for a long text, the same in every version.
pub(super) fn short(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

/// Writes a file that nobody else can read, whole or not at all.
fn write(path: &Path, content: &[u8]) -> Result<(), String> {
    let new = path.with_extension("new");
    let written = || {
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    written().map_err(|error| format!("cannot write {}: {error}", path.display()))
}
