//! What a bundle's reader wants to know of the workload file in it: that it is one, and its name.
//!
//! All else is checked with the node's own drop-ins, when the release is staged.

use serde::Deserialize;

/// The workload's name, from bytes that had the listed digest.
///
/// # Errors
///
/// One line for people.
pub fn name(bytes: &[u8]) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    match toml::from_str::<Named>(text) {
        Ok(Named { name }) if !name.is_empty() => Ok(name),
        Ok(_) => Err("its name is empty".to_owned()),
        Err(error) => {
            let text: String = error.message().chars().take(200).collect();
            Err(text.escape_debug().to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(
            name(b"name = \"gateway\"\n[containers.app]\n"),
            Ok("gateway".to_owned())
        );
        let wrong: [&[u8]; 6] = [b"", b"x", b"name = 1", b"name = \"\"", b"\xff", b"[name]"];
        for text in wrong {
            let reason = name(text).expect_err("no workload");
            assert!(!reason.contains('\n'), "{reason}");
        }
    }
}
