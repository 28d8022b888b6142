//! What `systemd-analyze calendar` makes of an expression, against what we make of it.

use std::process::Command;

use super::civil::{Civil, DAY};
use super::{Calendar, tests};

/// Elapses that are compared for each expression and base time.
const ELAPSES: usize = 12;

/// Expressions by what they are about; about a third are refused.
const TABLE: &[&[&str]] = &[
    // Shorthands.
    &[
        "minutely",
        "hourly",
        "daily",
        "weekly",
        "monthly",
        "yearly",
        "annually",
        "anually",
        "quarterly",
        "semiannually",
        "semi-annually",
        "biannually",
        "bi-annually",
        "WeekLy",
        "daily UTC",
        "monthly utc",
        "weekly  UTC",
        "daily ",
        " daily",
        "dailyUTC",
        "secondly",
    ],
    // The examples of systemd.time(7).
    &[
        "Sat,Thu,Mon..Wed,Sat..Sun",
        "Mon,Sun 12-*-* 2,1:23",
        "Wed *-1",
        "Wed..Wed,Wed *-1",
        "Wed, 17:48",
        "Wed..Sat,Tue 12-10-15 1:2:3",
        "*-*-7 0:0:0",
        "10-15",
        "monday *-12-* 17:00",
        "Mon,Fri *-*-3,1,2 *:30:45",
        "12,14,13,12:20,10,30",
        "12..14:10,20,30",
        "mon,fri *-1/2-1,3 *:30:45",
        "03-05 08:05:40",
        "08:05:40",
        "05:40",
        "Sat,Sun 12-05 08:05:40",
        "Sat,Sun 08:05:40",
        "2003-03-05 05:40",
        "05:40:23.4200004/3.1700005",
        "2003-02..04-05",
        "2003-03-05 05:40 UTC",
        "2003-03-05",
        "03-05",
        "*:2/3",
        "*-*~7/1",
        "Mon *-05~07/1",
        "*-02~03",
    ],
    // Weekdays.
    &[
        "Mon",
        "monday",
        "sUNDAY 1:0",
        "Mon UTC",
        "Mon ",
        "Mon,",
        "Mon, ",
        "Mon,Tue, 10:00",
        "Mon..Fri",
        "Mon-Fri 22:30",
        "Mon..Tue,Thu-Fri 1:00",
        "Mon..Sun",
        "Fri..Sun",
        "Tue..Tue",
        "Mon,Wed,Fri",
        "Mon,Tue,Wed 2:0",
        "Sun..Mon",
        "Mon..",
        "Mon..,Tue",
        "Mon..Fri..Sun",
        "Mon.Fri",
        "Mon,,Tue",
        "Mon,10:00",
        "Tues 1:0",
        "Monday1",
        "Mon Tue 1:0",
        "Mon*-*-*",
        "Mon:1",
        "10:00 Mon",
    ],
    // Dates.
    &[
        "*-*-*",
        "*-*",
        "*-*-* ",
        "*-*-*  10:00",
        "*-*-*  UTC",
        "2-29",
        "*-2-30",
        "2-31 *:*:*",
        "*-*-31",
        "*-4,6-31",
        "*-*-1/16",
        "*-*-28/3",
        "*-*-1/29",
        "*-*-1/30",
        "*-*-1/31",
        "*-1/7-1",
        "*-6/7-1",
        "*-1..12/5-1",
        "*-*-1..31/16",
        "Mon *-*-1..7",
        "Sun *-2-29",
        "13-1",
        "0-1",
        "1-0",
        "1-32",
        "24-1-1",
        "99-1-1",
        "70..99-1-1",
        "5..99-1-1",
        "99..5/3-1-1",
        "99..5/50-1-1",
        "2000..2030/7-1-1",
        "1970/229-1-1",
        "1970/230-1-1",
        "1969-1-1",
        "2199-12-31",
        "2200-1-1",
        "100-1-1",
        "2000..2300/400-1-1",
        "2000..2300/150-1-1",
        "4294967296-1-1",
        "99999999999999999999999-1-1",
        "1-2-3-4",
        "1-1-1:00",
        "*-*-*,1",
        "*-*-*/2",
        "*-*-*T10:00",
        "2024",
        "*",
        "--1",
    ],
    // Days from the end.
    &[
        "*-*~1",
        "*~1",
        "2~1 12:00",
        "*-2~28",
        "*-*~28/1",
        "*-*~28/27",
        "*-*~28/28",
        "*-*~27/5",
        "*-*~1..3",
        "*-*~1..6/3",
        "*-*~3..5/40",
        "*-*~5..5",
        "*-*~3,1 6:0",
        "Fri *-*~7/1",
        "*-*~*",
        "2024-1~1..3 *:0/20",
        "*-*~0",
        "*-*~29",
        "*-*~3..1",
        "*-2~1/1",
        "2024~1-1",
        "2024~1~1",
        "*~*-1",
        "*-*~",
    ],
    // Times.
    &[
        "10:00",
        "9:5",
        "1,2:00",
        "2,1..1,4/2,2:00",
        "1/4,1/2,1:00",
        "*:0/45",
        "0/9:00",
        "0/23:00",
        "0/24:00",
        "1/23:00",
        "1..3/2:00",
        "1..1:00",
        "1..1/5:00",
        "1..30/40:00",
        "25..30/40:00",
        "0:1..60/20",
        "0:40..60/20",
        "3..1:00",
        "3..1/7:00",
        "24:00",
        "23:60",
        "10",
        "10:",
        ":10",
        "10:0:",
        "10:0:0:0",
        "10:00 ",
        "10:00  UTC",
        "10:00UTC",
        "1,:00",
        ",1:00",
        "1,,2:00",
        "1:0,",
        "*,1:00",
        "1,*:00",
        "*/2:00",
        "1/0:00",
        "1/:00",
        "1/2/3:00",
        "1..:00",
        "1..2..3:00",
        "1.5:00",
        "0x5:00",
        "-1:00",
        "+1:00",
        "10:00 +01:00",
        "UTC",
        " UTC",
        "daily UTC UTC",
        "",
        " ",
        "now",
        "\u{e9}\u{e9}\u{e9}",
        "10:00\u{a0}",
        "1\u{e9}:00",
    ],
    // Seconds.
    &[
        "*:*:*",
        "*:*:0/1",
        "*:*:0/45",
        "*:*:0/7",
        "0:0:1..2",
        "0:0:0..30/1",
        "0:0:1..3.5",
        "0:0:1.5..2.5",
        "0:0:0..2.5/0.7",
        "0:0:0..0.5/0.4",
        "0:0:0/1.5",
        "0:0:1/0.5",
        "0:0:0.5/1",
        "0:0:0.5,0.25",
        "0:0:0.1234567",
        "0:0:0.99999949",
        "0:0:0.9999995",
        "10:0:59.999999",
        "10:0:59.9999995",
        "0:0:2..2/1",
        "0:0:1..1.5/1",
        "0:0:59..60/2",
        "0:0:2..2",
        "0:0:1..1.5",
        "0:0:59..60/1",
        "0:0:50/59",
        "0:0:60",
        "0:0:.5",
        "0:0:5.",
        "0:0:1.5..",
        "0:0:0/0.0000001",
        "0:0:2148",
        "0:0:1e3",
    ],
    // Seconds since 1970.
    &[
        "@1700000000",
        "@4102444800 UTC",
        "Tue @1700000000",
        "Mon @1700000000",
        "@0",
        "@7258118399",
        "@7258118400",
        "@99999999999999999999",
        "@",
        "@1.5",
        "@1 10:00",
    ],
];

/// What systemd makes of each, from `from` on; `None` is a refusal.
fn theirs(expressions: &[String], from: Civil) -> Vec<Option<Theirs>> {
    let output = Command::new("systemd-analyze")
        .arg("calendar")
        .arg(format!("--iterations={ELAPSES}"))
        // What it looks for is later than this.
        .arg(format!("--base-time={}.999999 UTC", from.plus(-1)))
        .arg("--")
        .args(expressions)
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .output()
        .expect("systemd-analyze runs");
    let said = String::from_utf8(output.stderr).expect("text");
    let stdout = String::from_utf8(output.stdout).expect("text");
    let mut blocks = stdout.split("Normalized form: ").skip(1).map(|block| {
        let mut elapses: Vec<_> = block.lines().filter_map(elapse).collect();
        let whole = elapses.len() < ELAPSES;
        elapses.dedup();
        Theirs {
            normal: block.lines().next().unwrap_or_default().to_owned(),
            elapses,
            whole,
        }
    });
    let answers: Vec<_> = expressions
        .iter()
        .map(|text| {
            let refused = format!("Failed to parse calendar specification '{text}': ");
            (!said.contains(&refused)).then(|| {
                let block = blocks.next();
                block.unwrap_or_else(|| panic!("it says nothing of {text:?}: {said}"))
            })
        })
        .collect();
    assert!(blocks.next().is_none(), "it says too much: {said}");
    answers
}

struct Theirs {
    normal: String,
    elapses: Vec<Civil>,
    /// Nothing comes after those.
    whole: bool,
}

/// `    Next elapse: Wed 2024-02-28 10:05:00 UTC`, or the like for the second and later ones.
fn elapse(line: &str) -> Option<Civil> {
    let (what, when) = line.split_once(": ")?;
    let elapse = what.trim() == "Next elapse" || what.trim().starts_with("Iter");
    let mut words = when.split(' ').skip(1);
    let (date, time) = elapse.then(|| Some((words.next()?, words.next()?)))??;
    Some(tests::civil(&format!("{date} {time}")))
}

/// Compares, and returns how many were refused by both.
fn compare(expressions: &[String], from: Civil) -> usize {
    let mut refused = 0;
    for (text, theirs) in expressions.iter().zip(theirs(expressions, from)) {
        let ours = Calendar::parse(text);
        let (Ok(calendar), Some(theirs)) = (&ours, &theirs) else {
            let lists = |calendar: &Calendar| calendar.from_end && calendar.day.spans.len() > 1;
            let known = theirs.is_none() && ours.as_ref().is_ok_and(lists);
            // It takes three days off what is allowed for each further part of such a list, which is a slip.
            assert!(
                known || ours.is_err() && theirs.is_none(),
                "{text:?}: {ours:?}"
            );
            refused += 1;
            continue;
        };
        assert_eq!(calendar.to_string(), theirs.normal, "{text:?}");
        let again = Calendar::parse(&theirs.normal);
        assert_eq!(again.as_ref(), Ok(calendar), "{text:?} by its normal form");
        let mut at = from;
        for want in &theirs.elapses {
            let mut found = calendar.next_at_or_after(at);
            while let Some(early) = found.filter(|found| found < want && steps_on(calendar)) {
                // 252 may pass over the beginning of an hour, a month or a year; asked right before it, it does not.
                let from = theirs_alone(text, early);
                assert_eq!(from, Some(early), "{text:?} from {at}, not {want}");
                found = calendar.next_at_or_after(early.plus(1));
            }
            assert_eq!(found, Some(*want), "{text:?} from {at}, base {from}");
            at = want.plus(1);
        }
        if theirs.whole {
            let found = calendar.next_at_or_after(at);
            assert_eq!(found, None, "{text:?} from {at}, base {from}");
        }
    }
    refused
}

/// The first elapse of theirs that is not before `from`.
fn theirs_alone(text: &str, from: Civil) -> Option<Civil> {
    let answer = theirs(&[text.to_owned()], from).pop().flatten()?;
    answer.elapses.first().copied()
}

/// Whether a field has steps without an end, which systemd lets run into the next larger unit.
fn steps_on(calendar: &Calendar) -> bool {
    let fields = [
        &calendar.year,
        &calendar.month,
        &calendar.day,
        &calendar.hour,
        &calendar.minute,
        &calendar.second,
    ];
    let mut spans = fields.into_iter().flat_map(|field| &field.spans);
    spans.any(|span| span.last.is_none() && span.step > 0)
}

#[test]
fn a_table_as_systemd_reads_it() {
    let expressions: Vec<_> = TABLE
        .iter()
        .flat_map(|part| part.iter().map(|text| (*text).to_owned()))
        .collect();
    let bases = [
        "1970-01-01 00:00:01",
        "1999-12-31 23:59:59",
        "2000-02-28 23:00:00",
        "2024-01-01 00:00:00",
        "2024-02-29 12:34:56",
        "2026-11-22 15:04:05",
        "2100-02-28 06:00:00",
        "2199-12-30 01:02:03",
    ];
    for base in bases {
        let refused = compare(&expressions, tests::civil(base));
        // Refusing everything, or nothing, would be no comparison.
        let share = expressions.len() / refused.max(1);
        assert!((2..=4).contains(&share), "{refused} refused");
    }
}

#[test]
fn what_comes_up_as_systemd_reads_it() {
    for seed in 1..=8 {
        let mut dice = Dice(seed);
        let expressions: Vec<_> = (0..250).map(|_| dice.expression()).collect();
        let from = Civil::from_seconds(i64::from(dice.roll(80_000)) * DAY + 1)
            .plus(i64::from(dice.roll(86_400)));
        let refused = compare(&expressions, from);
        assert!((10..=200).contains(&refused), "{refused} refused");
    }
}

/// Expressions that come up, the same ones each time: splitmix64.
struct Dice(u64);

impl Dice {
    /// A number below `sides`.
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((z ^ (z >> 31)) % u64::from(sides)).expect("below the sides")
    }

    fn one_in(&mut self, sides: u32) -> bool {
        self.roll(sides) == 0
    }

    /// Sound most times; now and then a number out of bounds or a slip of the pen.
    fn expression(&mut self) -> String {
        let mut text = String::new();
        if self.one_in(3) {
            text += &self.weekdays();
            text.push(' ');
        }
        if !self.one_in(4) {
            if !self.one_in(3) {
                text += &self.field(2020, 2034, 8, false);
                text.push('-');
            }
            text += &self.field(1, 12, 2, false);
            if self.one_in(4) {
                text.push('~');
                text += &self.field(1, 28, 5, false);
            } else {
                text.push('-');
                text += &self.field(1, 31, 3, false);
            }
            text.push(' ');
        }
        text += &self.field(0, 23, 3, false);
        text.push(':');
        text += &self.field(0, 59, 3, false);
        if self.one_in(2) {
            text.push(':');
            text += &self.field(0, 59, 3, true);
        }
        if self.one_in(6) {
            text += " UTC";
        }
        if self.one_in(5) {
            self.slip(&mut text);
        }
        text
    }

    fn weekdays(&mut self) -> String {
        let names = [
            "Mon", "tuesday", "WED", "Thu", "Friday", "sat", "Sun", "Mon",
        ];
        let mut spans = Vec::new();
        for _ in 0..=self.roll(3) {
            let first = self.roll(7);
            let last = first + self.roll(8 - first);
            let name = |day: u32| names[day as usize];
            spans.push(if self.one_in(2) {
                name(first).to_owned()
            } else {
                format!("{}..{}", name(first), name(last.min(6)))
            });
        }
        spans.join(",")
    }

    /// `*` in one of `any` cases, else some spans.
    fn field(&mut self, least: u32, most: u32, any: u32, parts: bool) -> String {
        if !self.one_in(any) && self.one_in(2) {
            return "*".to_owned();
        }
        let mut spans = Vec::new();
        for _ in 0..=self.roll(3) {
            let start = least + self.roll(most - least + 1);
            let mut span = self.number(start, parts);
            if self.one_in(3) {
                let end = start + self.roll(most - start + 1);
                span.push_str("..");
                span += &self.number(end, parts);
            }
            if self.one_in(3) {
                let step = 1 + self.roll((most - least) / 2);
                span.push('/');
                span += &self.number(step, parts);
            }
            spans.push(span);
        }
        spans.join(",")
    }

    fn number(&mut self, number: u32, parts: bool) -> String {
        if self.one_in(40) {
            return (number + self.roll(100)).to_string();
        }
        if parts && self.one_in(4) {
            return format!("{number}.{}", self.roll(1_000));
        }
        if self.one_in(2) {
            return format!("{number:02}");
        }
        number.to_string()
    }

    /// A character too many, or one too few.
    fn slip(&mut self, text: &mut String) {
        let length = u32::try_from(text.len()).expect("short");
        let at = self.roll(length) as usize;
        if self.one_in(2) {
            text.remove(at);
        } else {
            let pens = "0123456789*-~:/., ";
            let pen = self.roll(18) as usize;
            text.insert_str(at, &pens[pen..=pen]);
        }
    }
}
