//! The running mirror: copies again and again, shares what it has while it may, and says how it fares.

use std::{
    cell::{Cell, RefCell},
    io::{self, IsTerminal, Write},
    time::Duration,
};

use jiff::Zoned;
use marea_seeder::{Control, Hours, Mirror, Month, Peer, config::MIRROR_INTERVAL};
use tokio::{
    signal::unix::Signal,
    sync::watch,
    task::block_in_place,
    time::{sleep, timeout},
};

use super::mirror::report;

/// How often it counts, and says how it fares on a terminal.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two such lines in a log.
const LOG_TICKS: u32 = 600;
/// Ticks between two times that what was counted is written down.
const SAVE_TICKS: u32 = 60;

/// Why it does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Hours(Hours),
    Month,
}

/// What keeps up a mirror.
pub(super) struct KeepUp {
    pub(super) mirror: Mirror,
    pub(super) peer: Option<Peer>,
    pub(super) control: Option<Control>,
    pub(super) hours: Option<Hours>,
    pub(super) month: Month,
}

impl KeepUp {
    /// Runs for ever; `hangup` makes it look at its origins at once.
    pub(super) async fn run(self, mut hangup: Signal) {
        let Self { mut mirror, peer, control, hours, month } = self;
        let month = RefCell::new(month);
        let rest = || {
            let now = Zoned::now();
            let outside = hours.filter(|hours| !hours.contain(&now)).map(Rest::Hours);
            outside.or_else(|| (month.borrow_mut().left(&now) == Some(0)).then_some(Rest::Month))
        };
        let (tell, mut told) = watch::channel(rest());
        let films = Cell::new(0);
        let count = |bytes: u64| month.borrow_mut().add(bytes, &Zoned::now());
        let save = || {
            if let Err(error) = month.borrow_mut().save() {
                tracing::warn!(%error, "the bytes of this month cannot be written down");
            }
        };
        let count_and_tell = async {
            let terminal = io::stderr().is_terminal();
            let mut before = 0;
            for tick in 0u32.. {
                sleep(TICK).await;
                let sent = peer.as_ref().map_or(0, Peer::sent);
                let rate = sent - before;
                count(rate);
                before = sent;
                if tick % SAVE_TICKS == SAVE_TICKS - 1 {
                    save();
                }
                let now = rest();
                tell.send_if_modified(|rest| std::mem::replace(rest, now) != now);
                if terminal || tick % LOG_TICKS == LOG_TICKS - 1 {
                    let used = month.borrow_mut().used(&Zoned::now());
                    let neighbours = peer.as_ref().map_or(0, Peer::neighbours);
                    let line = status(now, films.get(), neighbours, rate, used);
                    // One line, which whatever comes next writes over.
                    let end = if terminal { "\x1b[K\r" } else { "\n" };
                    let _ = write!(io::stderr(), "{line}{end}");
                }
            }
        };
        let share = |mirror: &Mirror, allowed: bool| {
            if let Some(peer) = &peer {
                let held = if allowed { block_in_place(|| mirror.films()) } else { Vec::new() };
                films.set(held.len());
                peer.share(held);
            }
        };
        let work = async {
            loop {
                // What is here already helps at once, and while the origin is away.
                let now = *told.borrow_and_update();
                share(&mirror, now.is_none());
                if let Some(now) = now {
                    tracing::info!("{}", status(Some(now), 0, 0, 0, month.borrow_mut().used(&Zoned::now())));
                    let _ = told.changed().await;
                    continue;
                }
                let before = mirror.fetched();
                mirror.allow(month.borrow_mut().left(&Zoned::now()).unwrap_or(u64::MAX));
                let done = tokio::select! {
                    outcomes = mirror.run() => Some(outcomes),
                    // A copy can be left anywhere.
                    _ = told.changed() => None,
                };
                count(mirror.fetched() - before);
                save();
                let Some(outcomes) = done else { continue };
                report(&outcomes);
                share(&mirror, true);
                if let Some(control) = &control {
                    control.rescan();
                }
                tokio::select! {
                    // SIGHUP: now.
                    _ = timeout(MIRROR_INTERVAL, hangup.recv()) => {}
                    _ = told.changed() => {}
                }
            }
        };
        tokio::select! {
            () = count_and_tell => {}
            () = work => {}
        }
    }
}

/// A line for people.
fn status(rest: Option<Rest>, films: usize, neighbours: usize, rate: u64, used: u64) -> String {
    let used = format!("{:.1} MB this month", used as f64 / 1e6);
    match rest {
        Some(Rest::Hours(hours)) => format!("resting until its hours ({hours}), {used}"),
        Some(Rest::Month) => format!("resting until next month: --monthly is used up, {used}"),
        None => {
            let rate = rate as f64 * 8.0 / 1e6;
            format!("sharing {films} videos with {neighbours} neighbours, {rate:.1} Mbit/s, {used}")
        }
    }
}
