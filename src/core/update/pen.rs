//! What the ledger says of releases, and what it is to say.
//!
//! Whoever changes something says so here and waits until it is on disk. One write is under way at a
//! time; what changes meanwhile is written next.

use std::time::Duration;

use super::Book;
use crate::core::time::Time;

/// How long a write may take. A medium that takes longer is failing.
const BY: Duration = Duration::from_secs(60);

/// How long after a failed write the next one is tried.
const AGAIN: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub(super) struct Pen {
    /// What is on disk.
    disk: Book,
    /// What is to be there.
    wanted: Book,
    under: Option<Under>,
    /// No new attempt before this time.
    at: Time,
}

#[derive(Clone, Debug)]
struct Under {
    book: Book,
    by: Time,
    /// It has been given up, and may still come to its end.
    late: bool,
}

impl Pen {
    pub fn new(disk: Book, wanted: Book, now: Time) -> Self {
        Self {
            wanted,
            disk,
            under: None,
            at: now,
        }
    }

    /// What the ledger will say once all is written.
    pub fn wanted(&self) -> &Book {
        &self.wanted
    }

    /// Changes what the ledger is to say.
    pub fn want(&mut self, book: Book) {
        self.wanted = book;
    }

    /// Whether all that was wanted is on disk.
    pub fn is_dry(&self) -> bool {
        self.wanted == self.disk
    }

    /// What is to be written now, if anything is.
    pub fn next(&mut self, now: Time) -> Option<Book> {
        if self.under.is_some() || self.is_dry() || now < self.at {
            return None;
        }
        self.under = Some(Under {
            book: self.wanted.clone(),
            by: now + BY,
            late: false,
        });
        Some(self.wanted.clone())
    }

    /// A write has ended. Returns why it failed, once.
    pub fn written(&mut self, result: Result<(), String>, now: Time) -> Result<(), String> {
        let Some(under) = self.under.take() else {
            return Ok(());
        };
        match result {
            Ok(()) => {
                self.disk = under.book;
                Ok(())
            }
            Err(_) if under.late => Ok(()),
            Err(text) => {
                self.at = now + AGAIN;
                Err(text)
            }
        }
    }

    /// A write that takes too long is given up; until it has ended there is no other one.
    pub fn overdue(&mut self, now: Time) -> bool {
        match &mut self.under {
            Some(under) if !under.late && under.by <= now => {
                under.late = true;
                self.at = now + AGAIN;
                true
            }
            Some(_) | None => false,
        }
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<Time> {
        match &self.under {
            Some(under) => (!under.late).then_some(under.by),
            None => (!self.is_dry()).then_some(self.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Book {
        Book {
            held: true,
            ..Book::default()
        }
    }

    #[test]
    fn what_could_not_be_written_before_is_written_now() {
        let now = Time::default();
        let mut pen = Pen::new(Book::default(), held(), now);
        assert!(!pen.is_dry());
        assert_eq!(pen.next(now), Some(held()));
    }

    #[test]
    fn what_changes_during_a_write_is_written_next() {
        let now = Time::default();
        let mut pen = Pen::new(Book::default(), Book::default(), now);
        assert_eq!(pen.next(now), None);
        pen.want(held());
        assert_eq!(pen.next(now), Some(held()));
        pen.want(Book::default());
        assert_eq!(pen.next(now), None, "one at a time");
        assert_eq!(pen.written(Ok(()), now), Ok(()));
        assert_eq!(pen.next(now), Some(Book::default()));
        assert_eq!(pen.written(Ok(()), now), Ok(()));
        assert!(pen.is_dry());
        assert_eq!(pen.deadline(), None);
    }

    #[test]
    fn a_failed_write_is_tried_again_later_and_told_once() {
        let now = Time::default();
        let mut pen = Pen::new(Book::default(), Book::default(), now);
        pen.want(held());
        assert!(pen.next(now).is_some());
        assert!(!pen.overdue(now));
        assert!(pen.overdue(now + BY));
        assert!(!pen.overdue(now + BY));
        assert_eq!(pen.written(Err("slow".to_owned()), now + BY), Ok(()));
        assert_eq!(pen.next(now + BY), None);
        let again = pen.deadline().expect("it is tried again");
        assert!(pen.next(again).is_some());
        assert_eq!(
            pen.written(Err("full".to_owned()), again),
            Err("full".to_owned())
        );
        assert!(!pen.is_dry());
    }
}
