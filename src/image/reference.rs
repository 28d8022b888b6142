//! Image references in one familiar form, so that every tool's spelling of a name finds the same image.
//!
//! `docker.io/library/busybox`, `library/busybox:latest` and `busybox` are all `busybox:latest`.

/// A text that is no usable image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image reference: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: &'static str,
}

/// The familiar form: no `docker.io/library/`, always with a tag (`:latest` if none is named).
pub fn normalise(text: &str) -> Result<String, ReferenceError> {
    let fail = |reason| ReferenceError {
        text: text.chars().take(100).collect(),
        reason,
    };
    if text.contains('@') {
        return Err(fail("a name by digest cannot name an image of an archive"));
    }
    // A colon before the last slash belongs to a registry's port.
    let (name, tag) = match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (text, "latest"),
    };
    if !is_tag(tag) {
        return Err(fail("the tag has characters that a tag cannot have"));
    }
    let (registry, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.chars().any(char::is_uppercase) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    };
    if let Some(registry) = registry
        && !is_registry(registry)
    {
        return Err(fail("the registry's name is not a host name"));
    }
    if !path.split('/').all(is_component) {
        return Err(fail(
            "a name is lower-case letters, digits and single separators between them",
        ));
    }
    let (registry, path) = match registry {
        None | Some("docker.io" | "index.docker.io") => {
            (None, path.strip_prefix("library/").unwrap_or(path))
        }
        other => (other, path),
    };
    let name = registry.map_or_else(|| path.to_owned(), |r| format!("{r}/{path}"));
    if name.len() > 255 {
        return Err(fail("longer than 255 bytes"));
    }
    Ok(format!("{name}:{tag}"))
}

fn is_tag(tag: &str) -> bool {
    let mut bytes = tag.bytes();
    tag.len() <= 128
        && bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_registry(text: &str) -> bool {
    let (host, port) = text
        .split_once(':')
        .map_or((text, None), |(h, p)| (h, Some(p)));
    let labels_fit = host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    });
    labels_fit && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    plain(first)
        && plain(last)
        && bytes
            .iter()
            .all(|&b| plain(b) || matches!(b, b'.' | b'_' | b'-'))
        && bytes.split(|&b| plain(b)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_every_spelling() {
        for (text, form) in [
            ("busybox", "busybox:latest"),
            ("library/busybox:latest", "busybox:latest"),
            ("docker.io/library/busybox:1", "busybox:1"),
            ("index.docker.io/library/busybox:1", "busybox:1"),
            ("docker.io/example/gateway:1.4.2", "example/gateway:1.4.2"),
            ("example/gateway:1.4.2", "example/gateway:1.4.2"),
            ("localhost/gw", "localhost/gw:latest"),
            (
                "localhost:5000/a/b__c/d---e",
                "localhost:5000/a/b__c/d---e:latest",
            ),
            (
                "registry.example.com:5000/gw:v_1",
                "registry.example.com:5000/gw:v_1",
            ),
        ] {
            assert_eq!(normalise(text).as_deref(), Ok(form), "{text}");
        }
    }

    #[test]
    fn refuses_what_names_nothing() {
        let long = "a".repeat(256);
        for text in [
            "",
            ":",
            "a:",
            ":a",
            "a//b",
            "/a",
            "a/",
            "a b",
            "a:b c",
            "a..b",
            "a___b",
            "a-",
            "../x",
            "a/../b",
            "a\n",
            "é",
            "x@sha256:00",
            "ex_ample.com/a",
            "a:.b",
            "host:port/a",
            &long,
        ] {
            assert!(normalise(text).is_err(), "{text}");
        }
    }
}
