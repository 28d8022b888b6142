//! `monopod feed`: gives the engine an image of the store and reports in JSON lines. The helper of
//! the daemon and of `import`.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;

use super::{block_on, complain};
use crate::core::api::Fault;
use crate::engine::{self, Docker, Fed};
use crate::exit::Exit;
use crate::feed::{Line, feed, verify};
use crate::image::Store;
use crate::owner::{self, Keep};
use crate::paths::Paths;
use crate::spec;
use crate::spec::host::ThisHost;
use crate::spec::types::Node;

/// How often the daemon is told that something moves.
const SAY: Duration = Duration::from_secs(1);

/// Arguments of `monopod feed`.
#[derive(Debug, Args)]
pub struct Feed {
    /// The image's reference
    reference: String,
    /// The image's ID, where its name may stand for another one
    #[arg(long)]
    id: Option<String>,
    /// Only read it, every byte, and see whether it is whole
    #[arg(long)]
    verify: bool,
}

/// Feeds, and prints a [`Line`] whenever something moved and at the end.
pub fn run(paths: &Paths, arguments: &Feed) -> Exit {
    let fault = |text: String| Line::Failed(Fault::Refused(text));
    if let Err(text) = owner::become_owner(paths, Keep::Nothing) {
        say(&fault(text));
        return Exit::Failed;
    }
    // Without the daemon the work is for nobody; the next one asks again.
    owner::end_with_parent();
    block_on(async {
        let line = match node(paths).and_then(|node| Ok((engine(&node)?, node))) {
            Err((_, text)) => fault(text),
            Ok((engine, node)) => match Store::open(&paths.store()) {
                Err(error) => fault(error.to_string()),
                Ok(store) => {
                    let mut said: Option<Instant> = None;
                    let moved = || {
                        if said.is_none_or(|said| said.elapsed() >= SAY) {
                            said = Some(Instant::now());
                            say(&Line::Moved);
                        }
                    };
                    let (reference, id) = (&arguments.reference, arguments.id.as_deref());
                    let fed = if arguments.verify {
                        verify(&store, id.unwrap_or(reference), moved).map(|()| Fed {
                            sent: 0,
                            skipped: 0,
                        })
                    } else {
                        feed(&store, &node.store, &engine, reference, id, moved).await
                    };
                    match fed {
                        Ok(fed) => Line::Done {
                            sent: fed.sent,
                            skipped: fed.skipped,
                        },
                        Err(fault) => Line::Failed(fault),
                    }
                }
            },
        };
        say(&line);
        if matches!(line, Line::Done { .. }) {
            Exit::Done
        } else {
            Exit::Failed
        }
    })
}

/// The node file; what is wrong with it otherwise.
pub fn node(paths: &Paths) -> Result<Node, (Exit, String)> {
    spec::load_node(paths, &ThisHost::default())
        .map(|loaded| loaded.value)
        .map_err(|invalid| {
            let text = format!("{invalid}; `monopod check` shows it in full");
            (Exit::Invalid, text)
        })
}

/// The engine that the node file and the environment name.
pub fn engine(node: &Node) -> Result<Docker, (Exit, String)> {
    engine::socket(node, std::env::var("DOCKER_HOST").ok().as_deref())
        .map(|socket| Docker::connect(&socket))
        .map_err(|text| (Exit::Invalid, text))
}

fn say(line: &Line) {
    let Ok(text) = serde_json::to_string(line) else {
        return;
    };
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        // Nobody listens any more; the engine is given the image all the same.
        complain("the daemon does not listen any more");
    }
}
