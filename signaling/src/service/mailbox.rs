//! What waits to be written to one socket.

use std::{collections::VecDeque, sync::Mutex, task::Waker, time::Instant};

use bytes::Bytes;

use super::{frame::CloseCode, hub::lock};
use crate::defaults;

/// The way from a hub to one socket's task.
#[derive(Debug, Default)]
pub(super) struct Mailbox(Mutex<Mail>);

#[derive(Debug, Default)]
struct Mail {
    queue: VecDeque<Queued>,
    /// Bytes of text in it.
    bytes: usize,
    /// The socket is to end without a word.
    cut: bool,
    /// Wakes the socket's task.
    waker: Option<Waker>,
    /// The task sleeps and has to be woken: once, however much comes.
    asleep: bool,
}

/// Something to write to a socket.
#[derive(Debug)]
pub(super) enum Queued {
    /// A message; when it was received, if it is a relayed one.
    Text { text: Bytes, relayed: Option<Instant> },
    /// The end.
    Close(CloseCode, &'static str),
}

/// What a socket's task finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Something,
    /// It is to end without a word.
    Cut,
}

impl Mailbox {
    /// Puts a message in. What its reader leaves lying ends the connection: then it is `false`.
    pub(super) fn text(&self, text: Bytes, relayed: Option<Instant>) -> bool {
        let mut mail = lock(&self.0);
        // A single message always fits: the limit is about those who do not read.
        if mail.bytes > 0 && mail.bytes + text.len() > defaults::MAX_QUEUE {
            mail.cut = true;
            mail.asleep = true;
            mail.wake();
            return false;
        }
        mail.bytes += text.len();
        mail.queue.push_back(Queued::Text { text, relayed });
        mail.wake();
        true
    }

    /// Has the socket closed after what is in.
    pub(super) fn close(&self, code: CloseCode, reason: &'static str) {
        let mut mail = lock(&self.0);
        mail.queue.push_back(Queued::Close(code, reason));
        mail.wake();
    }

    /// Whether there is something to do.
    pub(super) fn look(&self) -> Found {
        lock(&self.0).found()
    }

    /// Whether the task may sleep: where nothing is in, or it waits for something else (`busy`), such as its reader. It is woken when it
    /// is to end, and, unless it is busy, by the next thing that comes in.
    pub(super) fn sleep(&self, waker: &Waker, busy: bool) -> bool {
        let mut mail = lock(&self.0);
        if mail.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            mail.waker = Some(waker.clone());
        }
        let found = mail.found();
        mail.asleep = found == Found::Nothing && !busy;
        found == Found::Nothing || (found == Found::Something && busy)
    }

    /// Takes things out until about `bytes` are.
    pub(super) fn take(&self, bytes: usize, mut each: impl FnMut(Queued)) {
        let mut mail = lock(&self.0);
        let mut taken = 0;
        while taken < bytes
            && let Some(queued) = mail.queue.pop_front()
        {
            if let Queued::Text { text, .. } = &queued {
                taken += text.len();
                mail.bytes -= text.len();
            }
            each(queued);
        }
    }
}

impl Mail {
    fn found(&self) -> Found {
        match (self.cut, self.queue.is_empty()) {
            (true, _) => Found::Cut,
            (false, true) => Found::Nothing,
            (false, false) => Found::Something,
        }
    }

    fn wake(&mut self) {
        if std::mem::take(&mut self.asleep)
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn text(mailbox: &Mailbox, bytes: usize) -> bool {
        mailbox.text(Bytes::from(vec![b'x'; bytes]), None)
    }

    #[test]
    fn a_sleeper_is_woken_once_and_a_busy_one_only_at_the_end() {
        let (mailbox, woken) = (Mailbox::default(), Arc::new(Woken::default()));
        let waker = Waker::from(Arc::clone(&woken));
        let times = || woken.0.load(Ordering::Relaxed);
        assert!(mailbox.sleep(&waker, false));
        assert!(text(&mailbox, 1) && text(&mailbox, 1));
        assert_eq!(times(), 1);
        assert!(!mailbox.sleep(&waker, false), "there is something");
        assert!(mailbox.sleep(&waker, true));
        assert!(text(&mailbox, 1));
        assert_eq!(times(), 1);
        // More than may lie there.
        assert!(!text(&mailbox, defaults::MAX_QUEUE));
        assert_eq!((times(), mailbox.look()), (2, Found::Cut));
        assert!(!mailbox.sleep(&waker, true));
    }

    #[test]
    fn what_is_taken_makes_room_and_comes_in_order() {
        let mailbox = Mailbox::default();
        assert!(text(&mailbox, 2 * defaults::MAX_QUEUE), "one message always fits");
        mailbox.close(CloseCode::GOING_AWAY, "end");
        let mut taken = Vec::new();
        mailbox.take(1, |queued| taken.push(matches!(queued, Queued::Text { .. })));
        assert!(text(&mailbox, 1));
        assert_eq!(mailbox.look(), Found::Something);
        mailbox.take(usize::MAX, |queued| taken.push(matches!(queued, Queued::Text { .. })));
        assert_eq!((taken, mailbox.look()), (vec![true, false, true], Found::Nothing));
    }
}
