//! What the program is to say, word for word, as files in `golden/`. `MONOPOD_BLESS=1` writes them anew.

use std::fs;
use std::path::Path;

/// Digests depend on the compressor's version.
pub fn story(stderr: &str) -> String {
    let mut text = String::new();
    let mut rest = stderr;
    while let Some(at) = rest.find("sha256:") {
        text.push_str(&rest[..at]);
        text.push_str("sha256:...");
        rest = rest[at + 7..].trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    text + rest
}

/// Compares with the golden file of this name.
#[track_caller]
pub fn matches(name: &str, found: &str) {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/bundle/golden/{name}.txt"));
    if std::env::var_os("MONOPOD_BLESS").is_some() {
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(&file, found).expect("a golden file");
        return;
    }
    let want = fs::read_to_string(&file).unwrap_or_default();
    for (want, found) in want.lines().zip(found.lines()) {
        assert_eq!(
            found,
            want,
            "MONOPOD_BLESS=1 writes {} anew",
            file.display()
        );
    }
    assert_eq!(found.lines().count(), want.lines().count());
}
