//! Servers as children that speak one line per command and end when our end of the pipe does.

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder of this very process for files of tests, under the build's own folder. Not made yet, nor removed.
///
/// # Panics
///
/// If the running program has no path.
pub fn scratch(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let exe = std::env::current_exe().expect("the test's own path");
    // target/<profile>/deps/<test>: temporary folders may lack user xattrs, the build's does not.
    let base = exe.ancestors().nth(2).unwrap_or(&exe);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    base.join("test-scratch")
        .join(format!("{name}-{}-{count}", std::process::id()))
}

/// A folder that stays from run to run, for servers that take long to prepare.
pub fn prepared(name: &str) -> PathBuf {
    let scratch = scratch(name);
    let base = scratch.parent().unwrap_or(&scratch);
    base.join(name)
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/servers")
}

struct Pipes {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// A running script.
struct Host {
    child: Child,
    pipes: Mutex<Option<Pipes>>,
    ready: Value,
}

impl Host {
    fn start(script: &str, arguments: &[String]) -> Self {
        let mut child = Command::new("python3")
            .arg(scripts().join(script))
            .arg("run")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut pipes = Pipes { stdin, stdout };
        let mut line = String::new();
        pipes.stdout.read_line(&mut line).expect("a line");
        let ready = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{script} did not start; its story is on stderr"));
        Self {
            child,
            pipes: Mutex::new(Some(pipes)),
            ready,
        }
    }

    #[track_caller]
    fn tell(&self, command: &str) -> String {
        let mut pipes = self.pipes.lock().expect("no command panicked");
        let pipes = pipes.as_mut().expect("it runs");
        writeln!(pipes.stdin, "{command}").expect("the server listens");
        let mut line = String::new();
        pipes.stdout.read_line(&mut line).expect("an answer");
        let line = line.trim();
        let Some(answer) = line.strip_prefix("ok") else {
            panic!("{command}: {line}");
        };
        answer.trim().to_owned()
    }

    fn text(&self, key: &str) -> &str {
        self.ready[key].as_str().unwrap_or_default()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The end of its stdin ends it, and its servers with it.
        if let Ok(pipes) = self.pipes.get_mut() {
            pipes.take();
        }
        let _ = self.child.wait();
    }
}

/// What kind of Swift.
#[derive(Clone, Debug)]
pub struct SwiftOptions {
    /// Replicas of everything. 1.
    pub replicas: u32,
    /// Storage nodes; more than `replicas` gives handoffs. As `replicas`.
    pub nodes: u32,
    /// Seconds that a TempAuth token lives. A day.
    pub token_life: u32,
    /// Keystone's URL: then there is no TempAuth.
    pub keystone: Option<String>,
    /// Seconds that the proxy waits for a storage server. 10, as in production.
    pub node_timeout: u32,
    /// Milliseconds that the proxy waits for a connection to one. 500, as in production.
    pub conn_timeout_ms: u32,
    /// Seconds that the proxy leaves out a server that erred. 60, as in production; 0 makes tests of outages short.
    pub error_interval: u32,
    /// Seconds that the proxy remembers a container. 60.
    pub info_cache: u32,
    /// Object writes per second and container; 0: as many as come.
    pub ratelimit: u32,
}

impl Default for SwiftOptions {
    fn default() -> Self {
        Self {
            replicas: 1,
            nodes: 0,
            token_life: 86_400,
            keystone: None,
            node_timeout: 10,
            conn_timeout_ms: 500,
            error_interval: 60,
            info_cache: 60,
            ratelimit: 0,
        }
    }
}

/// A real Swift. Ends when dropped, and at the latest with the process.
pub struct Swift {
    host: Host,
}

impl std::fmt::Debug for Swift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Swift({})", self.url())
    }
}

impl Swift {
    /// Starts one: 2 s for one node, 4 s for three, and some 15 s more when its packages are missing.
    ///
    /// # Panics
    ///
    /// If it does not start; the reason is on stderr.
    pub fn start(options: &SwiftOptions) -> Self {
        let mut arguments = vec![scratch("swift").display().to_string(), "--wipe".to_owned()];
        let mut push = |key: &str, value: String| arguments.extend([key.to_owned(), value]);
        push("--replicas", options.replicas.to_string());
        push("--nodes", options.nodes.max(options.replicas).to_string());
        push("--token-life", options.token_life.to_string());
        push("--node-timeout", options.node_timeout.to_string());
        let conn_timeout = f64::from(options.conn_timeout_ms) / 1000.0;
        push("--conn-timeout", conn_timeout.to_string());
        push("--error-interval", options.error_interval.to_string());
        push("--info-cache", options.info_cache.to_string());
        push("--ratelimit", options.ratelimit.to_string());
        if let Some(keystone) = &options.keystone {
            push("--keystone", keystone.clone());
        }
        Self {
            host: Host::start("swift_up.py", &arguments),
        }
    }

    /// The proxy's root: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        self.host.text("url")
    }

    /// `ST_AUTH`, `ST_USER` and `ST_KEY` of a user who may do everything in its account.
    pub fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("ST_AUTH", self.host.text("auth_url").to_owned()),
            ("ST_USER", self.host.text("user").to_owned()),
            ("ST_KEY", self.host.text("key").to_owned()),
        ]
    }

    /// The port of a server, by name.
    ///
    /// # Panics
    ///
    /// If there is no such server.
    pub fn port(&self, name: &str) -> u16 {
        let port = self.host.ready["ports"][name].as_u64();
        port.and_then(|p| u16::try_from(p).ok())
            .unwrap_or_else(|| panic!("no server {name}"))
    }

    /// The folder that holds its data: `srv/node1/d1/objects/…`.
    pub fn folder(&self) -> &Path {
        Path::new(self.host.text("dir"))
    }

    /// Seconds that the start took.
    pub fn start_seconds(&self) -> f64 {
        self.host.ready["seconds"].as_f64().unwrap_or_default()
    }

    /// A command to its host: `kill object1 object2`, `pause proxy`, `start object1`, `once object-replicator` …
    ///
    /// # Panics
    ///
    /// If it is refused.
    #[track_caller]
    pub fn tell(&self, command: &str) -> String {
        self.host.tell(command)
    }
}

/// A real Keystone with users demo/demopass and reader/readerpass of project demo. Ends when dropped.
pub struct Keystone {
    host: Host,
}

impl std::fmt::Debug for Keystone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keystone({})", self.url())
    }
}

impl Keystone {
    /// Starts one: 3 s when `folder` was prepared by an earlier start, some 11 s else.
    ///
    /// # Panics
    ///
    /// If it does not start; the reason is on stderr.
    pub fn start(folder: &Path, token_life: u32) -> Self {
        let arguments = [
            folder.display().to_string(),
            "--token-life".to_owned(),
            token_life.to_string(),
        ];
        Self {
            host: Host::start("keystone_up.py", &arguments),
        }
    }

    /// Its root: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        self.host.text("url")
    }

    /// `OS_AUTH_URL` and its kin for user demo.
    pub fn variables(&self) -> Vec<(String, String)> {
        let env = self.host.ready["env"].as_object();
        let text = |(k, v): (&String, &Value)| (k.clone(), v.as_str().unwrap_or("").to_owned());
        env.map(|env| env.iter().map(text).collect())
            .unwrap_or_default()
    }

    /// A new application credential of user demo: its id and secret.
    ///
    /// # Panics
    ///
    /// If it is refused.
    #[track_caller]
    pub fn application_credential(&self) -> (String, String) {
        let answer = self.host.tell("application-credential");
        let (id, secret) = answer.split_once(' ').expect("an id and a secret");
        (id.to_owned(), secret.to_owned())
    }

    /// Moves the catalog's object store to this proxy.
    ///
    /// # Panics
    ///
    /// If it is refused.
    #[track_caller]
    pub fn set_swift(&self, url: &str) {
        self.host.tell(&format!("swift-url {url}"));
    }
}

/// A TLS front for a server of this machine, with an authority of its own. Ends when dropped.
pub struct TlsRelay {
    host: Host,
    folder: PathBuf,
}

impl Drop for TlsRelay {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl std::fmt::Debug for TlsRelay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TlsRelay({})", self.url())
    }
}

impl TlsRelay {
    /// Starts one before a port of 127.0.0.1.
    ///
    /// # Panics
    ///
    /// If it does not start: there is no openssl command.
    pub fn start(port: u16) -> Self {
        let folder = scratch("tls");
        let arguments = [folder.display().to_string(), port.to_string()];
        Self {
            host: Host::start("tls_relay.py", &arguments),
            folder,
        }
    }

    /// Its root: `https://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        self.host.text("url")
    }

    /// The authority's certificate (PEM).
    pub fn ca(&self) -> &str {
        self.host.text("ca")
    }
}
