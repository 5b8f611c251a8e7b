//! Runs a simulator for clients in other languages: `cargo run -p simulator --example standalone -- DIRECTORY`.
//! With `--cloud` after it, the Watson Data APIs have a host of their own, as on IBM Cloud.
//!
//! Writes the authority to `DIRECTORY/ca.pem`, prints one line of JSON with the addresses and the credentials, and
//! runs until standard input ends. Each line of standard input is a JSON object of settings, `{}` for none
//! (`frame_interval_ms`: the pause between the frames of streams; `revoke_current`: void the token issued last), and is
//! answered by one line of JSON: what the simulator has received since the line before, and every token that it has
//! issued.

use std::{
    env,
    io::{self, BufRead as _},
    path::PathBuf,
    time::Duration,
};

use serde_json::{Value, json};
use simulator::{Options, RecordedRequest, Service, Simulator, TokenState};

#[expect(
    clippy::print_stdout,
    reason = "whoever started this program reads its output"
)]
fn main() -> io::Result<()> {
    let mut arguments = env::args_os().skip(1);
    let directory = arguments.next().map_or_else(env::temp_dir, PathBuf::from);
    let is_cloud = arguments
        .next()
        .is_some_and(|argument| argument == "--cloud");
    let ca_file = directory.join("ca.pem");
    let options = Options::default();
    let data_platform_address = is_cloud.then_some(options.platform_address);
    let simulator = Simulator::start(Options {
        data_platform_address,
        ..options
    })?;
    simulator.write_ca(&ca_file)?;
    let profile = simulator.trusted_profile();
    println!(
        "{}",
        json!({
            "platform_url": simulator.platform_url(),
            "license_url": simulator.license_url(),
            "data_platform_url": simulator.data_platform_url(),
            "ca_file": ca_file,
            "username": simulator.username(),
            "password": simulator.password(),
            "api_key": simulator.api_key(),
            "iam_api_key": simulator.iam_api_key(),
            "compute_resource_token": simulator.compute_resource_token(),
            "profile": {
                "id": profile.id,
                "crn": profile.crn(),
                "name": profile.name,
                "account": profile.account,
            },
            "mcsp_api_key": simulator.mcsp_api_key(),
            "mcsp_scope": simulator.mcsp_scope(),
            "license_token": simulator.license_token(),
            "service_account_token": simulator.service_account_token(),
        })
    );
    for line in io::stdin().lock().lines() {
        let settings: Value = serde_json::from_str(&line?)?;
        if let Some(pause) = settings["frame_interval_ms"].as_u64() {
            simulator.set_frame_interval(Duration::from_millis(pause));
        }
        if settings["revoke_current"] == true {
            simulator.revoke_current();
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
            Service::DataPlatform => "data_platform",
        },
        "method": request.method.as_str(),
        "target": request.target,
        "headers": headers,
        "tokens": request.tokens.iter().map(token).collect::<Vec<_>>(),
        "body": String::from_utf8_lossy(&request.body),
    })
}

fn token(token: &TokenState) -> &'static str {
    match token {
        TokenState::Valid => "valid",
        TokenState::Expired => "expired",
        TokenState::Revoked => "revoked",
        TokenState::Foreign => "foreign",
    }
}
