//! Running programs: to their end, for their output, or as a server beside a test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long a server may take until it prints its address: `cargo run` may have to build it first.
const START_PATIENCE: Duration = Duration::from_secs(900);

/// How long it may take to end after SIGTERM.
const END_PATIENCE: Duration = Duration::from_secs(300);

/// Runs a program to its end with its output on ours. An exit status other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    println!("$ {}", shown(command));
    let status = command.status().map_err(|e| cannot_start(command, &e))?;
    expect_success(command, status)
}

/// As [`run`], and an error repeats the lines of standard output that are chosen: at the end of a long run they are what
/// somebody looks for.
pub(crate) fn run_telling(command: &mut Command, chosen: impl Fn(&str) -> bool) -> Result<(), String> {
    println!("$ {}", shown(command));
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| cannot_start(command, &e))?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let mut told = Vec::new();
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        println!("{line}");
        if chosen(&line) {
            told.push(line);
        }
    }
    let status = child.wait().map_err(|e| format!("cannot wait for `{}`: {e}", shown(command)))?;
    expect_success(command, status).map_err(|error| format!("{error}\n{}", told.join("\n")))
}

/// Runs a program to its end and gives its standard output; standard error stays ours.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| cannot_start(command, &e))?;
    expect_success(command, output.status)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program runs and exits with 0, whatever it prints.
pub(crate) fn succeeds(program: &str, args: &[&str]) -> bool {
    let quiet =
        Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// A TCP port of the loopback interface that was free a moment ago.
pub(crate) fn free_port() -> Result<u16, String> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(|e| format!("no free port: {e}"))?;
    Ok(listener.local_addr().map_err(|e| format!("no free port: {e}"))?.port())
}

/// A server of ours that runs beside a test; ended when dropped.
pub(crate) struct Server {
    child: Child,
    name: String,
    /// What it printed up to the line with its address.
    pub(crate) greeting: String,
    /// `host:port`, as printed.
    pub(crate) address: String,
}

impl Server {
    /// Starts a program and waits for the line that says where it listens.
    pub(crate) fn start(command: &mut Command) -> Result<Self, String> {
        println!("$ {} &", shown(command));
        let child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn();
        let mut child = child.map_err(|e| cannot_start(command, &e))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut server = Self { child, name: shown(command), greeting: String::new(), address: String::new() };

        // The thread reads on after the greeting, so that a chatty server never blocks on a full pipe.
        let (lines, greeting) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let deadline = Instant::now() + START_PATIENCE;
        while server.address.is_empty() {
            let line = greeting.recv_timeout(deadline.saturating_duration_since(Instant::now())).map_err(|e| {
                let what = match e {
                    RecvTimeoutError::Timeout => format!("said no address in {START_PATIENCE:?}"),
                    RecvTimeoutError::Disconnected => "ended without saying an address".to_owned(),
                };
                format!("`{}` {what}:\n{}", server.name, server.greeting)
            })?;
            server.address = address_in(&line).unwrap_or_default().to_owned();
            server.greeting += &line;
            server.greeting.push('\n');
        }
        Ok(server)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM; anything but a clean end is an error.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        self.terminate();
        let deadline = Instant::now() + END_PATIENCE;
        while Instant::now() < deadline {
            match self.child.try_wait().map_err(|e| format!("cannot wait for `{}`: {e}", self.name))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("`{}` ended with {status} on SIGTERM", self.name)),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        Err(format!("`{}` did not end within {END_PATIENCE:?} of SIGTERM", self.name))
    }

    fn terminate(&self) {
        succeeds("kill", &["-TERM", &self.id().to_string()]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The first `host:port` of the loopback interface in a line.
fn address_in(line: &str) -> Option<&str> {
    ["127.0.0.1:", "localhost:", "[::1]:", "0.0.0.0:"].iter().find_map(|host| {
        let address = &line[line.find(host)?..];
        let digits = address[host.len()..].bytes().take_while(u8::is_ascii_digit).count();
        (digits > 0).then(|| &address[..host.len() + digits])
    })
}

fn shown(command: &Command) -> String {
    let mut shown = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        shown.push(' ');
        shown += &arg.to_string_lossy();
    }
    shown
}

fn cannot_start(command: &Command, error: &std::io::Error) -> String {
    format!("cannot start `{}`: {error}", shown(command))
}

fn expect_success(command: &Command, status: ExitStatus) -> Result<(), String> {
    if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", shown(command))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_found_in_a_greeting() {
        for (line, address) in [
            ("listening on http://127.0.0.1:4000/socket", Some("127.0.0.1:4000")),
            ("127.0.0.1:80", Some("127.0.0.1:80")),
            ("ws://[::1]:4000.", Some("[::1]:4000")),
            ("127.0.0.1: no port", None),
            ("starting", None),
        ] {
            assert_eq!(address_in(line), address, "{line}");
        }
    }

    #[test]
    fn an_error_repeats_the_chosen_lines() {
        let run = |script: &str| run_telling(Command::new("sh").args(["-c", script]), |line| line.contains("FAIL"));
        assert!(run("echo FAIL").is_ok());
        let error = run("echo one passed; echo FAIL two; exit 3").unwrap_err();
        assert!(error.contains("exit status: 3\nFAIL two") && !error.ends_with("passed"), "{error}");
    }

    #[test]
    fn server_that_ends_badly_is_an_error() {
        let start = |script: &str| Server::start(Command::new("sh").args(["-c", script]));
        assert!(start("echo at 127.0.0.1:1; exec sleep 60").unwrap().stop().unwrap_err().contains("SIGTERM"));
        assert!(start("trap 'exit 0' TERM; echo at 127.0.0.1:1; while :; do sleep 0.05; done").unwrap().stop().is_ok());
        assert!(start("echo nothing to see").is_err());
    }
}
