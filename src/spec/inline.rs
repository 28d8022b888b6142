//! Files that monopod itself puts into a container: `files` and `secrets`.
//!
//! A secret's content must never be read here, only looked at from outside.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::cx::Cx;
use super::host::{self, Kind};
use super::mounts;
use super::read;
use super::tree::{At, Item, Key, Radix, Value};
use super::types::{InlineFile, Secret};

/// Most bytes of one inline file.
const MAX_INLINE: usize = 64 << 10;

/// Reads `files`; by the path in the container.
pub fn files(cx: &mut Cx, item: &Item) -> BTreeMap<String, (InlineFile, At)> {
    let mut files = BTreeMap::new();
    let example = "files = { \"/etc/app.conf\" = \"key = 1\" }";
    let Some(table) = read::table(cx, item, "files", example) else {
        return files;
    };
    for (key, item) in &table.entries {
        let path = mounts::container_path(cx, &key.at, &key.name);
        let file = inline_file(cx, key, item);
        let (Some(path), Some(file)) = (path, file) else {
            continue;
        };
        if let Some((_, former)) = files.insert(path, (file, key.at.clone())) {
            cx.error(&key.at, format!("the file `{}` is there twice", key.name))
                .related(&former, "first here");
        }
    }
    files
}

fn inline_file(cx: &mut Cx, key: &Key, item: &Item) -> Option<InlineFile> {
    let what = "files";
    let (content, mode) = match &item.value {
        Value::String(text) => (text.as_str(), 0o644),
        Value::Table(table) => {
            let (mut content, mut mode) = (None, Some(0o644));
            let mut good = true;
            for (key, item) in &table.entries {
                match key.name.as_str() {
                    "content" => {
                        content = read::string(cx, item, "content");
                        good &= content.is_some();
                    }
                    "mode" => mode = mode_bits(cx, item),
                    _ => {
                        read::unknown_key(cx, key, "a file", &["content", "mode"]);
                        good = false;
                    }
                }
            }
            if content.is_none() && good {
                cx.error(&key.at, format!("the file `{}` has no `content`", key.name))
                    .hint("for example { content = \"key = 1\", mode = \"0600\" }");
            }
            (content?, mode?)
        }
        Value::Integer(..)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime
        | Value::Array(_) => {
            read::wrong_kind(cx, item, what, "a table of texts");
            return None;
        }
    };
    if content.len() > MAX_INLINE {
        cx.error(
            &key.at,
            format!("the file `{}` has {} bytes", key.name, content.len()),
        )
        .hint("64 KiB at most; mount larger files with `volumes`");
        return None;
    }
    Some(InlineFile {
        content: content.to_owned(),
        mode,
    })
}

fn mode_bits(cx: &mut Cx, item: &Item) -> Option<u32> {
    let bits = match &item.value {
        Value::String(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            u32::from_str_radix(text, 8).ok()
        }
        Value::Integer(number, Radix::Octal) => u32::try_from(*number).ok(),
        Value::String(_)
        | Value::Integer(..)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime
        | Value::Array(_)
        | Value::Table(_) => None,
    };
    let bits = bits.filter(|bits| *bits <= 0o777);
    if bits.is_none() {
        cx.error(&item.at, "`mode` must be permission bits in octal")
            .hint("for example mode = \"0644\"");
    }
    bits
}

/// Reads `secrets`; by name.
pub fn secrets(cx: &mut Cx, item: &Item) -> BTreeMap<String, (Secret, At)> {
    let mut secrets = BTreeMap::new();
    let example = "secrets = { password = { credential = \"app.password\" } }";
    let Some(table) = read::table(cx, item, "secrets", example) else {
        return secrets;
    };
    for (key, item) in &table.entries {
        if !is_file_name(&key.name) {
            cx.error(&key.at, format!("`{}` is no secret's name", key.name))
                .hint("it becomes a file in /run/secrets: letters, digits, `_`, `.` and `-`");
            continue;
        }
        if let Some(secret) = secret(cx, key, item) {
            secrets.insert(key.name.clone(), (secret, key.at.clone()));
        }
    }
    secrets
}

fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= 128
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn secret(cx: &mut Cx, key: &Key, item: &Item) -> Option<Secret> {
    const HINT: &str =
        "{ credential = \"NAME\" } for a credential of the unit, or { file = \"/path\" }";
    let Value::Table(table) = &item.value else {
        read::wrong_kind(cx, item, &key.name, "a table");
        return None;
    };
    for (inner, _) in &table.entries {
        if inner.name == "environment" {
            cx.error(&inner.at, "a secret cannot come from the environment")
                .hint(HINT);
            return None;
        }
        if !matches!(inner.name.as_str(), "credential" | "file") {
            read::unknown_key(cx, inner, "a secret", &["credential", "file"]);
            return None;
        }
    }
    match (table.get("credential"), table.get("file")) {
        (Some(credential), None) => {
            let name = read::text(cx, credential, "credential")?;
            if !is_file_name(name) {
                cx.error(&credential.at, format!("`{name}` is no credential's name"))
                    .hint("the name that LoadCredential= gives it in the unit");
                return None;
            }
            if cx.host.credential(name) == Some(false) {
                cx.host_finding(
                    &credential.at,
                    &format!("systemd handed over no credential `{name}`"),
                )
                .hint(format!(
                    "add LoadCredential={name}:/path to the unit: systemctl edit monopod"
                ));
            }
            Some(Secret::Credential(name.to_owned()))
        }
        (None, Some(file)) => {
            let path = read::text(cx, file, "file")?;
            secret_file(cx, &file.at, path).map(Secret::File)
        }
        (Some(_), Some(_)) | (None, None) => {
            cx.error(
                &key.at,
                format!("the secret `{}` needs one source", key.name),
            )
            .hint(HINT);
            None
        }
    }
}

fn secret_file(cx: &mut Cx, at: &At, text: &str) -> Option<PathBuf> {
    let Some(path) = mounts::clean(text) else {
        cx.error(at, format!("`{text}` is not an absolute path"))
            .hint("for example { file = \"/etc/monopod/secrets/password\" }");
        return None;
    };
    match cx.host.look(Path::new(&path)) {
        Err(error) => {
            let reason = host::reason(&error);
            cx.host_finding(at, &format!("the secret `{path}` cannot be used: {reason}"));
        }
        Ok(fact) if fact.kind != Kind::File => {
            cx.host_finding(at, &format!("the secret `{path}` is not a regular file"));
        }
        // A group may read it: the daemon's.
        Ok(fact) if fact.mode & 0o037 != 0 => {
            cx.host_finding(
                at,
                &format!(
                    "the secret `{path}` has the mode {:04o}: others than root and the daemon may use it",
                    fact.mode
                ),
            )
            .hint(format!("chgrp monopod {path} && chmod 0640 {path}"));
        }
        Ok(fact) if fact.uid != 0 => {
            cx.host_finding(
                at,
                &format!(
                    "the secret `{path}` belongs to user {}, not to root",
                    fact.uid
                ),
            )
            .hint(format!("chown root {path}"));
        }
        Ok(_) => {
            // Whoever asks may be root, who can read everything; the daemon asks too.
            if let Err(error) = cx.host.read(Path::new(&path))
                && error.kind() == ErrorKind::PermissionDenied
            {
                cx.host_finding(at, &format!("the secret `{path}` cannot be read"))
                    .hint(format!("chgrp monopod {path} && chmod 0640 {path}"));
            }
        }
    }
    Some(path.into())
}
