//! The binary under test, and the simulated servers behind it.

use std::{
    fs::{self, File},
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustix::process::{Pid, Signal, kill_process};
use simulator::{Options, RecordedRequest, Simulator};
use tempfile::TempDir;

use crate::client::{self, Answer, eventually};

/// A simulated platform and License Service with secrets that are recognised wherever they show up.
pub(crate) struct World {
    pub(crate) simulator: Simulator,
    pub(crate) folder: TempDir,
}

/// A running proxy.
pub(crate) struct Proxy {
    child: Child,
    /// What it prints: a file and no pipe, for what it told before an answer is there with the answer.
    printed: File,
    /// What it answered.
    answers: Mutex<String>,
    secrets: Vec<String>,
    pub(crate) listeners: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options {
            username: "canary-user".into(),
            password: "canary&password=50%+x".into(),
            api_key: "canary-api-key-5f1b".into(),
            license_token: "canary+license/token=7c".into(),
            service_account_token: "canary-service-account-91".into(),
            ..Options::default()
        };
        change(&mut options);
        let world = Self {
            simulator: Simulator::start(options).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        };
        world.write("api-key", &world.simulator.api_key());
        world.write("password", &world.simulator.password());
        world.write("license-token", &world.simulator.license_token());
        world.write("sa-token", &world.simulator.service_account_token());
        world.simulator.write_ca(world.path("ca.crt")).unwrap();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file as Kubernetes does: it is there whole or not at all.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    /// The tables that most journeys share: both upstreams and their credentials.
    pub(crate) fn upstreams(&self) -> String {
        format!(
            r#"
[upstream.platform]
url = "{platform}"
tls = {{ ca = "ca.crt" }}
[upstream.license]
url = "{license}"
tls = {{ ca = "ca.crt" }}
[credential.platform.cp4d]
upstream = "platform"
username = "canary-user"
api_key = {{ file = "api-key" }}
[credential.license.token]
upstream = "license"
value = {{ file = "license-token" }}
"#,
            platform = self.simulator.platform_url(),
            license = self.simulator.license_url(),
        )
    }

    /// A proxy as the README's first recipe has it: the platform at `/`, License Service at `/license`.
    pub(crate) fn usual(&self) -> Proxy {
        self.start(USUAL_ROUTES)
    }

    /// The shared tables with these, and with these keys before all tables.
    pub(crate) fn config(&self, keys: &str, tables: &str) -> String {
        format!(
            "workers = 2\nadmin.address = \"127.0.0.1:0\"\n{keys}{tables}{}",
            self.upstreams()
        )
    }

    /// A proxy with the shared tables and these.
    pub(crate) fn start(&self, tables: &str) -> Proxy {
        self.start_with(&self.config("", tables))
    }

    /// A proxy with this configuration.
    pub(crate) fn start_with(&self, config: &str) -> Proxy {
        self.write("proxy.toml", config);
        Proxy::start(
            &["serve", "--config", "proxy.toml"],
            self.folder.path(),
            self.secrets(),
        )
    }

    /// Everything that nobody but the upstream may see.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let mut secrets = self.simulator.tokens_issued();
        secrets.extend([
            self.simulator.api_key(),
            self.simulator.password(),
            self.simulator.license_token(),
            self.simulator.service_account_token(),
        ]);
        secrets
    }

    /// What the upstreams got, without the proxy's logins.
    pub(crate) fn got(&self) -> Vec<RecordedRequest> {
        let is_login = |path: &str| {
            ["/icp4d-api", "/v1/preauth", "/idprovider"]
                .iter()
                .any(|start| path.starts_with(start))
        };
        self.simulator
            .requests()
            .into_iter()
            .filter(|request| !is_login(request.path()))
            .collect()
    }

    /// The one request that the upstreams got.
    pub(crate) fn got_one(&self) -> RecordedRequest {
        let mut got = self.got();
        assert_eq!(got.len(), 1, "{got:#?}");
        got.remove(0)
    }

    /// The tokens that the platform issued to the proxy so far are secrets of this proxy's, too.
    pub(crate) fn end(&self, proxy: Proxy) {
        proxy.end(self.secrets());
    }
}

impl Proxy {
    pub(crate) fn start(arguments: &[&str], folder: &Path, secrets: Vec<String>) -> Self {
        Self::start_command(command(arguments, folder), secrets)
    }

    /// The same for a command with an environment of its own.
    pub(crate) fn start_command(mut command: Command, secrets: Vec<String>) -> Self {
        let printed = tempfile::tempfile().unwrap();
        let child = command
            .env("RUST_LOG", "trace")
            .stdin(Stdio::null())
            .stdout(printed.try_clone().unwrap())
            .stderr(printed.try_clone().unwrap())
            .spawn()
            .unwrap();
        let mut proxy = Self {
            child,
            printed,
            answers: Mutex::default(),
            secrets,
            listeners: Vec::new(),
            admin: SocketAddr::from(([0; 4], 0)),
        };
        let (listeners, admin) = eventually("the addresses", || {
            let printed = proxy.printed();
            let ended = proxy.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {printed}");
            places_in(&printed)
        });
        proxy.listeners = listeners;
        proxy.admin = admin;
        proxy
    }

    /// The address of the first listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listeners[0]
    }

    pub(crate) fn get(&self, target: &str, lines: &[&str]) -> Answer {
        self.note(client::get(self.address(), target, lines))
    }

    pub(crate) fn send(&self, method: &str, target: &str, lines: &[&str], body: &[u8]) -> Answer {
        self.note(client::send(self.address(), method, target, lines, body))
    }

    pub(crate) fn admin(&self, target: &str) -> Answer {
        self.note(client::get(self.admin, target, &[]))
    }

    /// Waits until every credential is there.
    pub(crate) fn ready(&self) -> &Self {
        eventually("ready", || {
            (self.admin("/readyz?require=all").status == 200).then_some(())
        });
        self
    }

    /// Everything printed so far, and every answer; of a line that is not whole yet, nothing.
    pub(crate) fn printed(&self) -> String {
        let mut printed = self.all_printed();
        let whole = printed.iter().rposition(|&byte| byte == b'\n');
        printed.truncate(whole.map_or(0, |end| end + 1));
        String::from_utf8(printed).unwrap() + &self.answers.lock().unwrap()
    }

    fn all_printed(&self) -> Vec<u8> {
        let mut printed = vec![0; self.printed.metadata().unwrap().len() as usize];
        self.printed.read_exact_at(&mut printed, 0).unwrap();
        printed
    }

    /// A counter or gauge of the metrics page; 0 where there is no such line.
    pub(crate) fn metric(&self, start: &str) -> f64 {
        let page = self.admin("/metrics").text();
        let lines = page.lines().filter(|line| line.starts_with(start));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Memory of the process that is in use, in bytes.
    pub(crate) fn resident(&self) -> usize {
        self.memory("status", "VmRSS:")
    }

    /// How much of it is in pages of 2 MiB, in bytes.
    pub(crate) fn in_huge_pages(&self) -> usize {
        self.memory("smaps_rollup", "AnonHugePages:")
    }

    fn memory(&self, file: &str, what: &str) -> usize {
        let told = fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap();
        let line = told.lines().find_map(|line| line.strip_prefix(what));
        let kibibytes = line.unwrap().trim().trim_end_matches(" kB");
        kibibytes.parse::<usize>().unwrap() << 10
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the end of the process", || self.child.try_wait().unwrap())
    }

    /// Ends the proxy in order, and holds everything that it said against the secrets.
    pub(crate) fn end(mut self, mut secrets: Vec<String>) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.printed());
        secrets.append(&mut self.secrets);
        let printed = self.printed();
        assert!(printed.contains("draining"), "{printed}");
        assert_eq!(self.all_printed().last(), Some(&b'\n'), "{printed}");
        assert_no_secret(&printed, &secrets);
    }

    fn note(&self, answer: Answer) -> Answer {
        let mut answers = self.answers.lock().unwrap();
        answers.extend([&answer.head, "\n", &answer.text(), "\n"]);
        drop(answers);
        answer
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fails if a secret stands anywhere in a text: as it is, percent-encoded or in base64.
pub(crate) fn assert_no_secret(text: &str, secrets: &[String]) {
    for secret in secrets {
        let percent: String =
            percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC)
                .to_string();
        let unpadded = BASE64_STANDARD.encode(secret);
        for form in [secret.as_str(), &percent, unpadded.trim_end_matches('=')] {
            let at = text.find(form);
            assert!(
                at.is_none(),
                "a secret shows: {}",
                &text[at.unwrap().saturating_sub(300)..at.unwrap()]
            );
        }
    }
}

/// The binary with arguments, in a folder, with nothing in the environment that changes what it does.
pub(crate) fn command(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watsonx-auth-proxy"));
    command.args(arguments).current_dir(folder);
    for name in [
        "RUST_LOG",
        "KUBECONFIG",
        "KUBERNETES_SERVICE_HOST",
        "WATSONX_AUTH_PROXY_CONFIG",
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
        "NO_PROXY",
        "no_proxy",
        "IBM_CREDENTIALS_FILE",
        "VCAP_SERVICES",
    ] {
        command.env_remove(name);
    }
    command
        .env("XDG_CONFIG_HOME", folder)
        .env("HOME", folder)
        .env("XDG_STATE_HOME", folder);
    command
}

/// Runs the binary to its end: exit code, standard output and standard error.
pub(crate) fn run(arguments: &[&str], folder: &Path, input: &str) -> (i32, String, String) {
    run_to_end(command(arguments, folder), input)
}

/// The same for a command with an environment of its own.
pub(crate) fn run_to_end(mut command: Command, input: &str) -> (i32, String, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let (done, output) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    let output = output
        .recv_timeout(Duration::from_secs(60))
        .expect("an end")
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap_or(-1),
        text(output.stdout),
        text(output.stderr),
    )
}

enum Place {
    Listener(Vec<SocketAddr>),
    Admin(SocketAddr),
}

/// The addresses of the listeners and of admin, which are told last; `None` until then.
fn places_in(printed: &str) -> Option<(Vec<SocketAddr>, SocketAddr)> {
    let mut listeners = Vec::new();
    for place in printed.lines().filter_map(place_in) {
        match place {
            Place::Listener(addresses) => listeners.extend(addresses),
            Place::Admin(address) => return Some((listeners, address)),
        }
    }
    None
}

/// Where a line of the log says that the proxy listens.
fn place_in(line: &str) -> Option<Place> {
    let (message, at) = match serde_json::from_str::<serde_json::Value>(line) {
        Ok(line) => (
            line["message"].as_str()?.to_owned(),
            line["at"].as_str()?.to_owned(),
        ),
        // The log for humans.
        Err(_) => {
            let (_, text) = line.split_once(" INFO ")?;
            let at = text.split_once(" at=")?.1.trim_start_matches('"');
            let at = at.split(['"', ' ']).next()?.to_owned();
            let mut known = ["admin listens", "listening"].into_iter();
            let message = known.find(|message| text.starts_with(message))?;
            (message.to_owned(), at)
        }
    };
    match message.as_str() {
        "listening" => Some(Place::Listener(
            at.split(' ')
                .filter_map(|place| place.parse().ok())
                .collect(),
        )),
        "admin listens" => Some(Place::Admin(at.parse().ok()?)),
        _ => None,
    }
}

/// The platform at `/`, License Service at `/license`.
pub(crate) const USUAL_ROUTES: &str = r#"
listener.local = { address = "127.0.0.1:0" }
[route.license]
path = "/license"
upstream = "license"
attach = "license"
preset = "license-service"
[route.platform]
path = "/"
upstream = "platform"
attach = "platform"
"#;
