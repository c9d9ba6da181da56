//! A server that speaks MongoDB's protocol, from PyPI: MongoDB itself is in no package registry.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Service, run};
use crate::support::Folder;

const PACKAGE: &str = "SecantusDB==0.7.0b3";

pub(crate) fn start() -> Service {
    environment();
    Service::start(|_| {}, command)
}

/// One that asks for a user and password, and knows none.
pub(crate) fn start_with_auth() -> Service {
    environment();
    let with_auth = |folder: &Folder, port| {
        let mut command = command(folder, port);
        command.arg("--auth");
        command
    };
    Service::start(|_| {}, with_auth)
}

fn command(folder: &Folder, port: u16) -> Command {
    // Its wrapper would survive a kill; the interpreter itself does not.
    let bin = environment();
    let mut command = Command::new(bin.join("python"));
    command.arg(bin.join("secantusd-py")).args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    command.args(["--cache-size", "64M", "--sync-on-commit", "--storage-path"]).arg(folder.path("data"));
    command.current_dir(folder.path(""));
    command
}

/// The programs of a virtual environment with the package, made once.
fn environment() -> PathBuf {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mongo");
    fs::create_dir_all(&base).unwrap();
    let lock = File::create(base.join("lock")).unwrap();
    lock.lock().unwrap();
    let stamp = base.join("installed");
    if fs::read_to_string(&stamp).ok().as_deref() != Some(PACKAGE) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(base.join("venv")));
        let mut pip = Command::new(base.join("venv/bin/pip"));
        run(pip.args(["install", "--quiet", "--disable-pip-version-check", PACKAGE]));
        fs::write(&stamp, PACKAGE).unwrap();
    }
    base.join("venv/bin")
}

impl Service {
    pub(crate) fn mongo_url(&self) -> String {
        format!("mongodb://127.0.0.1:{}", self.port)
    }

    /// Runs Python with `keys`, the collection of the original bridge.
    pub(crate) fn mongo(&self, python: &str) -> String {
        let script = format!(
            "from pymongo import MongoClient\nkeys = MongoClient('{}').myDB.myCollection\n{python}",
            self.mongo_url()
        );
        run(Command::new(environment().join("python")).args(["-c", &script])).trim().to_owned()
    }
}
