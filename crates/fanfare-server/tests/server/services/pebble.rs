//! A certificate authority that speaks ACME, with names of its own: Pebble, to which every name leads to this machine.

use std::net::TcpListener;
use std::process::Command;

use serde_json::{Value, json};

use super::process::{Folder, Service};

/// Where it looks whose a domain is, and what it asks.
pub(crate) struct Settings {
    pub(crate) tls_port: u16,
    pub(crate) http_port: u16,
    /// The key of the external account `kid-1`, in base64url, where accounts have to be bound.
    pub(crate) eab_key: Option<&'static str>,
    /// Of a hundred times that it has seen whose a domain is, so often it does not look again.
    pub(crate) reuse_percent: u32,
}

/// A running authority.
pub(crate) struct Pebble {
    service: Service,
    _names: Service,
}

impl Pebble {
    /// One that listens on this port, or on any.
    pub(crate) fn start(settings: &Settings) -> Self {
        let names = Service::start(|folder| drop(folder.write("port", &free_port().to_string())), names);
        let dns = std::fs::read_to_string(names.folder.path("port")).unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let prepare = |folder: &Folder| {
            folder.write("certificate.pem", &made.cert.pem());
            folder.write("key.pem", &made.signing_key.serialize_pem());
            let binding = settings.eab_key.map(|key| json!({ "kid-1": key }));
            let config = json!({
                "managementListenAddress": "",
                "certificate": folder.path("certificate.pem"),
                "privateKey": folder.path("key.pem"),
                "httpPort": settings.http_port,
                "tlsPort": settings.tls_port,
                "externalAccountBindingRequired": binding.is_some(),
                "externalAccountMACKeys": binding,
                "certificateValidityPeriod": 90 * 86_400,
            });
            folder.write("settings.json", &config.to_string());
            folder.write("environment", &format!("{dns} {}", settings.reuse_percent));
        };
        Self { service: Service::start(prepare, authority), _names: names }
    }

    /// Its directory, as Pebble writes it.
    pub(crate) fn directory(&self) -> Value {
        let at = |path: &str| format!("https://127.0.0.1:{}/{path}", self.service.port);
        json!({ "newNonce": at("nonce-plz"), "newAccount": at("sign-me-up"), "newOrder": at("order-plz"), "revokeCert": at("revoke-cert") })
    }

    /// The address of the directory.
    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.service.port)
    }

    /// The file by which it is known.
    pub(crate) fn certificate(&self) -> std::path::PathBuf {
        self.service.folder.path("certificate.pem")
    }
}

/// A port that nobody has.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn names(folder: &Folder, port: u16) -> Command {
    let dns = std::fs::read_to_string(folder.path("port")).unwrap();
    let mut command = Command::new("pebble-challtestsrv");
    command.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]);
    command.args(["-dns01", &format!("127.0.0.1:{dns}"), "-management", &format!("127.0.0.1:{port}")]);
    command
}

fn authority(folder: &Folder, port: u16) -> Command {
    let read = |name| std::fs::read_to_string(folder.path(name)).unwrap();
    let mut settings: Value = serde_json::from_str(&read("settings.json")).unwrap();
    settings["listenAddress"] = format!("127.0.0.1:{port}").into();
    let config = folder.write("pebble.json", &json!({ "pebble": settings }).to_string());
    let (environment, mut command) = (read("environment"), Command::new("pebble"));
    let (dns, reuse) = environment.split_once(' ').unwrap();
    command.arg("-config").arg(config).args(["-dnsserver", &format!("127.0.0.1:{dns}")]);
    command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", reuse);
    command
}
