//! Runs a simulator for clients in other languages: `cargo run -p simulator --example standalone -- DIRECTORY`.
//!
//! Writes the authority to `DIRECTORY/ca.pem`, prints one line of JSON with the addresses and the credentials, and
//! runs until standard input ends.

use std::{env, io, path::PathBuf};

use simulator::{Options, Simulator};

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
        serde_json::json!({
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
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
