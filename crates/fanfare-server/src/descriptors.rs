//! File descriptors: how many the process may have, and who may have them.
//!
//! Every connection takes one. Clients could take all, and then nobody could ask what is wrong; so some are kept for the admin
//! listener, and some for files, databases and requests of the server's own.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// So many are kept for the server's own needs, if it may have as many.
const OWN: u64 = 128;

/// How many the process may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// Now.
    soft: u64,
    /// At most, without other rights.
    hard: u64,
}

/// Who may have how many connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) clients: u64,
    /// Of the admin listener and that of metrics together.
    pub(crate) admin: u64,
}

impl Descriptors {
    /// What the system allows. One that does not tell sets no limit.
    pub(crate) fn allowed() -> Self {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((u64::MAX, u64::MAX));
        Self { soft, hard }
    }

    /// Takes as many as the system allows, and says how many these are and for whom.
    pub(crate) fn raise(self, connections_max: u64, admin_max: u64) -> Shares {
        let raised = setrlimit(Resource::RLIMIT_NOFILE, self.hard, self.hard).is_ok();
        let limit = if raised { self.hard } else { self.soft };
        let shares = Shares::of(limit, connections_max, admin_max);
        let Shares { clients, admin } = shares;
        let soft = self.soft;
        if clients < connections_max {
            let why = "more clients than this would be too many open files; the limit of the process is raised with ulimit -Hn or LimitNOFILE=";
            tracing::info!(limit, soft, clients, admin, "{why}");
        } else {
            tracing::info!(limit, soft, clients, admin, "open files, and connections that they are enough for");
        }
        shares
    }

    /// Who may have how many connections of those that there can be now.
    pub(crate) fn shares(self, connections_max: u64, admin_max: u64) -> Shares {
        Shares::of(self.soft, connections_max, admin_max)
    }

    /// What to say where more connections are asked for than there can be.
    pub(crate) fn warning(self, connections_max: u64, admin_max: u64) -> Option<String> {
        let clients = Shares::of(self.hard, connections_max, admin_max).clients;
        (clients < connections_max).then(|| {
            format!(
                "limits.connections_max is {connections_max}, but this process may have {} open files, which leaves {clients} for \
                 clients: raise the limit (`ulimit -Hn`, LimitNOFILE= of systemd, --ulimit nofile= of Docker), or lower connections_max",
                self.hard
            )
        })
    }
}

impl Shares {
    fn of(limit: u64, connections_max: u64, admin_max: u64) -> Self {
        let quarter = limit / 4;
        let admin = admin_max.min(quarter);
        Self { clients: connections_max.min(limit - admin - OWN.min(quarter)).max(1), admin: admin.max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_is_left() {
        for (limit, clients, admin) in [
            (u64::MAX, 1_000_000, 256),
            (1_048_576, 1_000_000, 256),
            (65_536, 65_152, 256),
            (1_024, 640, 256),
            (200, 100, 50),
            (4, 2, 1),
            (0, 1, 1),
        ] {
            assert_eq!(Shares::of(limit, 1_000_000, 256), Shares { clients, admin }, "{limit}");
        }
    }

    #[test]
    fn more_than_the_system_allows_is_warned_of() {
        let descriptors = Descriptors { soft: 1_024, hard: 4_096 };
        assert_eq!(descriptors.warning(3_000, 256), None);
        let text = descriptors.warning(4_000, 256).unwrap();
        assert!(text.contains("4000") && text.contains("4096 open files") && text.contains("3712"), "{text}");
    }
}
