//! The audit snapshot: a ZIP of CSV files with their checksums and a signature over these.

use std::{
    fmt::Write as _,
    io::{Cursor, Write as _},
    sync::LazyLock,
};

use rcgen::{KeyPair, PKCS_RSA_SHA256, SigningKey as _};
use zip::{ZipWriter, result::ZipResult, write::SimpleFileOptions};

use super::{Period, usage};
use crate::sha256_hex;

/// The snapshot of a period. `signature.rsa` is RSA PKCS #1 with SHA-256 over `checksum.txt`, so that
/// `openssl dgst -sha256 -verify pub_key.pem -signature signature.rsa checksum.txt` accepts it.
pub(crate) fn archive(period: Period) -> Vec<u8> {
    let Period { start, end } = period;
    let mut files: Vec<(String, Vec<u8>)> = [
        ("products", usage::products(period)),
        ("bundled_products", usage::bundled_products(period)),
        ("services", usage::services(period)),
    ]
    .into_iter()
    .map(|(name, table)| {
        (
            format!("{name}_{start}_{end}.csv"),
            table.to_csv().into_bytes(),
        )
    })
    .collect();
    let checksums = files
        .iter()
        .fold(String::new(), |mut lines, (name, content)| {
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{}  {name}", sha256_hex(content));
            lines
        });
    let signature = KEY
        .sign(checksums.as_bytes())
        .expect("an RSA key in memory can sign");
    files.push(("checksum.txt".to_owned(), checksums.into_bytes()));
    files.push(("signature.rsa".to_owned(), signature));
    files.push(("pub_key.pem".to_owned(), KEY.public_key_pem().into_bytes()));
    write(&files).expect("a ZIP in memory can be written")
}

fn write(files: &[(String, Vec<u8>)]) -> ZipResult<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        archive.start_file(name.as_str(), SimpleFileOptions::default())?;
        archive.write_all(content)?;
    }
    Ok(archive.finish()?.into_inner())
}

/// Made with the first snapshot: most simulators never sign one.
static KEY: LazyLock<KeyPair> =
    LazyLock::new(|| KeyPair::generate_for(&PKCS_RSA_SHA256).expect("aws-lc makes RSA keys"));
