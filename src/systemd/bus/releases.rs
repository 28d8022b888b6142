//! What is asked about releases, from the bus's words to ours.
//!
//! It must never let a word through that it does not know.

use super::guard::{Caller, Refusal};
use super::{ReleaseAsk, RequestError, wish_word};
use crate::core::update::{ReleaseId, Wish};

/// Each of them.
const WISHES: [Wish; 4] = [
    Wish::Take,
    Wish::Stage,
    Wish::Activate { force: false },
    Wish::Activate { force: true },
];

/// An offer. The importer, which runs as the daemon's own user, may only leave it to the node's policy.
pub(super) fn offer(
    caller: Caller,
    id: &str,
    wish: &str,
    downgrade: bool,
) -> Result<ReleaseAsk, Refusal> {
    let wish = WISHES
        .into_iter()
        .find(|known| wish_word(*known) == wish)
        .ok_or_else(|| {
            let words = WISHES.map(wish_word).join(", ");
            Refusal::arguments(format!("{wish:?} is no wish; there are {words}"))
        })?;
    if downgrade || wish != Wish::Take {
        caller.root()?;
    }
    Ok(ReleaseAsk::Offer {
        id: self::id(id)?,
        wish,
        downgrade,
    })
}

/// An activation; an empty id is for the one that waits.
pub(super) fn activate(id: &str, force: bool) -> Result<ReleaseAsk, Refusal> {
    let id = (!id.is_empty()).then(|| self::id(id)).transpose()?;
    Ok(ReleaseAsk::Activate { id, force })
}

/// A release's id. Nothing else names one.
pub(super) fn id(text: &str) -> Result<ReleaseId, Refusal> {
    ReleaseId::new(text).ok_or_else(|| {
        let text: String = text.chars().take(40).collect();
        RequestError::NotFound(format!(
            "{text:?} is no release id, which has {} lower-case hexadecimal digits",
            ReleaseId::DIGITS
        ))
        .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_importer_may_leave_a_release_to_the_policy_and_no_more() {
        let id = "0123456789ab";
        for (caller, wish, downgrade, may) in [
            (Caller::Ourselves, "take", false, true),
            (Caller::Ourselves, "take", true, false),
            (Caller::Ourselves, "stage", false, false),
            (Caller::Ourselves, "activate", false, false),
            (Caller::Ourselves, "activate-now", false, false),
            (Caller::Root, "take", true, true),
            (Caller::Root, "stage", true, true),
            (Caller::Root, "activate-now", false, true),
            (Caller::Root, "", false, false),
        ] {
            let found = offer(caller, id, wish, downgrade);
            assert_eq!(found.is_ok(), may, "{caller:?} {wish} {downgrade}");
        }
        assert!(Caller::Ourselves.root().is_err());
    }
}
