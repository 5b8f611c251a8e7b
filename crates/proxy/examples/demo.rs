//! The demo: the IBM platform and License Service, simulated, with the proxy in front of them.
//!
//! `cargo run --release --example demo` prints three calls to paste and runs until Ctrl-C. With `-- --check` it makes
//! the three calls itself, shows what the client sent and what the upstream got, and exits 0 only if all is right.

#![expect(
    clippy::print_stdout,
    reason = "the demo talks to the person who started it"
)]

use std::{
    error::Error,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

use simulator::{Options, RecordedRequest, Simulator, fingerprint};
use watsonx_auth_proxy::{
    config::{Config, Environment},
    log,
    process::{serve::serve, shutdown},
};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let check = std::env::args()
        .skip(1)
        .any(|argument| argument == "--check");
    match demonstrate(check) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("the demo cannot run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate(check: bool) -> Outcome<bool> {
    let simulator = Simulator::start(Options::default())?;
    let folder = tempfile::tempdir()?;
    let config = configure(&simulator, folder.path())?;
    log::start(&config.log);

    let (stop, stops) = shutdown::stop();
    let (ended, end) = mpsc::channel();
    thread::spawn(move || ended.send(serve(&config, stops).map_err(|error| error.to_string())));
    wait_until_ready(&end)?;
    if !check {
        stop.on_signals()?;
        invite();
        end.recv()??;
        return Ok(true);
    }
    let right = check_calls(&simulator);
    stop.ask();
    end.recv_timeout(Duration::from_secs(40))??;
    right
}

/// Secrets in files, the CA of the simulator, and a configuration that names the places of both.
fn configure(simulator: &Simulator, folder: &Path) -> Outcome<Config> {
    fs::write(folder.join("api-key"), simulator.api_key())?;
    fs::write(folder.join("license-token"), simulator.license_token())?;
    simulator.write_ca(folder.join("ca.crt"))?;
    let text = format!(
        r#"
log = {{ level = "warn", access = false }}
listener.local = {{ address = "{LISTENER}" }}
admin = {{ address = "{ADMIN}" }}

[upstream.platform]
url = "{platform}"
tls = {{ ca = "ca.crt" }}

[upstream.license]
url = "{license}"
tls = {{ ca = "ca.crt" }}

[credential.platform.cp4d]
upstream = "platform"
username = "{user}"
api_key = {{ file = "api-key" }}

[credential.license.token]
upstream = "license"
value = {{ file = "license-token" }}

[route.license]
path = "/license"
upstream = "license"
attach = "license"
preset = "license-service"

[route.platform]
path = "/"
upstream = "platform"
attach = "platform"
preset = "watsonx"
"#,
        platform = simulator.platform_url(),
        license = simulator.license_url(),
        user = simulator.username(),
    );
    let environment = Environment::new(std::env::vars_os(), folder);
    Ok(Config::parse(&text, "demo", folder, true, &environment)?.config)
}

/// Waits until `/readyz` says yes, or the proxy has ended.
fn wait_until_ready(end: &mpsc::Receiver<Result<(), String>>) -> Outcome<()> {
    for _ in 0..200 {
        if let Ok(ended) = end.recv_timeout(Duration::from_millis(50)) {
            ended?;
            return Err("the proxy ended before it was ready".into());
        }
        let ready = exchange(
            ADMIN,
            "GET /readyz?require=all HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        );
        if ready.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200")) {
            return Ok(());
        }
    }
    Err("the proxy did not become ready within 10 s".into())
}

/// Prints the calls to paste.
fn invite() {
    println!("The proxy listens at http://{LISTENER}, probes and metrics at http://{ADMIN}.");
    println!(
        "It logged in to a simulated watsonx platform and a simulated License Service. Paste:\n"
    );
    for call in &CALLS {
        println!("# {}\n{}\n", call.about, call.curl());
    }
    println!("Ctrl-C ends it.");
}

/// Makes the calls, and holds what the upstream got against what the client sent.
fn check_calls(simulator: &Simulator) -> Outcome<bool> {
    let mut right = true;
    for call in &CALLS {
        simulator.clear_requests();
        let answer = exchange(LISTENER, &call.request())?;
        let requests = simulator.requests();
        println!(
            "{}\n  client sent    {} {}  (no credential)",
            call.about, call.method, call.target
        );
        let mistakes = match requests.as_slice() {
            [request] => {
                println!("  upstream got   {}", shown(request));
                call.mistakes(&answer, request, simulator)
            }
            all => vec![format!(
                "the upstream got {} requests instead of one",
                all.len()
            )],
        };
        println!(
            "  client got     {}, {} bytes",
            status_line(&answer),
            answer.len()
        );
        for mistake in &mistakes {
            println!("  WRONG          {mistake}");
        }
        right &= mistakes.is_empty();
    }
    let logins = simulator.logins().authorize.granted;
    println!("logins             {logins}");
    right &= logins == 1;
    println!(
        "{}",
        if right {
            "all is right"
        } else {
            "something is wrong"
        }
    );
    Ok(right)
}

/// A call of the demo.
struct Call {
    about: &'static str,
    method: &'static str,
    target: &'static str,
    body: &'static str,
    /// What stands in the right answer.
    holds: &'static [u8],
}

impl Call {
    fn curl(&self) -> String {
        let quiet = if self.target.contains("stream") {
            "curl -sN"
        } else {
            "curl -s"
        };
        let data = match self.body {
            "" => String::new(),
            body => format!(" \\\n  -H 'Content-Type: application/json' -d '{body}'"),
        };
        format!("{quiet} 'http://{LISTENER}{}'{data}", self.target)
    }

    fn request(&self) -> String {
        let Self {
            method,
            target,
            body,
            ..
        } = self;
        let length = body.len();
        format!(
            "{method} {target} HTTP/1.1\r\nHost: {LISTENER}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    }

    fn mistakes(
        &self,
        answer: &[u8],
        request: &RecordedRequest,
        simulator: &Simulator,
    ) -> Vec<String> {
        let mut mistakes = Vec::new();
        if !answer.starts_with(b"HTTP/1.1 200") {
            mistakes.push(format!("the answer is {}", status_line(answer)));
        }
        if !answer
            .windows(self.holds.len())
            .any(|part| part == self.holds)
        {
            mistakes.push("the answer does not hold what it should".to_owned());
        }
        let bearer = request.header_values("authorization");
        let token = format!("?token={}", simulator.license_token());
        let attached = match self.target.starts_with("/license") {
            true => {
                bearer.is_empty()
                    && request.target.matches("token=").count() == 1
                    && request.target.ends_with(&token)
            }
            false => bearer.len() == 1 && bearer[0].starts_with("Bearer ey"),
        };
        if !attached {
            mistakes.push("the credential is not there exactly once".to_owned());
        }
        mistakes
    }
}

/// What an upstream got, with the fingerprint of the credential instead of the credential.
fn shown(request: &RecordedRequest) -> String {
    let target = match request.target.split_once("token=") {
        Some((before, token)) => format!("{before}token=<{}>", fingerprint(token)),
        None => request.target.clone(),
    };
    let bearer = request
        .header_values("authorization")
        .into_iter()
        .map(|value| match value.split_once(' ') {
            Some((scheme, token)) => format!("  Authorization: {scheme} <{}>", fingerprint(token)),
            None => "  Authorization: ?".to_owned(),
        });
    format!("{} {target}{}", request.method, bearer.collect::<String>())
}

fn status_line(answer: &[u8]) -> String {
    let end = answer
        .iter()
        .position(|byte| *byte == b'\r')
        .unwrap_or(answer.len());
    String::from_utf8_lossy(&answer[..end]).into_owned()
}

/// Sends a request and reads the answer to its end.
fn exchange(address: &str, request: &str) -> Outcome<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

const LISTENER: &str = "127.0.0.1:8080";

const ADMIN: &str = "127.0.0.1:9090";

const CALLS: [Call; 3] = [
    Call {
        about: "a watsonx call",
        method: "POST",
        target: "/ml/v1/text/generation?version=2025-02-01",
        body: r#"{"model_id":"ibm/granite-3-3-8b-instruct","project_id":"3fd2a3b0-8a5c-4b8e-9d5f-0c2f6e1a7b11","input":"Hello"}"#,
        holds: b"generated_text",
    },
    Call {
        about: "a streamed chat",
        method: "POST",
        target: "/ml/v1/text/chat_stream?version=2025-02-01",
        body: r#"{"model_id":"ibm/granite-3-3-8b-instruct","project_id":"3fd2a3b0-8a5c-4b8e-9d5f-0c2f6e1a7b11","messages":[{"role":"user","content":"Hello"}]}"#,
        holds: b"event: message",
    },
    Call {
        about: "a license report",
        method: "GET",
        target: "/license/products",
        body: "",
        holds: b"metricName",
    },
];
