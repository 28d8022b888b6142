//! The wall clock. Nothing of monopod hangs on it; certificates and whoever reads the journal do.

use std::time::{Duration, SystemTime};

use super::systemd::Systemd;
use super::{Check, Finding, Machine, Run};

/// The check.
pub(super) const CHECK: Check = Check {
    id: "clock",
    title: "the wall clock: believable, synchronised, kept by a battery",
    run: Run::Asks(|machine| {
        Box::pin(async move {
            let synchronised = if machine.booted_by_systemd() {
                match Systemd::connect(&machine.bus).await {
                    Ok(systemd) => systemd.clock_synchronised().await,
                    Err(_) => None,
                }
            } else {
                None
            };
            judge(&Facts {
                now: SystemTime::now(),
                known: known(&machine),
                synchronised,
                rtc: rtc(&machine),
            })
        })
    }),
};

struct Facts {
    now: SystemTime,
    /// A moment that has passed for sure: when this program was made.
    known: SystemTime,
    synchronised: Option<bool>,
    rtc: bool,
}

fn known(machine: &Machine) -> SystemTime {
    std::fs::metadata(machine.at("/proc/self/exe"))
        .and_then(|meta| meta.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn rtc(machine: &Machine) -> bool {
    std::fs::read_dir(machine.at("/sys/class/rtc")).is_ok_and(|mut clocks| clocks.next().is_some())
}

fn judge(facts: &Facts) -> Finding {
    const WHO: &str = "no timer of monopod minds; certificates and the journal's times do";
    // A time zone's worth of grace: some machines keep local time in the hardware.
    let past = facts
        .known
        .checked_sub(Duration::from_secs(86_400))
        .unwrap_or(facts.known);
    if facts.now < past {
        return Finding::warning(format!(
            "the clock is behind the day this program was made; {WHO}"
        ))
        .hint("timedatectl set-time, or a time server: timedatectl set-ntp true");
    }
    let battery =
        "without a clock with a battery the time is wrong at each boot until a server is reached";
    match (facts.synchronised, facts.rtc) {
        (Some(false), true) => {
            Finding::note(format!("not synchronised; {WHO}")).hint("timedatectl set-ntp true")
        }
        (Some(false), false) => Finding::note(format!("not synchronised, and {battery}; {WHO}"))
            .hint("timedatectl set-ntp true"),
        (Some(true), true) => Finding::ok("synchronised, and kept by a hardware clock"),
        (Some(true), false) => Finding::ok(format!("synchronised; {battery}")),
        (None, true) => Finding::ok("believable; nobody says whether it is synchronised"),
        (None, false) => Finding::note(format!("believable; {battery}; {WHO}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn judgements() {
        let made = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        let (later, hour) = (
            made + Duration::from_secs(9),
            made - Duration::from_secs(3600),
        );
        let table = [
            (later, Some(true), true, State::Ok),
            (later, Some(true), false, State::Ok),
            (later, Some(false), true, State::Note),
            (later, Some(false), false, State::Note),
            (later, None, true, State::Ok),
            (later, None, false, State::Note),
            (hour, Some(true), true, State::Ok),
            (SystemTime::UNIX_EPOCH, Some(true), true, State::Warning),
        ];
        for (now, synchronised, rtc, state) in table {
            let found = judge(&Facts {
                now,
                known: made,
                synchronised,
                rtc,
            });
            assert_eq!(found.state, state, "{found:?}");
        }
    }
}
