//! Requests and answers that other projects' parsers are tested with, where they are at hand.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

/// Named bytes.
pub(crate) type Case = (String, Vec<u8>);

/// A folder of the corpora; says so where it is not there.
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    let folder = env::var_os("WATSONX_AUTH_PROXY_CORPORA").map_or_else(beside, PathBuf::from);
    let folder = folder.join(name);
    if !folder.is_dir() {
        say(&format!(
            "SKIPPED, there is no {}: set WATSONX_AUTH_PROXY_CORPORA",
            folder.display()
        ));
        return None;
    }
    Some(folder)
}

/// The requests of the gunicorn project in a folder: line ends are written out, real ones are layout.
pub(crate) fn requests(folder: &Path) -> Vec<Case> {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|e| e == "http"))
        .collect();
    files.sort();
    let case = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text: Vec<u8> = fs::read(path).unwrap();
        let layout = |byte: &u8| !matches!(byte, b'\r' | b'\n');
        (
            name,
            unescape(&text.into_iter().filter(layout).collect::<Vec<_>>()),
        )
    };
    files.into_iter().map(case).collect()
}

/// The answers of the llhttp project in a folder: blocks of Markdown, in which a plain line end stands for CR LF and a
/// backslash before it joins lines.
pub(crate) fn answers(folder: &Path) -> Vec<Case> {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    files.sort();
    let mut cases = Vec::new();
    for path in files {
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let (mut title, mut block) = (String::new(), None::<String>);
        for line in text.lines() {
            match (&mut block, line) {
                (None, "```http") => block = Some(String::new()),
                (None, _) => {
                    if let Some(found) = line.strip_prefix("##") {
                        title = found.trim_start_matches('#').trim().to_owned();
                    }
                }
                (Some(text), "```") => {
                    // The end of the last line is the layout's.
                    let text = text.strip_suffix("\\r\\n").unwrap_or(text);
                    cases.push((format!("{file}: {title}"), unescape(text.as_bytes())));
                    block = None;
                }
                (Some(text), line) => match line.strip_suffix('\\') {
                    Some(start) => text.push_str(start),
                    None => {
                        text.push_str(line);
                        text.push_str("\\r\\n");
                    }
                },
            }
        }
    }
    cases
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let hex = |part: &[u8]| {
            let digits = std::str::from_utf8(part).ok()?;
            u8::from_str_radix(digits, 16).ok()
        };
        let (byte, size) = match &text[at..] {
            [b'\\', b'r', ..] => (b'\r', 2),
            [b'\\', b'n', ..] => (b'\n', 2),
            [b'\\', b't', ..] => (b'\t', 2),
            [b'\\', b'0', ..] => (0, 2),
            [b'\\', b'x', a, b, ..] if hex(&[*a, *b]).is_some() => (hex(&[*a, *b]).unwrap(), 4),
            [byte, ..] => (*byte, 1),
            [] => unreachable!("the end is looked for"),
        };
        bytes.push(byte);
        at += size;
    }
    bytes
}

/// Prints how often each outcome was, and which cases they were, past the capture of the test's output.
pub(crate) fn table(what: &str, outcomes: &BTreeMap<&'static str, Vec<String>>) {
    let all: usize = outcomes.values().map(Vec::len).sum();
    say(&format!("{what}: {all}"));
    for (outcome, cases) in outcomes {
        say(&format!(
            "  {:4} {outcome}: {}",
            cases.len(),
            cases.join(", ")
        ));
    }
}

#[expect(
    clippy::print_stdout,
    reason = "a table for who runs the test with --nocapture"
)]
fn say(line: &str) {
    println!("{line}");
}
