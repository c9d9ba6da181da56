//! PostgreSQL. Its folder is made once for all tests, and copied.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use super::{Service, run};
use crate::support::Folder;

pub(crate) fn start() -> Service {
    Service::start(
        |folder| {
            let template = template();
            run(Command::new("cp").arg("-a").arg(&template).arg(folder.path("data")));
            run(Command::new("chmod").arg("711").arg(folder.path("")));
        },
        command,
    )
}

fn command(folder: &Folder, port: u16) -> Command {
    // What a killed server leaves behind would be taken for a running one's.
    let _ = fs::remove_file(folder.path("data/postmaster.pid"));
    let mut command = as_its_user(&program("postgres"));
    command.arg("-D").arg(folder.path("data")).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
    command.args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "shared_buffers=16MB"]);
    command
}

/// A cluster with the user `postgres`, who needs no password.
fn template() -> PathBuf {
    let base = std::env::temp_dir().join("fanfare-test-postgres");
    fs::create_dir_all(&base).unwrap();
    let lock = File::create(base.join("lock")).unwrap();
    lock.lock().unwrap();
    let template = base.join("15");
    if !template.join("PG_VERSION").exists() || !base.join("done").exists() {
        let _ = fs::remove_dir_all(&template);
        fs::create_dir_all(&template).unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&template));
        }
        let mut initdb = as_its_user(&program("initdb"));
        run(initdb.arg("-D").arg(&template).args(["-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8"]));
        File::create(base.join("done")).unwrap();
    }
    template
}

/// It refuses to run as root.
fn as_its_user(program: &PathBuf) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command.current_dir("/");
    command
}

fn is_root() -> bool {
    run(Command::new("id").arg("-u")).trim() == "0"
}

/// Debian keeps its programs off the path.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| name.into())
}

impl Service {
    pub(crate) fn postgres_url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// What `psql` answers, without heads.
    pub(crate) fn sql(&self, statement: &str) -> String {
        let mut psql = Command::new(program("psql"));
        psql.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", "-v", "ON_ERROR_STOP=1"]);
        run(psql.args(["-q", "-A", "-t", "-c", statement])).trim().to_owned()
    }

    /// Waits until it takes queries: it listens before it does.
    pub(crate) fn wait_for_sql(&self) {
        let ready = || {
            let mut ask = Command::new(program("pg_isready"));
            ask.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]).status().unwrap().success()
        };
        crate::support::eventually(ready);
    }
}
