//! What of the host a container sees: volumes, memory file systems, devices.
//!
//! Compose's short and long forms. A host path that is missing is a finding,
//! never something to be made.

use std::io::ErrorKind;
use std::path::Path;

use super::cx::Cx;
use super::host::{self, Kind};
use super::names;
use super::read;
use super::tree::{At, Item, Table, Value};
use super::types::{Device, Mount, MountSource, Tmpfs};

/// Takes `//`, `.` and a last `/` out of an absolute path; `None` if it is not absolute or climbs up.
pub fn clean(path: &str) -> Option<String> {
    let rest = path.strip_prefix('/')?;
    let mut out = String::with_capacity(path.len());
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part => {
                out.push('/');
                out.push_str(part);
            }
        }
    }
    if out.is_empty() {
        out.push('/');
    }
    Some(out)
}

/// A path in the container that something is put on.
pub fn container_path(cx: &mut Cx, at: &At, text: &str) -> Option<String> {
    match clean(text) {
        Some(path) if path == "/" => {
            cx.error(at, "nothing can be mounted over the container's `/`");
            None
        }
        Some(path) => Some(path),
        None => {
            cx.error(at, format!("`{text}` is no path in the container"))
                .hint("a path there begins with `/` and has no `..`");
            None
        }
    }
}

/// The path in the container that an entry of `volumes`, `tmpfs` or `devices` is for, if it is a good one.
pub fn target_of(key: &str, item: &Item) -> Option<String> {
    let text = match &item.value {
        Value::String(text) => {
            let mut parts = text.split(':');
            let first = parts.next();
            match (key, parts.next()) {
                ("tmpfs", _) | ("devices", None) => first,
                (_, second) => second,
            }
        }
        Value::Table(table) => table.get("target").and_then(Item::as_str),
        Value::Integer(..)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime
        | Value::Array(_) => None,
    }?;
    clean(text)
}

/// Reads `volumes`, each with the place that it comes from.
pub fn volumes(cx: &mut Cx, item: &Item) -> Vec<(Mount, At)> {
    let mut mounts = Vec::new();
    for entry in read::list(cx, item, "volumes", "[\"data:/var/lib/app\"]") {
        let mount = match &entry.value {
            Value::String(text) => short_volume(cx, &entry.at, text),
            Value::Table(table) => long_volume(cx, &entry.at, table),
            Value::Integer(..)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime
            | Value::Array(_) => {
                read::wrong_kind(
                    cx,
                    entry,
                    "volumes",
                    "a list of strings such as \"data:/var/lib/app\"",
                );
                None
            }
        };
        mounts.extend(mount.map(|mount| (mount, entry.at.clone())));
    }
    mounts
}

fn short_volume(cx: &mut Cx, at: &At, text: &str) -> Option<Mount> {
    let mut parts = text.splitn(3, ':');
    let source = parts.next().unwrap_or_default();
    let Some(target) = parts.next() else {
        let hint = if source.starts_with('/') {
            format!("give it a name, so that its data is found again: \"data:{source}\"")
        } else {
            format!("say where it goes: \"{source}:/path/in/container\"")
        };
        cx.error(at, format!("volume `{text}` has only one part"))
            .hint(hint);
        return None;
    };
    let mut read_only = false;
    for option in parts
        .next()
        .into_iter()
        .flat_map(|options| options.split(','))
    {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            _ => {
                let hint = match option {
                    "z" | "Z" => {
                        "label the folder on the host (semanage fcontext), or set security_opt = [\"label=disable\"]"
                    }
                    _ => "the options are `ro` and `rw`",
                };
                cx.error(at, format!("volume `{text}` has the option `{option}`"))
                    .hint(hint);
                return None;
            }
        }
    }
    let source = if source.starts_with(['/', '.', '~']) {
        bind(cx, at, source)
    } else {
        volume(cx, at, source)
    };
    let target = container_path(cx, at, target);
    Some(Mount {
        source: source?,
        target: target?,
        read_only,
    })
}

fn long_volume(cx: &mut Cx, at: &At, table: &Table) -> Option<Mount> {
    const KEYS: [&str; 4] = ["type", "source", "target", "read_only"];
    let (mut kind, mut source, mut target, mut read_only) = (None, None, None, false);
    let mut good = true;
    for (key, item) in &table.entries {
        let found = match key.name.as_str() {
            "type" => read::text(cx, item, "type").map(|text| kind = Some((text, &item.at))),
            "source" => read::text(cx, item, "source").map(|text| source = Some((text, &item.at))),
            "target" => read::text(cx, item, "target").map(|text| target = Some((text, &item.at))),
            "read_only" => read::boolean(cx, item, "read_only").map(|value| read_only = value),
            "bind" | "volume" | "tmpfs" | "consistency" => {
                cx.error(&key.at, format!("`{}` is not supported", key.name))
                    .hint("only type, source, target and read_only are");
                None
            }
            _ => {
                read::unknown_key(cx, key, "a volume", &KEYS);
                None
            }
        };
        good &= found.is_some();
    }
    if !good {
        return None;
    }
    let (Some((source, source_at)), Some((target, target_at))) = (source, target) else {
        let missing = if source.is_none() { "source" } else { "target" };
        cx.error(at, format!("this volume has no `{missing}`"))
            .hint("for example { type = \"bind\", source = \"/etc/app\", target = \"/etc/app\" }");
        return None;
    };
    let source = match kind {
        Some(("bind", _)) => bind(cx, source_at, source),
        Some(("volume", _)) => volume(cx, source_at, source),
        Some((other, kind_at)) => {
            let hint = if other == "tmpfs" {
                "write it into `tmpfs`"
            } else {
                "the types are \"bind\" and \"volume\""
            };
            cx.error(kind_at, format!("unknown type `{other}`"))
                .hint(hint);
            None
        }
        None => {
            cx.error(at, "this volume has no `type`")
                .hint("the types are \"bind\" and \"volume\"");
            None
        }
    };
    let target = container_path(cx, target_at, target);
    Some(Mount {
        source: source?,
        target: target?,
        read_only,
    })
}

fn bind(cx: &mut Cx, at: &At, text: &str) -> Option<MountSource> {
    if !text.starts_with('/') {
        cx.error(at, format!("`{text}` is a relative path"))
            .hint("write the whole path of the host, or a volume's name without `/`");
        return None;
    }
    let Some(path) = clean(text) else {
        cx.error(at, format!("`{text}` has `..` in it"))
            .hint("write the path that it leads to");
        return None;
    };
    // What may not be looked at may well be there: then the engine, which sees everything, has the word.
    if let Err(error) = cx.host.look(Path::new(&path))
        && error.kind() != ErrorKind::PermissionDenied
    {
        let reason = host::reason(&error);
        cx.host_finding(at, &format!("`{path}` cannot be mounted: {reason}"))
            .hint("make the folder or file first: monopod makes none on its own");
    }
    Some(MountSource::Bind(path.into()))
}

fn volume(cx: &mut Cx, at: &At, name: &str) -> Option<MountSource> {
    let good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= 128
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if good {
        return Some(MountSource::Volume(name.to_owned()));
    }
    let hint = if name.contains('/') {
        "a path of the host begins with `/`, a volume's name has none"
    } else {
        "a name is letters, digits, `_`, `.` and `-`, and begins with a letter or digit"
    };
    cx.error(at, format!("`{name}` is no volume's name"))
        .hint(hint);
    None
}

/// Reads `tmpfs`.
pub fn tmpfs(cx: &mut Cx, item: &Item) -> Vec<(Tmpfs, At)> {
    let mut found = Vec::new();
    for entry in read::list(cx, item, "tmpfs", "[\"/run:size=64m\"]") {
        let Some(text) = read::text(cx, entry, "tmpfs") else {
            continue;
        };
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let good = tmpfs_options(cx, &entry.at, options);
        if let Some(target) = container_path(cx, &entry.at, target)
            && good
        {
            let options = options.to_owned();
            found.push((Tmpfs { target, options }, entry.at.clone()));
        }
    }
    found
}

fn tmpfs_options(cx: &mut Cx, at: &At, options: &str) -> bool {
    let mut good = true;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let digits = |radix| {
            value.is_some_and(|v| !v.is_empty() && v.chars().all(|c: char| c.is_digit(radix)))
        };
        let fits = match name {
            "size" => value.is_some_and(|v| {
                v.strip_suffix('%').map_or_else(
                    || super::units::size(v).is_ok(),
                    |percent| percent.parse::<u8>().is_ok(),
                )
            }),
            "mode" => digits(8),
            "uid" | "gid" | "nr_inodes" | "nr_blocks" => digits(10),
            "mpol" => value.is_some_and(|v| !v.is_empty()),
            _ if names::TMPFS_OPTIONS.contains(&name) => value.is_none(),
            _ => {
                let hint = names::nearest(name, names::TMPFS_OPTIONS.into_iter()).map_or_else(
                    || "for example \"/run:size=64m,mode=0755,noexec\"".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                );
                cx.error(at, format!("unknown tmpfs option `{name}`"))
                    .hint(hint);
                good = false;
                continue;
            }
        };
        if !fits {
            cx.error(at, format!("the tmpfs option `{option}` has a bad value"))
                .hint("for example \"/run:size=64m,mode=0755,noexec\"");
            good = false;
        }
    }
    good
}

/// Reads `devices`.
pub fn devices(cx: &mut Cx, item: &Item) -> Vec<(Device, At)> {
    let mut found = Vec::new();
    for entry in read::list(cx, item, "devices", "[\"/dev/ttyUSB0:/dev/ttyS9\"]") {
        let device = match &entry.value {
            Value::String(text) => short_device(cx, &entry.at, text),
            Value::Table(table) => long_device(cx, &entry.at, table),
            Value::Integer(..)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime
            | Value::Array(_) => {
                read::wrong_kind(
                    cx,
                    entry,
                    "devices",
                    "a list of strings such as \"/dev/ttyUSB0\"",
                );
                None
            }
        };
        found.extend(device.map(|device| (device, entry.at.clone())));
    }
    found
}

fn short_device(cx: &mut Cx, at: &At, text: &str) -> Option<Device> {
    let mut parts = text.split(':');
    let host = parts.next().unwrap_or_default();
    let container = parts.next().unwrap_or(host);
    let permissions = parts.next().unwrap_or("rwm");
    if parts.next().is_some() {
        cx.error(at, format!("device `{text}` has too many colons"))
            .hint("a path with a colon goes into the long form: { source = \"/dev/...\", target = \"/dev/...\" }");
        return None;
    }
    device(cx, at, host, container, permissions)
}

fn long_device(cx: &mut Cx, at: &At, table: &Table) -> Option<Device> {
    const KEYS: [&str; 3] = ["source", "target", "permissions"];
    let (mut source, mut target, mut permissions) = (None, None, "rwm");
    for (key, item) in &table.entries {
        match key.name.as_str() {
            "source" => source = Some(read::text(cx, item, "source")?),
            "target" => target = Some(read::text(cx, item, "target")?),
            "permissions" => permissions = read::text(cx, item, "permissions")?,
            _ => {
                read::unknown_key(cx, key, "a device", &KEYS);
                return None;
            }
        }
    }
    let Some(source) = source else {
        cx.error(at, "this device has no `source`")
            .hint("for example { source = \"/dev/ttyUSB0\", target = \"/dev/ttyS9\" }");
        return None;
    };
    device(cx, at, source, target.unwrap_or(source), permissions)
}

fn device(cx: &mut Cx, at: &At, host: &str, container: &str, permissions: &str) -> Option<Device> {
    let Some(host) = clean(host) else {
        let hint = if host.contains('=') {
            "for a graphics processor write gpus = \"all\""
        } else {
            "for example \"/dev/ttyUSB0\" or \"/dev/serial/by-id/usb-FTDI-if00:/dev/ttyS9\""
        };
        cx.error(at, format!("`{host}` is no path of a device"))
            .hint(hint);
        return None;
    };
    let container = container_path(cx, at, container)?;
    let good = !permissions.is_empty()
        && permissions.chars().all(|c| matches!(c, 'r' | 'w' | 'm'))
        && permissions.len() <= 3;
    if !good {
        cx.error(at, format!("`{permissions}` are no permissions"))
            .hint("some of `r` (read), `w` (write), `m` (make nodes)");
        return None;
    }
    match cx.host.look(Path::new(&host)) {
        Ok(fact) if matches!(fact.kind, Kind::Device | Kind::Folder) => {}
        Ok(_) => {
            cx.host_finding(at, &format!("`{host}` is not a device"));
        }
        // As with a mount: the engine has the word.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
        Err(error) => {
            let reason = host::reason(&error);
            cx.host_finding(at, &format!("the device `{host}` cannot be used: {reason}"))
                .hint("is it plugged in? paths below /dev/serial/by-id hold whatever the port");
        }
    }
    Some(Device {
        host,
        container,
        permissions: permissions.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (path, want) in [
            ("/", Some("/")),
            ("/a//b/./c/", Some("/a/b/c")),
            ("/a/../b", None),
            ("a", None),
            ("", None),
            ("/..a", Some("/..a")),
        ] {
            assert_eq!(clean(path).as_deref(), want, "{path}");
        }
    }
}
