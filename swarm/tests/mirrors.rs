//! Transfers that a mirror answers: counted apart, believed never, and nobody's fault but its own.

mod bed;

use bed::{VIDEO, World, segment_bytes, segment_url};
use marea_swarm::{
    Action, Swarm,
    assembly::Assembly,
    config::Config,
    playlist::Locator,
    swarm::{Fetch, Playback, Request},
    wire::PeerKind,
};

const SIZE: usize = 150_000;

struct Player {
    swarm: Swarm,
    assembly: Assembly,
    now: u64,
}

impl Player {
    /// Has asked for the first segment.
    fn new() -> Self {
        let mut swarm = Swarm::new(VIDEO, PeerKind::Viewer, Config::default(), &[7; 32], 0);
        let world = World::vod(1, SIZE);
        swarm.playlist(1, &world.playlist);
        swarm.playback(1, Playback { playing: true, rate: 1.0, ..Playback::default() });
        assert!(swarm.request(1, Request(1), &Locator { url: segment_url(0), range: None }, 0.0));
        Self { swarm, assembly: Assembly::new(), now: 1 }
    }

    /// What it asks for next, with everything else that it does; `reload` is told too.
    fn next_fetch(&mut self) -> (Fetch, bool, Vec<Action>) {
        let mut others = Vec::new();
        for _ in 0..100 {
            self.now += 50;
            self.swarm.timeout(self.now);
            while let Some(action) = self.swarm.poll_action() {
                match action {
                    Action::Fetch { fetch, object, first_piece, reload, .. } => {
                        self.assembly.begin_fetch(fetch, self.swarm.size(object), first_piece);
                        return (fetch, reload, others);
                    }
                    other => others.push(other),
                }
            }
        }
        panic!("nothing is asked for: {others:?}");
    }

    fn answer(&mut self, fetch: Fetch, bytes: &[u8]) {
        self.swarm.fetch_response(self.now, fetch, 0);
        let progress = self.assembly.fetch_data(fetch, bytes);
        self.swarm.fetch_progress(self.now, fetch, bytes.len() as u32);
        for (piece, cv) in progress.pieces {
            self.swarm.fetch_piece(self.now, fetch, piece, cv);
        }
    }
}

#[test]
fn a_lie_of_a_mirror_is_no_word_of_the_origin() {
    let mut player = Player::new();
    let right = segment_bytes(0, SIZE);
    let wrong = vec![1; SIZE];
    // As often as mirrors lie, alone or after the origin seemed to.
    for round in 0..3 {
        let (fetch, reload, _) = player.next_fetch();
        assert!(!reload, "round {round}: the origin has not missed");
        player.swarm.fetch_mirrored(fetch);
        player.answer(fetch, &wrong);
        player.swarm.fetch_end(player.now, fetch);
    }
    let (fetch, reload, actions) = player.next_fetch();
    assert!(!reload);
    assert!(actions.iter().any(|action| matches!(action, Action::Refused { .. })), "{actions:?}");
    assert!(!actions.iter().any(|action| matches!(action, Action::OriginDiffers { .. } | Action::Fail { .. })));
    player.answer(fetch, &wrong);
    player.swarm.fetch_end(player.now, fetch);
    let (fetch, reload, _) = player.next_fetch();
    assert!(reload, "the origin missed once");
    player.swarm.fetch_mirrored(fetch);
    player.answer(fetch, &wrong);
    player.swarm.fetch_end(player.now, fetch);
    let (fetch, _, actions) = player.next_fetch();
    assert!(
        !actions.iter().any(|action| matches!(action, Action::OriginDiffers { .. })),
        "a mirror spoke: {actions:?}"
    );
    player.swarm.fetch_mirrored(fetch);
    player.answer(fetch, &right);
    player.swarm.fetch_end(player.now, fetch);
    let actions: Vec<Action> = std::iter::from_fn(|| player.swarm.poll_action()).collect();
    assert!(actions.iter().any(|action| matches!(action, Action::Deliver { .. })), "{actions:?}");
    let bytes = player.swarm.bytes();
    assert_eq!((bytes.mirrors, bytes.http), (5 * SIZE as u64, SIZE as u64));
}

#[test]
fn what_a_mirror_did_not_bring_is_asked_for_again_at_once() {
    let mut player = Player::new();
    let right = segment_bytes(0, SIZE);
    let (fetch, ..) = player.next_fetch();
    player.swarm.fetch_mirrored(fetch);
    player.answer(fetch, &right[..100_000]);
    player.swarm.fetch_lost(player.now, fetch);
    let (fetch, _, actions) = player.next_fetch();
    assert!(!actions.iter().any(|action| matches!(action, Action::Fail { .. })), "{actions:?}");
    player.answer(fetch, &right);
    player.swarm.fetch_end(player.now, fetch);
    let actions: Vec<Action> = std::iter::from_fn(|| player.swarm.poll_action()).collect();
    assert!(actions.iter().any(|action| matches!(action, Action::Deliver { .. })), "{actions:?}");
}
