//! `monopod slice`: puts the limits of `[slice]` in `node.toml` on `monopod.slice`. The unit runs it as root.

use super::feed::node;
use super::{block_on, complain};
use crate::exit::Exit;
use crate::paths::Paths;
use crate::systemd::BusAddress;
use crate::systemd::manager::{self, OrderError};

/// The slice of the containers.
const SLICE: &str = "monopod.slice";

/// Sets what is named, and takes back what was named before.
pub fn run(paths: &Paths) -> Exit {
    let node = match node(paths) {
        Ok(node) => node,
        Err((exit, text)) => {
            complain(format_args!(
                "the limits of {SLICE} stay as they are: {text}"
            ));
            return exit;
        }
    };
    block_on(async {
        match manager::limit(&BusAddress::system(), SLICE, &node.slice).await {
            Ok(()) => Exit::Done,
            Err(error) => {
                complain(format_args!(
                    "the limits of {SLICE} stay as they are: {error}"
                ));
                match error {
                    OrderError::Unreachable(..) => Exit::Unreachable,
                    OrderError::NoSuchUnit(_) | OrderError::Refused(_) => Exit::Failed,
                }
            }
        }
    })
}
