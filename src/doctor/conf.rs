//! systemd's own configuration files, with their drop-ins, as far as a single key goes.

use std::collections::BTreeMap;
use std::fs;

use super::Machine;

/// Where they are, from the least to the most important (journald.conf(5)).
const FOLDERS: [&str; 4] = [
    "/usr/lib/systemd",
    "/usr/local/lib/systemd",
    "/run/systemd",
    "/etc/systemd",
];

/// The values in force of a file such as `journald.conf`: drop-ins go over the file, in the order of their names,
/// and one of the same name in a more important folder replaces the other.
pub(super) fn read(machine: &Machine, file: &str) -> BTreeMap<String, String> {
    let mut texts: Vec<String> = Vec::new();
    if let Some(text) = FOLDERS
        .iter()
        .rev()
        .find_map(|folder| fs::read_to_string(machine.at(&format!("{folder}/{file}"))).ok())
    {
        texts.push(text);
    }
    let mut drop_ins = BTreeMap::new();
    for folder in FOLDERS {
        let entries = fs::read_dir(machine.at(&format!("{folder}/{file}.d")));
        for path in entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
        {
            if path.extension().is_some_and(|suffix| suffix == "conf") {
                drop_ins.insert(path.file_name().map(ToOwned::to_owned), path);
            }
        }
    }
    texts.extend(
        drop_ins
            .into_values()
            .filter_map(|path| fs::read_to_string(path).ok()),
    );
    let mut values = BTreeMap::new();
    for text in &texts {
        merge(&mut values, text);
    }
    values
}

/// The keys of one file; a key without a value goes back to its default.
fn merge(values: &mut BTreeMap<String, String>, text: &str) {
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';', '[']) {
            continue;
        }
        if let Some((key, value)) = line.split_once('=') {
            let (key, value) = (key.trim(), value.trim());
            if value.is_empty() {
                values.remove(key);
            } else {
                values.insert(key.to_owned(), value.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::machine;
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let machine = machine(&[
            (
                "usr/lib/systemd/journald.conf",
                "[Journal]\nStorage=none\nSystemMaxUse=1G\n",
            ),
            (
                "etc/systemd/journald.conf",
                "[Journal]\n#Storage=volatile\nStorage = auto\n",
            ),
            (
                "usr/lib/systemd/journald.conf.d/50-a.conf",
                "Storage=persistent\n",
            ),
            (
                "etc/systemd/journald.conf.d/50-a.conf",
                "Storage=volatile\nRuntimeMaxUse=8M\n",
            ),
            (
                "etc/systemd/journald.conf.d/60-b.conf",
                "RuntimeMaxUse=\n; x=y\n",
            ),
            ("etc/systemd/journald.conf.d/70-c.off", "Storage=none\n"),
        ]);
        let values = read(&machine, "journald.conf");
        let expected = BTreeMap::from([("Storage".to_owned(), "volatile".to_owned())]);
        assert_eq!(values, expected);
    }
}
