//! What only a table can show; that Docker takes the rest is shown against a real one.

use super::*;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

#[test]
fn image_healthchecks() {
    type Row<'a> = (&'a [&'a str], Option<&'a [String]>, Option<&'a [&'a str]>);
    let shell = words(&["/bin/bash", "-ec"]);
    let table: [Row; 8] = [
        (&["CMD", "a", "b c"], None, Some(&["a", "b c"])),
        (
            &["CMD-SHELL", "a | b"],
            None,
            Some(&["/bin/sh", "-c", "a | b"]),
        ),
        (
            &["CMD-SHELL", "a"],
            Some(&shell),
            Some(&["/bin/bash", "-ec", "a"]),
        ),
        (
            &["CMD-SHELL", "a"],
            Some(&[]),
            Some(&["/bin/sh", "-c", "a"]),
        ),
        (&["CMD"], None, None),
        (&["CMD-SHELL"], None, None),
        (&["NONE"], None, None),
        (&[], None, None),
    ];
    for (test, shell, expected) in table {
        let config = HealthConfig {
            test: Some(words(test)),
            ..HealthConfig::default()
        };
        let expected = expected.map(|argv| Health {
            probe: Probe::Exec(words(argv)),
            timing: Timing::default(),
        });
        assert_eq!(health(&config, shell), expected, "{test:?}");
    }
    assert_eq!(health(&HealthConfig::default(), None), None);
}

#[test]
fn image_healthcheck_timing() {
    let config = HealthConfig {
        test: Some(words(&["CMD", "a"])),
        interval: Some(1_500_000_000),
        timeout: Some(0),
        retries: Some(7),
        start_period: Some(2_000_000_000),
        start_interval: Some(-1),
    };
    let timing = health(&config, None).expect("it has one").timing;
    assert_eq!(
        timing,
        Timing {
            interval: Duration::from_millis(1500),
            timeout: Duration::from_secs(30),
            retries: 7,
            start_period: Duration::from_secs(2),
            start_interval: Duration::from_secs(5),
        }
    );
}

#[test]
fn grace_is_rounded_up() {
    let table = [
        (Duration::ZERO, 0),
        (Duration::from_millis(1), 1),
        (Duration::from_secs(10), 10),
        (Duration::from_millis(10_500), 11),
        (Duration::MAX, i32::MAX),
    ];
    for (span, seconds) in table {
        assert_eq!(whole_seconds(span), seconds, "{span:?}");
    }
}

#[test]
fn logging() {
    let (max_size, max_file) = (1024, 1);
    let local = &[
        ("max-size", "1024"),
        ("max-file", "1"),
        ("compress", "false"),
    ][..];
    let table = [
        (Logging::Default, true, "journald", &[][..]),
        (Logging::Default, false, "local", &[]),
        (Logging::Journald, false, "journald", &[]),
        (Logging::None, true, "none", &[]),
        (Logging::Local { max_size, max_file }, true, "local", local),
        (
            Logging::JsonFile { max_size, max_file },
            true,
            "json-file",
            &local[..2],
        ),
    ];
    for (logging, journal, name, expected) in table {
        let config = log_config(&logging, journal);
        assert_eq!(config.typ.as_deref(), Some(name), "{logging:?}");
        let expected = expected
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(config.config, Some(expected), "{logging:?}");
    }
}

#[test]
fn one_port_published_twice() {
    let port = |host, protocol| Port {
        host_ip: None,
        host,
        container: 53,
        protocol,
    };
    let map = port_bindings(&[
        port(Some(53), Protocol::Udp),
        port(Some(5353), Protocol::Udp),
        port(None, Protocol::Tcp),
    ]);
    let hosts = |key: &str| -> Vec<Option<String>> {
        let bindings = map.get(key).cloned().flatten().unwrap_or_default();
        bindings.into_iter().map(|one| one.host_port).collect()
    };
    assert_eq!(
        hosts("53/udp"),
        [Some("53".to_owned()), Some("5353".to_owned())]
    );
    assert_eq!(hosts("53/tcp"), [None]);
}
