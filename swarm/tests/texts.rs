//! Signed playlists between neighbours: who is asked, what comes, and what nobody can do with it.

use std::collections::VecDeque;

use marea_swarm::{
    Action, Millis, Swarm,
    config::{Config, TEXT_MS},
    proof::Role,
    swarm::{CloseReason, Peer, PeerSetup},
    wire::{Control, MAX_TEXT_PART, PeerKind, decode_control, encode_control},
};

const NAME: &str = "720p/index.m3u8";

/// What a neighbour has under [`NAME`].
type Text = Option<Vec<u8>>;

/// A viewer in the middle of neighbours. What neighbours say may be changed on its way.
struct Ring {
    now: Millis,
    viewer: Swarm,
    neighbours: Vec<(Swarm, Text)>,
    /// Who was asked, in order.
    asked: Vec<usize>,
    /// What came.
    texts: Vec<Vec<u8>>,
    /// Times that nobody was left to ask.
    nobody: u32,
    closed: Vec<(usize, CloseReason)>,
    lie: fn(usize, Control) -> Vec<Control>,
}

fn setup(id: &str, role: Role) -> PeerSetup {
    let (offerer, answerer) = ([1; 32], [2; 32]);
    let (local_fingerprint, remote_fingerprint) =
        if role == Role::Offerer { (offerer, answerer) } else { (answerer, offerer) };
    PeerSetup { id: id.to_owned(), role, local_fingerprint, remote_fingerprint }
}

impl Ring {
    fn new(neighbours: Vec<(PeerKind, Text)>) -> Self {
        let swarm = |kind, seed| Swarm::new("video", kind, Config::default(), &[seed; 32], 0);
        let mut ring = Self {
            now: 1_000,
            viewer: swarm(PeerKind::Viewer, 1),
            neighbours: Vec::new(),
            asked: Vec::new(),
            texts: Vec::new(),
            nobody: 0,
            closed: Vec::new(),
            lie: |_, message| vec![message],
        };
        for (kind, text) in neighbours {
            ring.neighbours.push((swarm(kind, 2 + ring.neighbours.len() as u8), text));
        }
        ring
    }

    fn connect(&mut self, index: usize) {
        let now = self.now;
        self.viewer.peer_open(now, Peer(index as u32), setup(&format!("n{index}"), Role::Offerer));
        self.neighbours[index].0.peer_open(now, Peer(0), setup("viewer", Role::Answerer));
    }

    fn connected(neighbours: Vec<(PeerKind, Text)>) -> Self {
        let mut ring = Self::new(neighbours);
        for index in 0..ring.neighbours.len() {
            ring.connect(index);
        }
        ring.run(200);
        ring
    }

    fn run(&mut self, span: Millis) {
        let until = self.now + span;
        while self.now < until {
            self.now += 10;
            let now = self.now;
            self.viewer.timeout(now);
            for (swarm, _) in &mut self.neighbours {
                swarm.timeout(now);
            }
            self.settle();
        }
    }

    fn settle(&mut self) {
        let now = self.now;
        let mut to_viewer: VecDeque<(usize, Vec<u8>)> = VecDeque::new();
        loop {
            let mut quiet = true;
            while let Some(action) = self.viewer.poll_action() {
                quiet = false;
                match action {
                    Action::SendControl { peer, bytes } => {
                        let index = peer.0 as usize;
                        if matches!(decode_control(&bytes), Ok(Some(Control::TextGet { .. }))) {
                            self.asked.push(index);
                        }
                        self.neighbours[index].0.control(now, Peer(0), &bytes);
                    }
                    Action::Text { name, text } => {
                        assert_eq!(name, NAME);
                        if text.is_empty() {
                            self.nobody += 1;
                        } else {
                            self.texts.push(text);
                        }
                    }
                    Action::Close { peer, reason } => self.closed.push((peer.0 as usize, reason)),
                    _ => {}
                }
            }
            for (index, (swarm, text)) in self.neighbours.iter_mut().enumerate() {
                while let Some(action) = swarm.poll_action() {
                    quiet = false;
                    match action {
                        Action::SendControl { bytes, .. } => to_viewer.push_back((index, bytes)),
                        Action::TextAsked { peer, name } => {
                            let text = text.as_deref().filter(|_| name == NAME);
                            swarm.give_text(now, peer, &name, text);
                        }
                        _ => {}
                    }
                }
            }
            while let Some((index, bytes)) = to_viewer.pop_front() {
                let Ok(Some(message)) = decode_control(&bytes) else { panic!("a message that is none") };
                for message in (self.lie)(index, message) {
                    self.viewer.control(now, Peer(index as u32), &encode_control(&message));
                }
            }
            if quiet {
                return;
            }
        }
    }
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

#[test]
fn a_text_comes_whole_from_whoever_has_it_mirrors_first() {
    let long = text(3 * MAX_TEXT_PART + 5);
    let mut ring = Ring::connected(vec![
        (PeerKind::Viewer, Some(text(10))),
        (PeerKind::Mirror, None),
        (PeerKind::Mirror, Some(long.clone())),
    ]);
    ring.viewer.want_text(ring.now, NAME);
    ring.run(500);
    assert_eq!(ring.texts, [long]);
    assert!(!ring.asked.contains(&0), "a viewer was asked before all mirrors: {:?}", ring.asked);
    ring.viewer.settle_text(NAME);
    ring.run(20_000);
    assert_eq!(ring.texts.len(), 1, "asked for what is here");
}

#[test]
fn what_was_no_good_is_asked_of_the_next_and_of_newcomers() {
    let mut ring = Ring::new(vec![
        (PeerKind::Mirror, Some(text(10))),
        (PeerKind::Viewer, Some(text(20))),
        (PeerKind::Viewer, Some(text(30))),
    ]);
    ring.viewer.want_text(ring.now, NAME);
    ring.connect(0);
    ring.connect(1);
    ring.run(500);
    assert_eq!(ring.texts, [text(10)]);
    ring.viewer.want_text(ring.now, NAME);
    ring.run(500);
    ring.viewer.want_text(ring.now, NAME);
    ring.run(500);
    assert_eq!(ring.texts, [text(10), text(20)]);
    assert_eq!(ring.asked, [0, 1], "nobody is asked twice");
    assert_eq!(ring.nobody, 2, "before anybody was here, and when all had been asked");
    ring.connect(2);
    ring.run(500);
    assert_eq!(ring.texts.len(), 3);
}

#[test]
fn silence_and_a_trickle_are_passed_over() {
    let mut ring = Ring::connected(vec![
        (PeerKind::Mirror, Some(text(10))),
        (PeerKind::Mirror, Some(text(40_000))),
        (PeerKind::Viewer, Some(text(30))),
    ]);
    ring.lie = |index, message| match message {
        Control::Text { .. } if index == 0 => Vec::new(),
        // The rest never comes.
        Control::Text { offset, .. } if index == 1 && offset > 0 => Vec::new(),
        other => vec![other],
    };
    ring.viewer.want_text(ring.now, NAME);
    ring.run(2 * TEXT_MS + 1_500);
    assert_eq!(ring.texts, [text(30)]);
    assert_eq!(ring.asked.len(), 3);
    assert_eq!(ring.closed, []);
}

#[test]
fn what_was_not_asked_for_is_not_kept_and_a_flood_of_it_ends_the_connection() {
    let mut ring = Ring::connected(vec![(PeerKind::Mirror, Some(text(10)))]);
    let unasked = |offset| Control::Text { name: NAME.to_owned(), total: 1 << 24, offset, part: text(MAX_TEXT_PART) };
    for at in 0..32 {
        ring.viewer.control(ring.now, Peer(0), &encode_control(&unasked(at * MAX_TEXT_PART as u32)));
        ring.settle();
    }
    assert_eq!(ring.texts.len(), 0);
    assert_eq!(ring.closed, [(0, CloseReason::Flood)]);
}

#[test]
fn a_long_text_is_no_flood() {
    let long = text(2_000_000);
    let mut ring = Ring::connected(vec![(PeerKind::Mirror, Some(long.clone()))]);
    ring.viewer.want_text(ring.now, NAME);
    ring.run(500);
    assert_eq!(ring.texts, [long]);
    assert_eq!(ring.closed, []);
    // Whatever comes after its end is not taken for the beginning of another.
    let more = Control::Text { name: NAME.to_owned(), total: 5, offset: 0, part: text(5) };
    ring.viewer.control(ring.now, Peer(0), &encode_control(&more));
    ring.settle();
    assert_eq!(ring.texts.len(), 1);
}

#[test]
fn nobody_gets_more_of_them_than_is_fair() {
    let mut ring = Ring::connected(vec![(PeerKind::Mirror, Some(text(600_000)))]);
    let ask = encode_control(&Control::TextGet { name: NAME.to_owned() });
    let giver = &mut ring.neighbours[0].0;
    let mut sent = 0;
    for _ in 0..100 {
        giver.control(ring.now, Peer(0), &ask);
        while let Some(action) = giver.poll_action() {
            match action {
                Action::TextAsked { peer, name } => giver.give_text(ring.now, peer, &name, Some(&text(600_000))),
                Action::SendControl { bytes, .. } => sent += bytes.len(),
                Action::Close { .. } => panic!("closed"),
                _ => {}
            }
        }
    }
    assert!((1_200_000..1_300_000).contains(&sent), "{sent} bytes");
}
