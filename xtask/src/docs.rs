//! The guides' commands and snippets, run as their readers would run them, and their links.
//!
//! A fenced block is treated by its language, and by the words behind it, which readers of the page don't see:
//!
//! | block | what happens |
//! |---|---|
//! | `sh` | run in a folder that the blocks of one page share, with a development server beside it |
//! | `sh server` | a command that starts a server: it must say its address, and end well on SIGTERM |
//! | `sh server keep` | the same, but it is the server of the blocks behind it |
//! | `sh background` | a command that starts a back end, for the blocks behind it up to the next such command |
//! | `js` | run by node, with the `phoenix` client at hand; with a `file:NAME` it stays instead for the blocks behind it |
//! | `python` | a file that stays as well |
//! | `toml` | a configuration that `fanfare check` accepts; with a `file:NAME` it stays for the blocks behind it |
//! | `json` | must be JSON; with a `file:NAME` it stays as well |
//! | `rust` | compiled and run as documentation test of the `fanfare` crate, not here |
//! | `text output` | what the block before it prints: line by line in this order, `…` for anything |
//! | `ts`, and configurations of other programs | shown only: `tests/e2e/guides` compiles and runs those |
//! | `… skip:REASON` | not run |
//!
//! Addresses of the default ports, and the one at which a kept server's configuration listens, are replaced by those of the server beside
//! the test, and that of a reader's back end by a free one, whose port is in the variable `PORT`.

mod blocks;
pub(crate) mod links;
mod program;
mod summary;

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use blocks::Block;

use crate::process::{self, Server};
use crate::repository;

/// Languages that are shown only: there is nothing to run them with here.
const SHOWN: &[&str] =
    &["text", "sql", "html", "swift", "kotlin", "diff", "ts", "nginx", "haproxy", "caddy", "ini", "dockerfile", "yaml"];

/// Which crate file takes the pages with Rust blocks in as documentation tests.
const DOC_TESTS: &str = "crates/fanfare/src/docs_test.rs";

/// Where a server listens unless told otherwise.
const LISTEN: &str = "127.0.0.1:4000";
const ADMIN_LISTEN: &str = "127.0.0.1:4001";

/// Where back ends listen in the guides.
const BACK_END: &str = "127.0.0.1:8000";

/// How long a back end may take until it listens.
const BACK_END_PATIENCE: Duration = Duration::from_secs(20);

/// The variables that the guides tell their readers to set.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("TOKEN", "a token for the tests of the guides"),
    ("FANFARE_ADMIN_TOKEN", "a token for the tests of the guides"),
    ("FANFARE_API_TOKEN", "a token for the tests of the guides"),
    ("SUPABASE_JWT_SECRET", "super-secret-jwt-token-with-at-least-32-characters-long"),
    ("FANFARE_SECRET", "a secret for the tests of the guides: it has to be long enough for HS512, sixty-four bytes."),
];

/// Runs the blocks of the named pages, of all pages when none is named.
pub(crate) fn run(pages: &[String]) -> Result<(), String> {
    let all = repository::files()?;
    let is_page = |file: &&String| file.ends_with(".md") && (!file.contains('/') || file.starts_with("docs/"));
    let pages: Vec<&String> =
        if pages.is_empty() { all.iter().filter(is_page).collect() } else { pages.iter().collect() };
    let mut count = 0;
    let mut failures = Vec::new();
    for page in pages {
        let text = repository::text(page)?.ok_or_else(|| format!("{page} is not UTF-8"))?;
        failures.extend(links::check(page, &text, read));
        if page == summary::PAGE {
            failures.extend(summary::check(&text, &all));
        }
        let blocks = blocks::parse(&text)?;
        if blocks.iter().any(|block| block.language == "rust") && !is_doc_test(page)? {
            failures.push(format!("{page}: has Rust blocks, but {DOC_TESTS} does not include it"));
        }
        let mut bench = Bench::new()?;
        for (at, block) in blocks.iter().enumerate() {
            let expected = blocks.get(at + 1).filter(|next| next.is("text", "output")).map(|next| next.text.as_str());
            if let Err(message) = bench.run(block, expected) {
                println!("{page}:{}: FAILED\n{message}\n", block.line);
                failures.push(format!("{page}:{}", block.line));
            }
            count += 1;
        }
    }
    println!("{count} blocks, {} failed", failures.len());
    if failures.is_empty() { Ok(()) } else { Err(format!("these do not work as written:\n{}", failures.join("\n"))) }
}

/// A file of the repository; of a folder or a picture nothing but that it is there.
fn read(file: &str) -> Option<String> {
    match repository::root().join(file) {
        path if path.is_dir() => Some(String::new()),
        path if path.extension().is_some_and(|extension| extension == "png") => path.exists().then(String::new),
        _ => repository::text(file).ok()?,
    }
}

fn is_doc_test(page: &str) -> Result<bool, String> {
    Ok(repository::text(DOC_TESTS)?.unwrap_or_default().contains(&format!("/{page}\"")))
}

/// The place where the blocks of one page run.
struct Bench {
    folder: PathBuf,
    server: Option<Server>,
    /// Addresses that the page writes and those that stand for them.
    addresses: Vec<(String, String)>,
    /// Where the page's back end listens, and its process if it runs.
    back_end: String,
    background: Option<Background>,
}

impl Bench {
    fn new() -> Result<Self, String> {
        let folder = repository::scratch("docs")?;
        let clients = repository::root().join("tests/e2e");
        let modules = clients.join("node_modules");
        if !is_newer(&modules.join(".package-lock.json"), &clients.join("package-lock.json")) {
            process::run(Command::new("npm").current_dir(clients).args(["ci", "--no-audit", "--no-fund"]))?;
        }
        std::os::unix::fs::symlink(modules, folder.join("node_modules")).map_err(|e| format!("cannot link: {e}"))?;
        Ok(Self { folder, server: None, addresses: Vec::new(), back_end: loopback()?, background: None })
    }

    fn run(&mut self, block: &Block, expected: Option<&str>) -> Result<(), String> {
        if block.attribute("skip").is_some() {
            return Ok(());
        }
        match block.language.as_str() {
            "sh" if block.has("server") => self.run_server(block),
            "sh" if block.has("background") => self.run_background(block),
            "sh" => {
                let script = self.with_addresses(&block.text)?;
                program::run(self.command("bash").args(["-euo", "pipefail", "-c", &script]), expected)
            }
            "js" | "python" if block.attribute("file").is_some() => {
                let prelude = if block.language == "js" { NODE_PRELUDE } else { "" };
                let script = self.with_addresses(&block.text)?;
                self.write(block.attribute("file").unwrap_or_default(), &(prelude.to_owned() + &script)).map(drop)
            }
            "js" => {
                let script = self.with_addresses(&block.text)?;
                let file = self.write("snippet.mjs", &(NODE_PRELUDE.to_owned() + &script))?;
                program::run(self.command("node").arg(file), expected)
            }
            "toml" => {
                let text = block.text.replace(BACK_END, &self.back_end);
                let file = self.write(block.attribute("file").unwrap_or("snippet.toml"), &text)?;
                // The token of the running server would stand beside the one that the snippet has.
                let mut check = self.command("fanfare");
                program::run(check.env_remove("FANFARE_ADMIN_TOKEN").args(["check", "--config"]).arg(file), expected)
            }
            "json" => {
                serde_json::from_str::<serde_json::Value>(&block.text).map_err(|e| format!("not JSON: {e}"))?;
                block.attribute("file").map_or(Ok(()), |file| self.write(file, &block.text).map(drop))
            }
            "rust" => Ok(()),
            language if SHOWN.contains(&language) => Ok(()),
            language => Err(format!("nothing is known about running `{language}`; see xtask/src/docs.rs")),
        }
    }

    /// Runs a command that starts a server, on ports of its own.
    fn run_server(&mut self, block: &Block) -> Result<(), String> {
        let command = block.text.trim();
        let (listen, admin) = (loopback()?, loopback()?);
        let line = match command.contains("--example ") {
            true => format!("exec {command} --port {}", process::free_port()?),
            false if command.contains("cluster demo") => format!("exec {command} --listen {listen}"),
            false => format!("exec {command} --listen {listen} --admin {admin}"),
        };
        let mut command = self.command("bash");
        if block.text.starts_with("cargo ") {
            command.current_dir(repository::root());
        }
        let server = Server::start(command.args(["-c", &line]))?;
        if !block.has("keep") {
            return server.stop();
        }
        self.server = Some(server);
        self.addresses = addresses(&listen, &admin);
        self.addresses.extend(self.configured_address(&block.text).map(|configured| (configured, listen)));
        Ok(())
    }

    /// Where a configuration of the page says that clients connect, for a command that names it.
    fn configured_address(&self, command: &str) -> Option<String> {
        let (_, file) = command.trim().split_once("--config ")?;
        let text = std::fs::read_to_string(self.folder.join(file)).ok()?;
        let mut keys = text.lines().take_while(|line| !line.starts_with('['));
        let address = keys.find_map(|line| line.strip_prefix("listen = \""))?;
        Some(address.split('"').next()?.to_owned())
    }

    /// Starts the back end, in the place of an earlier one, and waits until it listens.
    fn run_background(&mut self, block: &Block) -> Result<(), String> {
        self.background = None;
        let child = self.command("bash").args(["-c", &format!("exec {}", block.text.trim())]).spawn();
        self.background = Some(Background(child.map_err(|e| format!("cannot start: {e}"))?));
        let deadline = Instant::now() + BACK_END_PATIENCE;
        while TcpStream::connect(&self.back_end).is_err() {
            if Instant::now() > deadline {
                return Err(format!("does not listen on {} after {BACK_END_PATIENCE:?}", self.back_end));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// A command in the page's folder that finds `fanfare` on its path.
    fn command(&self, program: &str) -> Command {
        let ours = repository::target().join("release");
        let path = std::env::var("PATH").unwrap_or_default();
        let program = if program == "fanfare" { ours.join(program) } else { program.into() };
        let mut command = Command::new(program);
        command.current_dir(&self.folder).envs(ENVIRONMENT).env("PATH", format!("{}:{path}", ours.display()));
        command.env("PORT", self.back_end.rsplit(':').next().unwrap_or_default());
        command
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let file = self.folder.join(name);
        let made = file.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| std::fs::write(&file, text)).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
        Ok(file)
    }

    /// The text with the default addresses replaced by those of the page's server, which starts on first use.
    fn with_addresses(&mut self, text: &str) -> Result<String, String> {
        let text = &text.replace(BACK_END, &self.back_end);
        let names = |address: &str| text.contains(address);
        if !names(LISTEN) && !names(ADMIN_LISTEN) && !self.addresses.iter().any(|(address, _)| names(address)) {
            return Ok(text.to_owned());
        }
        if self.server.is_none() {
            let (listen, admin) = (loopback()?, loopback()?);
            let mut dev = self.command("fanfare");
            self.server = Some(Server::start(dev.args(["dev", "--listen", &listen, "--admin", &admin]))?);
            self.addresses = addresses(&listen, &admin);
        }
        Ok(self.addresses.iter().fold(text.to_owned(), |text, (default, ours)| text.replace(default, ours)))
    }
}

/// Whether a file is there, and was written after another.
fn is_newer(file: &Path, other: &Path) -> bool {
    let written = |file: &Path| file.metadata().and_then(|metadata| metadata.modified()).ok();
    written(file).is_some_and(|at| written(other).is_none_or(|other| at > other))
}

/// A back end, ended when dropped.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The default addresses and those that stand for them.
fn addresses(listen: &str, admin: &str) -> Vec<(String, String)> {
    [(LISTEN, listen), (ADMIN_LISTEN, admin)].map(|(default, ours)| (default.to_owned(), ours.to_owned())).into()
}

fn loopback() -> Result<String, String> {
    Ok(format!("127.0.0.1:{}", process::free_port()?))
}

/// Node has a global `WebSocket` only from version 22 on; browsers always have it.
const NODE_PRELUDE: &str = "import WebSocketOfNode from 'ws'; globalThis.WebSocket ??= WebSocketOfNode;\n";
