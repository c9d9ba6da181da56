//! A service that a test has started privately, on a free port and with a folder of its own; it is stopped with its test. It can be
//! killed and started again on the same port with what it has stored.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a service may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running service.
pub(crate) struct Service {
    child: Option<Child>,
    pub(crate) port: u16,
    pub(crate) folder: Folder,
    command: fn(&Folder, u16) -> Command,
}

impl Service {
    /// Starts one in a new folder, which `prepare` fills.
    pub(crate) fn start(prepare: impl FnOnce(&Folder), command: fn(&Folder, u16) -> Command) -> Self {
        let folder = Folder::new();
        prepare(&folder);
        // Another process may take the port before the service does; then it ends at once.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if let Some(child) = spawn(command(&folder, port), port) {
                return Service { child: Some(child), port, folder, command };
            }
        }
        panic!("{:?} does not start", command(&folder, 0));
    }

    /// Ends it without a warning.
    pub(crate) fn kill(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        if let Some(mut child) = self.child.take() {
            // The program may be below a wrapper that has its name; it is found by its port.
            let children = children(&child);
            let _ = child.kill();
            let _ = child.wait();
            // Those of a PostgreSQL answer until they notice that it is gone.
            let _ = Command::new("kill").arg("-KILL").args(&children).stderr(Stdio::null()).status();
            while !children.iter().all(|process| is_still(process)) {
                assert!(Instant::now() < deadline, "what it has started does not end");
                thread::sleep(Duration::from_millis(1));
            }
        }
        while TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            assert!(Instant::now() < deadline, "it is still there");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops it in the middle, for as long as what is returned lives: its connections stay, and nothing is answered.
    pub(crate) fn hang(&self) -> Hanging {
        let child = self.child.as_ref().expect("it runs");
        let hanging = Hanging(children(child).into_iter().chain([child.id().to_string()]).collect());
        run(Command::new("kill").arg("-STOP").args(&hanging.0));
        // `kill` returns when the signals are sent. Until its threads have taken them, a service goes on answering.
        let deadline = Instant::now() + PATIENCE;
        while !hanging.0.iter().all(|process| is_still(process)) {
            assert!(Instant::now() < deadline, "it does not stop");
            thread::sleep(Duration::from_millis(1));
        }
        hanging
    }

    /// Starts it again where it was.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + PATIENCE;
        while self.child.is_none() {
            assert!(Instant::now() < deadline, "it does not come back");
            self.child = spawn((self.command)(&self.folder, self.port), self.port);
        }
    }
}

/// The processes of a service that hangs.
pub(crate) struct Hanging(Vec<String>);

/// What a service has started, which belongs to it.
fn children(child: &Child) -> Vec<String> {
    let children = Command::new("pgrep").args(["-P", &child.id().to_string()]).output().unwrap();
    String::from_utf8(children.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

/// Whether all threads of the process are stopped, or it is gone.
fn is_still(process: &str) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in parentheses and may contain some.
        stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with(['T', 't', 'Z', 'X']))
    })
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg("-CONT").args(&self.0).status();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `None` if it ends before it listens.
fn spawn(mut command: Command, port: u16) -> Option<Child> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child_ref = child.as_mut().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let deadline = Instant::now() + PATIENCE;
    loop {
        if child_ref.try_wait().unwrap().is_some() {
            return None;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return child.ok();
        }
        assert!(Instant::now() < deadline, "{command:?} does not listen");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Runs something that must succeed: its output.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A folder of a test's own, removed with what is in it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("fanfare-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
