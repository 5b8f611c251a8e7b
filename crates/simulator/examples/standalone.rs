//! Runs a simulator for clients in other languages: `cargo run -p simulator --example standalone -- DIRECTORY`.
//!
//! Writes the authority to `DIRECTORY/ca.pem`, prints one line of JSON with the addresses and the credentials, and
//! runs until standard input ends. Each line of standard input is a JSON object of settings, `{}` for none
//! (`frame_interval_ms`: the pause between the frames of streams), and is answered by one line of JSON: what the
//! simulator has received since the line before, and every token that it has issued.

use std::{
    env,
    io::{self, BufRead as _},
    path::PathBuf,
    time::Duration,
};

use serde_json::{Value, json};
use simulator::{Options, RecordedRequest, Service, Simulator};

#[expect(
    clippy::print_stdout,
    reason = "whoever started this program reads its output"
)]
fn main() -> io::Result<()> {
    let directory = env::args_os()
        .nth(1)
        .map_or_else(env::temp_dir, PathBuf::from);
    let ca_file = directory.join("ca.pem");
    let simulator = Simulator::start(Options::default())?;
    simulator.write_ca(&ca_file)?;
    println!(
        "{}",
        json!({
            "platform_url": simulator.platform_url(),
            "license_url": simulator.license_url(),
            "ca_file": ca_file,
            "username": simulator.username(),
            "password": simulator.password(),
            "api_key": simulator.api_key(),
            "license_token": simulator.license_token(),
            "service_account_token": simulator.service_account_token(),
        })
    );
    for line in io::stdin().lock().lines() {
        let settings: Value = serde_json::from_str(&line?)?;
        if let Some(pause) = settings["frame_interval_ms"].as_u64() {
            simulator.set_frame_interval(Duration::from_millis(pause));
        }
        println!("{}", received(&simulator));
    }
    Ok(())
}

fn received(simulator: &Simulator) -> Value {
    let requests: Vec<Value> = simulator.requests().iter().map(request).collect();
    simulator.clear_requests();
    json!({ "requests": requests, "tokens_issued": simulator.tokens_issued() })
}

fn request(request: &RecordedRequest) -> Value {
    let headers: Vec<Value> = request
        .headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    json!({
        "service": match request.service {
            Service::Platform => "platform",
            Service::License => "license",
        },
        "method": request.method.as_str(),
        "target": request.target,
        "headers": headers,
        "body": String::from_utf8_lossy(&request.body),
    })
}
