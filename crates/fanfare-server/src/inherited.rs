//! Listeners that were open before this process began: those of a socket unit of systemd, or of the process that this one takes over from.
//!
//! Both give them by the same protocol: descriptors from 3 on, `LISTEN_FDS` of them, named by `LISTEN_FDNAMES`.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

use crate::config::Config;

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Clients,
    Admin,
    Metrics,
}

impl Role {
    /// In the order of listeners without a name.
    const ALL: [Self; 3] = [Self::Clients, Self::Admin, Self::Metrics];

    /// What it is called in `LISTEN_FDNAMES`, which is `FileDescriptorName=` of a socket unit.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }

    /// The address by the configuration, and the key that has it.
    fn configured(self, config: &Config) -> Option<(SocketAddr, &'static str)> {
        match self {
            Self::Clients => Some((config.server.listen.0, "listen")),
            Self::Admin => config.admin.as_ref().map(|admin| (admin.listen.0, "admin.listen")),
            Self::Metrics => config.metrics.as_ref().map(|metrics| (metrics.listen.0, "metrics.listen")),
        }
    }
}

/// The listeners that were given to this process.
#[derive(Debug, Default)]
pub(crate) struct Inherited(BTreeMap<Role, TcpListener>);

impl Inherited {
    /// Takes those that there are. It is called once, and before there are threads: it changes the environment.
    ///
    /// # Errors
    /// One of them is none, or nobody knows what it is for.
    pub(crate) fn take() -> Result<Self, String> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut given = ListenFd::from_env();
        let mut listeners = BTreeMap::new();
        for index in 0..given.len() {
            let which = format!("listener {} of the {} that this process was given", index + 1, given.len());
            let listener =
                given.take_tcp_listener(index).map_err(|error| format!("{which}: {error}; give a TCP socket"))?;
            let name = names.split(':').nth(index).unwrap_or_default();
            let named = Role::ALL.into_iter().find(|role| role.name() == name);
            let Some(role) = named.or(Role::ALL.get(index).copied()) else {
                return Err(format!(
                    "{which} is for nothing: name them clients, admin and metrics (FileDescriptorName=)"
                ));
            };
            let known = listener.and_then(|listener| listeners.insert(role, listener));
            if known.is_some() {
                let name = role.name();
                return Err(format!("{which} is the second for {name}: give one; [::] is for IPv4 and IPv6"));
            }
        }
        Ok(Self(listeners))
    }

    /// The one for this, if there is one.
    pub(crate) fn remove(&mut self, role: Role) -> Option<TcpListener> {
        self.0.remove(&role)
    }

    /// What the configuration says of the addresses of those that there are, and they do not.
    pub(crate) fn differences(&self, config: &Config) -> Vec<String> {
        let difference = |(role, listener): (&Role, &TcpListener)| {
            let ((configured, key), given) = (role.configured(config)?, listener.local_addr().ok()?);
            let is_same = configured.ip() == given.ip() && [0, given.port()].contains(&configured.port());
            (!is_same).then(|| format!("{key} is {configured}, and the listener for it is on {given}"))
        };
        self.0.iter().filter_map(difference).collect()
    }
}
