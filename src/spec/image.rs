//! Image references, by the grammar of distribution's `reference` package.
//!
//! `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`. Pure; nothing is looked up and no
//! default registry is added.

use super::units::BadUnit;

/// Checks a reference; gives it back with `:latest` where it names neither tag nor digest.
pub fn reference(text: &str) -> Result<String, BadUnit> {
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(bad(
            format!("starts with `{scheme}://`"),
            format!("write it without: \"{rest}\""),
        ));
    }
    if text.contains('$') {
        return Err(bad(
            "has a `$` in it".to_owned(),
            "monopod replaces no variables; a drop-in in workload.d can set the image".to_owned(),
        ));
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    if let Some(digest) = digest {
        check_digest(digest)?;
    }
    let (name, tag) = split_tag(rest);
    if let Some(tag) = tag
        && !is_tag(tag)
    {
        return Err(bad(
            format!("has the tag `{tag}`, which is none"),
            "a tag is 1 to 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two"
                .to_owned(),
        ));
    }
    check_name(name)?;
    Ok(if tag.is_none() && digest.is_none() {
        format!("{text}:latest")
    } else {
        text.to_owned()
    })
}

fn bad(why: String, hint: String) -> BadUnit {
    BadUnit { why, hint }
}

/// A tag stands behind the last colon, if no slash follows that one.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        Some(_) | None => (text, None),
    }
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= 128
        && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && tag
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn check_digest(digest: &str) -> Result<(), BadUnit> {
    let (algorithm, hex) = digest.split_once(':').unwrap_or((digest, ""));
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => {
            return Err(bad(
                format!("has a digest of the unknown kind `{algorithm}`"),
                "a digest is sha256: and 64 hexadecimal digits".to_owned(),
            ));
        }
    };
    if hex.len() == length && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(());
    }
    Err(bad(
        "has a digest that is none".to_owned(),
        format!("{algorithm}: and {length} hexadecimal digits in lower case"),
    ))
}

fn check_name(name: &str) -> Result<(), BadUnit> {
    if name.is_empty() {
        return Err(bad(
            "has no name".to_owned(),
            "for example \"registry.example:5000/gateway:1.4\"".to_owned(),
        ));
    }
    if name.len() > 255 {
        return Err(bad(
            "is too long".to_owned(),
            "a name has 255 characters at most".to_owned(),
        ));
    }
    let path = match name.split_once('/') {
        Some((first, path)) if is_host_like(first) => {
            if !is_host(first) {
                return Err(bad(
                    format!("has the registry `{first}`, which is no host name"),
                    "for example \"registry.example:5000/gateway:1.4\"".to_owned(),
                ));
            }
            path
        }
        Some(_) | None => name,
    };
    for component in path.split('/') {
        if !is_component(component) {
            let hint = if component.is_empty() {
                "a name has no empty part between slashes".to_owned()
            } else if component.chars().any(|c| c.is_ascii_uppercase()) {
                format!("names are in lower case: \"{}\"", component.to_lowercase())
            } else {
                "a name is lower-case letters and digits, with `.`, `_`, `__` or `-` between them"
                    .to_owned()
            };
            return Err(bad(format!("has `{component}` in its name"), hint));
        }
    }
    if path.len() == 64 && path.len() == name.len() && path.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad(
            "is an image's ID".to_owned(),
            "write the image's name, so that it can be imported again".to_owned(),
        ));
    }
    Ok(())
}

/// By what Docker tells a registry from a name's first part.
fn is_host_like(first: &str) -> bool {
    first.contains(['.', ':'])
        || first == "localhost"
        || first.chars().any(|c| c.is_ascii_uppercase())
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err() || port.starts_with('+')) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    })
}

/// Runs of lower-case letters and digits, joined by `.`, `_`, `__` or dashes.
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !text.starts_with(alphanumeric) || !text.ends_with(alphanumeric) {
        return false;
    }
    text.split(alphanumeric).all(|separator| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn good_references() {
        for (text, want) in [
            ("nginx", "nginx:latest"),
            ("nginx:1.25", "nginx:1.25"),
            ("example/gateway:1.4.2", "example/gateway:1.4.2"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            (
                "registry.example:5000/a/b_c/d--e:V1_x",
                "registry.example:5000/a/b_c/d--e:V1_x",
            ),
            ("REG.example/a:1", "REG.example/a:1"),
            ("[::1]:5000/a:1", "[::1]:5000/a:1"),
            ("a.b/c__d.e:1", "a.b/c__d.e:1"),
        ] {
            assert_eq!(reference(text).as_deref(), Ok(want), "{text}");
        }
        for name in ["a", "a:1", "reg.example/a:1"] {
            let text = format!("{name}@{DIGEST}");
            assert_eq!(reference(&text), Ok(text.clone()));
        }
    }

    #[test]
    fn bad_references() {
        for (text, why, hint) in [
            ("", "has no name", "example"),
            (":1", "has no name", "example"),
            ("Nginx", "has `Nginx` in its name", "\"nginx\""),
            ("a/B", "has `B` in its name", "\"b\""),
            ("a//b", "has `` in its name", "empty part"),
            ("a___b", "has `a___b` in its name", "between them"),
            ("-a", "has `-a` in its name", "between them"),
            ("a b", "has `a b` in its name", "between them"),
            ("a:", "has the tag ``", "1 to 128"),
            ("a:.x", "has the tag `.x`", "1 to 128"),
            ("docker://a", "starts with `docker://`", "\"a\""),
            ("a:${TAG}", "has a `$` in it", "drop-in"),
            ("reg_x.example/a", "has the registry", "registry.example"),
            ("reg.example:x/a", "has the registry", "registry.example"),
            ("a@md5:00", "unknown kind `md5`", "sha256"),
            ("a@sha256:00", "digest that is none", "64"),
        ] {
            let error = reference(text).expect_err(text);
            assert!(error.why.contains(why), "{text}: {}", error.why);
            assert!(error.hint.contains(hint), "{text}: {}", error.hint);
        }
        assert!(reference(&"a".repeat(64)).is_err(), "an ID");
        assert!(reference(&"g".repeat(256)).is_err(), "too long");
    }
}
