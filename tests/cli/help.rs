//! The help of every verb, and wrong usage.

use crate::support::Monopod;

const VERBS: [&str; 12] = [
    "check", "plan", "status", "logs", "reload", "restart", "import", "images", "bundle",
    "release", "doctor", "daemon",
];

#[test]
fn help_of_every_verb() {
    for verb in VERBS {
        let outcome = Monopod::new(&[verb, "--help"]).run();
        outcome.matches(&format!("help/{verb}"));
        let example = format!("  monopod {verb}");
        assert!(
            outcome.stdout.contains("Examples:\n") && outcome.stdout.contains(&example),
            "{verb} has an example"
        );
        assert!(
            outcome.stdout.contains("Exit codes: 0 "),
            "{verb} says how it ends"
        );
    }
    let prune = Monopod::new(&["images", "prune", "--help"]).run();
    prune.matches("help/images-prune");
    assert!(prune.stdout.contains("  monopod images prune"));
    for verb in [
        "list", "show", "stage", "activate", "rollback", "retry", "hold", "unhold", "pin", "unpin",
    ] {
        let outcome = Monopod::new(&["release", verb, "--help"]).run();
        outcome.matches(&format!("help/release-{verb}"));
        let example = format!("  monopod release {verb}");
        assert!(outcome.stdout.contains(&example), "{verb} has an example");
        assert!(outcome.stdout.contains("Exit codes: 0 "), "{verb}");
    }
    for verb in ["keygen", "create", "inspect", "verify", "sign"] {
        let outcome = Monopod::new(&["bundle", verb, "--help"]).run();
        outcome.matches(&format!("help/bundle-{verb}"));
    }
}

#[test]
fn the_overview_names_every_verb() {
    let outcome = Monopod::new(&["--help"]).run();
    for verb in VERBS {
        assert!(
            outcome.stdout.contains(&format!("\n  {verb} ")),
            "{verb} is listed"
        );
    }
    outcome.matches("help/monopod");
}

#[test]
fn wrong_usage() {
    let table: [(&str, &[&str]); 6] = [
        ("unknown-verb", &["stauts"]),
        ("unknown-option", &["status", "--jsno"]),
        ("missing-value", &["import", "--as"]),
        ("no-archive", &["import"]),
        ("too-many", &["restart", "app", "broker"]),
        ("both", &["import", "--preload", "app.tar"]),
    ];
    for (name, args) in table {
        let outcome = Monopod::new(args).run();
        assert_eq!(
            (outcome.code, outcome.stdout.as_str()),
            (Some(2), ""),
            "{name}"
        );
        outcome.matches(&format!("usage/{name}"));
    }
}
