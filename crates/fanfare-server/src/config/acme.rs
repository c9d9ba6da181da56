//! `[tls.acme]`: certificates that are ordered from a certificate authority, and renewed.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::problem::Problems;
use super::secret::{self, Secret};
use super::section::{Form, section};
use super::url::Url;
use super::value::{Address, Directory, OneOrMore, Text, choice};

/// How many names one certificate may have: what the largest certificate authorities allow.
const DOMAINS_MAX: usize = 100;

section! {
    /// Present: the server orders its certificate from a certificate authority that speaks ACME (RFC 8555), such as Let's Encrypt, renews
    /// it in time and exchanges it without a restart. The authority connects to each domain to see that it is this server's. Certificates
    /// from files can be given beside it, and come first. See [deploy.md](deploy.md#certificates-by-acme).
    struct Acme: "tls.acme", Form::Table => Once;
    keys {
        /// The names that the certificate is for, at most 100 of them. Each has to lead to this server.
        domains: OneOrMore<Domain> = "" => Once,
        /// Whom the authority may write to when something is wrong, such as `"admin@example.com"`.
        contact: Option<OneOrMore<Contact>> = "" => Once,
        /// The address of the authority's directory. To try a configuration, take one that is for that:
        /// `https://acme-staging-v02.api.letsencrypt.org/directory`.
        directory: Url = "\"https://acme-v02.api.letsencrypt.org/directory\"" => Once,
        /// The folder where the account, the certificate and their keys are kept, which nobody else can read. It is made if there is none.
        /// Nodes that share it order one certificate for all. What the authority has refused is remembered there, so that a restart does not ask
        /// again before it is time.
        cache_dir: Directory = "" => Once,
        /// How the authority finds out that a domain is this server's: `tls-alpn-01` by a TLS connection to port 443, which has to reach
        /// `listen`; `http-01` by a request to port 80, which has to reach `http_listen`.
        challenge: Challenge = "\"tls-alpn-01\"" => Once,
        /// For `http-01`: the address where its requests are answered. Nothing else is.
        http_listen: Address = "\"0.0.0.0:80\"" => Once,
        /// Whether you agree to the authority's terms of service. It takes `true`.
        accept_terms: bool = "false" => Once,
        /// The name of your account with an authority that asks for one (external account binding). It counts when the account with the
        /// authority is made.
        eab_kid: Option<String> = "" => Once,
        /// The environment variable that holds the key of that account, in base64url as the authority gives it.
        eab_key_env: Option<String> = "" => Once,
        /// The file that holds it.
        eab_key_file: Option<PathBuf> = "" => Once,
        /// The key itself. Better kept out of the file: see the two keys above.
        eab_key: Option<Secret> = "" => Once,
    }
    later []
}

choice! {
    /// How an authority finds out whose a domain is.
    pub(crate) enum Challenge {
        /// RFC 8737.
        TlsAlpn = "tls-alpn-01",
        /// RFC 8555, 8.3.
        Http = "http-01",
    } later ["dns-01"]
}

impl Acme {
    /// Checks what concerns more than one key.
    pub(super) fn check(&self, problems: &mut Problems) {
        let mut problem = |key: &str, text: String| self.places.problem(problems, key, text);
        let host = self.directory.0.host().unwrap_or_default();
        if !self.accept_terms {
            let text = format!(
                "must be true: the certificate authority ({host}) gives certificates to those who agree to its terms of service, \
                 which its directory names"
            );
            problem("accept_terms", text);
        }
        let OneOrMore(domains) = &self.domains;
        if domains.len() > DOMAINS_MAX {
            let text =
                format!("{} names are too many for one certificate, which has at most {DOMAINS_MAX}", domains.len());
            problem("domains", text);
        }
        let mut known = HashSet::new();
        for Domain(domain) in domains.iter().filter(|domain| !known.insert(*domain)) {
            problem("domains", format!("{domain} stands there twice; leave one of them out"));
        }
        if !self.directory.is_private() {
            let text = "is an http:// address of another machine: whoever is on the way could have certificates made for others; \
                        take https://";
            problem("directory", text.to_owned());
        }
        if self.challenge != Challenge::Http && self.places.is_given("http_listen") {
            problem("http_listen", "has no effect with challenge = \"tls-alpn-01\"; remove it".to_owned());
        }
        match (&self.eab_kid, secret::is_given("eab_key", &self.places)) {
            (Some(_), false) => {
                problem(
                    "eab_kid",
                    "needs the key that belongs to it: give eab_key_env, eab_key_file or eab_key".to_owned(),
                );
            }
            (None, true) => {
                let text = "is missing: it takes the name that the certificate authority has given with the key";
                problem("eab_kid", text.to_owned());
            }
            _ => {}
        }
    }

    /// Ports that the authority does not connect to, where `listen` is what the listener for clients has.
    pub(super) fn warn(&self, listen: u16, warnings: &mut Vec<String>) {
        let (port, wanted, key) = match self.challenge {
            Challenge::TlsAlpn => (listen, 443, "listen"),
            Challenge::Http => (self.http_listen.0.port(), 80, "tls.acme.http_listen"),
        };
        if port != wanted {
            warnings.push(format!(
                "tls.acme: the certificate authority connects to port {wanted} of each domain, and `{key}` has port {port}: something has \
                 to forward the one to the other"
            ));
        }
    }
}

/// The name of a host, in small letters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Domain(pub(crate) String);

impl Text for Domain {
    fn accepts() -> String {
        r#"the name of a host such as "chat.example.com""#.into()
    }
}

impl FromStr for Domain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const CHARS_MAX: usize = 253;
        if text.parse::<IpAddr>().is_ok() {
            return Err("it is an address; a certificate is for names, so give the name that leads to it".into());
        }
        if text.starts_with("*.") {
            return Err(
                "only the challenge dns-01, which is not supported, shows whose all names below a domain are: \
                        list the names, or give such a certificate as files"
                    .into(),
            );
        }
        if text.contains("://") || text.contains(['/', ':']) {
            return Err("it takes a name alone, without a scheme, port or path".into());
        }
        if !text.is_ascii() {
            return Err("it takes the form in ASCII, which begins with \"xn--\"".into());
        }
        let is_label = |label: &str| {
            let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            (1..=63).contains(&label.len())
                && label.bytes().all(is_inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_name = text.len() <= CHARS_MAX && text.split('.').all(is_label);
        if is_name { Ok(Self(text.to_ascii_lowercase())) } else { Err(String::new()) }
    }
}

/// Somebody to write to, as a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contact(pub(crate) String);

impl Text for Contact {
    fn accepts() -> String {
        r#"an e-mail address such as "admin@example.com""#.into()
    }
}

impl FromStr for Contact {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.strip_prefix("mailto:").unwrap_or(text);
        let is_address = address.split_once('@').is_some_and(|(user, host)| {
            !user.is_empty() && host.parse::<Domain>().is_ok() && !user.contains([' ', ',', '?', ':', '/'])
        });
        if is_address { Ok(Self(format!("mailto:{address}"))) } else { Err(String::new()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_names_of_hosts() {
        /// What is said of it, or the name.
        #[track_caller]
        fn check(text: &str, expected: Result<&str, &str>) {
            match (text.parse::<Domain>(), expected) {
                (Ok(Domain(name)), Ok(expected)) => assert_eq!(name, expected),
                (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
                (parsed, _) => panic!("{text}: {parsed:?}"),
            }
        }
        check("Chat.Example.com", Ok("chat.example.com"));
        check("localhost", Ok("localhost"));
        check("xn--bcher-kva.example", Ok("xn--bcher-kva.example"));
        check("192.0.2.1", Err("it is an address"));
        check("::1", Err("it is an address"));
        check("*.example.com", Err("dns-01"));
        check("https://example.com", Err("a name alone"));
        check("example.com:443", Err("a name alone"));
        check("bücher.example", Err("ASCII"));
        for wrong in ["", ".", "a..b", "-a.example", "a-.example", "a b.example", "a_b.example", "example.com."] {
            check(wrong, Err(""));
        }
        check(&format!("{}.example", "a".repeat(64)), Err(""));
        check(&["a"; 128].join("."), Err(""));
    }

    #[test]
    fn contacts_are_e_mail_addresses() {
        for text in ["admin@example.com", "mailto:admin@example.com"] {
            assert_eq!(text.parse::<Contact>().unwrap().0, "mailto:admin@example.com");
        }
        for wrong in ["", "admin", "@example.com", "tel:+12", "a@b@c", "a b@example.com", "a,b@example.com"] {
            assert!(wrong.parse::<Contact>().is_err(), "{wrong}");
        }
    }
}
