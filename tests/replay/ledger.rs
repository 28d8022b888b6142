//! The daemon's ledger: the old record or the new one, and never one that forgets or that gives up.

use std::fs;
use std::path::Path;

use monopod::core::ledger::{Budgets, Durable};
use monopod::daemon::ledger::{read, write};
use monopod::paths::Paths;

use crate::deed;
use crate::scenario::{Ends, Judge, Place, Scenario};

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "ledger: the first write",
        setup: |place| make(place, &[]),
        command: |place| deed("ledger-write", &place.root),
        judge,
    },
    Scenario {
        name: "ledger: the second write",
        setup: |place| make(place, &[1]),
        command: |place| deed("ledger-write", &place.root),
        judge,
    },
    Scenario {
        name: "ledger: any later write",
        setup: |place| make(place, &[1, 2, 3]),
        command: |place| deed("ledger-write", &place.root),
        judge,
    },
    Scenario {
        name: "ledger: several writes",
        setup: |place| make(place, &[1]),
        command: |place| deed("ledger-writes", &place.root),
        judge: |ends| one_of(ends, &[2, 3, 4]),
    },
    Scenario {
        name: "ledger: a damaged one is replaced",
        setup: |place| {
            make(place, &[1, 2]);
            damage(place);
        },
        command: |place| deed("ledger-read", &place.root),
        judge,
    },
    Scenario {
        name: "ledger: a damaged one without one before it",
        setup: |place| {
            make(place, &[1]);
            damage(place);
        },
        command: |place| deed("ledger-read", &place.root),
        judge,
    },
];

/// A value that can be told from others.
fn durable(withheld: u32) -> Durable {
    Durable {
        budgets: Budgets {
            withheld,
            ..Budgets::default()
        },
        ..Durable::default()
    }
}

fn make(place: &Place, values: &[u32]) {
    let paths = Paths::new(&place.root);
    fs::create_dir_all(paths.state()).expect("a folder");
    for value in values {
        write(&paths, &durable(*value)).expect("written");
    }
}

fn damage(place: &Place) {
    fs::write(Paths::new(&place.root).ledger(), "monopod-led").expect("damaged");
}

/// What the recorded process does.
pub fn act(name: &str, root: &Path) -> Result<(), String> {
    let paths = Paths::new(root);
    let write = |value| write(&paths, &durable(value)).map_err(|error| error.to_string());
    match name {
        "ledger-write" => write(9),
        "ledger-writes" => (2..5).try_for_each(write),
        "ledger-read" => read(&paths).map(drop).map_err(|(_, error)| error),
        _ => Err(format!("no deed is called {name}")),
    }
}

fn recovered(root: &Path) -> Result<Durable, String> {
    read(&Paths::new(root)).map_err(|(_, error)| error)
}

fn judge(ends: &Ends<'_>) -> Judge {
    one_of(ends, &[])
}

/// Old, new, or one of those between.
fn one_of(ends: &Ends<'_>, between: &[u32]) -> Judge {
    let old = recovered(ends.before);
    let new = recovered(ends.after);
    let between: Vec<Durable> = between.iter().copied().map(durable).collect();
    Box::new(move |root, done| {
        let (old, new) = (old.clone()?, new.clone()?);
        let found = recovered(root)?;
        if found != new && (done || found != old && !between.contains(&found)) {
            return Err(format!("found {found:?}, where {old:?} became {new:?}"));
        }
        // The next one reads the same, and can write.
        if recovered(root)? != found {
            return Err(format!("found {found:?}, and then another"));
        }
        let next = durable(77);
        write(&Paths::new(root), &next).map_err(|error| error.to_string())?;
        if recovered(root)? == next {
            Ok(())
        } else {
            Err("what was written next is not read".to_owned())
        }
    })
}
