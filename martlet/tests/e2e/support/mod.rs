//! The real program, real stores, real clients.

pub(crate) mod initiator;
pub(crate) mod stamps;

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use testkit::{Relay, Swift, SwiftOptions};

/// A store that tests run on.
pub(crate) enum Store {
    Dir(PathBuf),
    Swift(Box<Swift>),
}

impl Store {
    pub(crate) fn dir(place: &Path) -> Self {
        Self::Dir(place.join("store"))
    }

    /// A real Swift, one node.
    pub(crate) fn swift() -> Self {
        let options = SwiftOptions {
            error_interval: 0,
            ..SwiftOptions::default()
        };
        Self::Swift(Box::new(Swift::start(&options)))
    }

    /// The real Swift.
    ///
    /// # Panics
    ///
    /// If it is a directory.
    #[track_caller]
    pub(crate) fn real_swift(&self) -> &Swift {
        let Self::Swift(swift) = self else {
            panic!("a directory is no Swift");
        };
        swift
    }

    /// What stands in front of the real Swift, counts and harms.
    #[track_caller]
    pub(crate) fn relay(&self) -> Relay {
        Relay::start(self.real_swift().port("proxy")).unwrap()
    }

    pub(crate) fn place(&self) -> String {
        match self {
            Self::Dir(path) => format!("dir:{}", path.display()),
            Self::Swift(_) => "swift:e2e-".to_owned(),
        }
    }

    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Dir(_) => Vec::new(),
            Self::Swift(swift) => swift.variables().to_vec(),
        }
    }
}

/// A state directory on a store: what one host is.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) state: PathBuf,
    place: String,
    variables: Vec<(&'static str, String)>,
    settings: Vec<String>,
}

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Answered {
    #[track_caller]
    pub(crate) fn good(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let this = self.good();
        serde_json::from_slice(&this.stdout).expect("one JSON document")
    }
}

impl From<Output> for Answered {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Host {
    pub(crate) fn new(store: &Store, state: &Path) -> Self {
        Self {
            state: state.to_owned(),
            place: store.place(),
            variables: store.variables(),
            settings: Vec::new(),
        }
    }

    /// A host that finds its Swift by nothing but these variables.
    pub(crate) fn on_swift(variables: &[(&'static str, String)], state: &Path) -> Self {
        Self {
            state: state.to_owned(),
            place: "swift:e2e-".to_owned(),
            variables: variables.to_vec(),
            settings: Vec::new(),
        }
    }

    /// The same host with a setting of its configuration.
    pub(crate) fn with(mut self, setting: &str) -> Self {
        self.settings.push(setting.to_owned());
        self
    }

    /// The same host, which finds Swift elsewhere: behind a relay.
    pub(crate) fn through(mut self, url: &str) -> Self {
        for (name, value) in &mut self.variables {
            if *name == "ST_AUTH" {
                *value = format!("{url}/auth/v1.0");
            }
        }
        self
    }

    /// The same host with a variable of its environment.
    pub(crate) fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.retain(|(n, _)| *n != name);
        self.variables.push((name, value.to_owned()));
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_martlet"));
        command
            .arg("--state")
            .arg(&self.state)
            .arg("--store")
            .arg(&self.place)
            .arg("--no-progress")
            .envs(self.variables.iter().map(|(k, v)| (k, v)));
        for setting in &self.settings {
            command.arg("--set").arg(setting);
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Answered {
        let output = self.command().args(arguments).output();
        output.expect("the program runs").into()
    }

    /// Runs a command with `--json` and takes its document.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        self.run(&all).json()
    }

    /// Starts a command and does not wait.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Child {
        self.command()
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs")
    }

    /// Starts the daemon and waits until it is ready.
    pub(crate) fn serve(&self) -> Daemon {
        self.serve_with(&[])
    }

    pub(crate) fn serve_with(&self, arguments: &[&str]) -> Daemon {
        let mut command = self.command();
        command
            .args(["-v", "serve", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let log = Arc::new(Mutex::new(String::new()));
        let (tx, rx) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let to = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(address) = line
                    .strip_prefix("ready: ")
                    .and_then(|l| l.rsplit_once(' '))
                {
                    // Nobody waits for a second one.
                    let _ = tx.send(address.1.to_owned());
                }
                let mut log = to.lock().expect("whole");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let address = rx.recv_timeout(Duration::from_secs(60));
        let mut daemon = Daemon {
            child,
            address: String::new(),
            log,
        };
        match address {
            Ok(address) => daemon.address = address,
            Err(_) => panic!("the daemon is not ready:\n{}", daemon.log()),
        }
        daemon
    }
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: String,
    log: Arc<Mutex<String>>,
}

pub(crate) fn target(volume: &str) -> String {
    format!("iqn.2011-05.io.martlet:{volume}")
}

impl Daemon {
    pub(crate) fn url(&self, volume: &str) -> String {
        format!("iscsi://{}/{}/0", self.address, target(volume))
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("whole").clone()
    }

    /// Waits until the log says this: its lines come a little after what they tell of.
    #[track_caller]
    pub(crate) fn wait_log(&self, text: &str) {
        wait_until(text, || self.log().contains(text));
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// SIGTERM; the exit code.
    pub(crate) fn stop(mut self) -> i32 {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .arg(&pid)
                .status()
                .expect("kill")
                .success()
        );
        self.child.wait().expect("it ends").code().unwrap_or(-1)
    }

    /// A session to a volume; logins that are told to come back later come back.
    pub(crate) fn login(&self, volume: &str) -> initiator::Initiator {
        let mut last = String::new();
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while std::time::Instant::now() < until {
            match initiator::Initiator::login(&self.address, &target(volume)) {
                Ok(session) => return session,
                Err(error) => last = error.to_string(),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("no login to {volume}: {last}\n{}", self.log());
    }

    /// Resident memory in bytes, now and at its highest.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let field = |name: &str| {
            let line = status
                .lines()
                .find(|l| l.starts_with(name))
                .expect("a field");
            let kib = line
                .split_whitespace()
                .nth(1)
                .and_then(|n| n.parse::<u64>().ok());
            kib.expect("a number") << 10
        };
        (field("VmRSS:"), field("VmHWM:"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs one of the tests' tools.
#[track_caller]
pub(crate) fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}; run tests/install.sh"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Waits for what has to become so within a minute.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(std::time::Instant::now() < until, "not seen: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path of UTF-8")
}

/// A folder of one test, removed at its end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = testkit::scratch(name);
        // Left by an earlier process of the same number.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A generator for tests' choices: xorshift64*, named so that a seed keeps its meaning.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
