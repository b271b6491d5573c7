//! Random histories against a model that only knows who is in which video, and what must always be true.

use proptest::{collection::vec, prelude::*};

use super::*;

/// One thing that happens to one of a few clients.
#[derive(Clone, Debug)]
enum Step {
    Join { client: usize, video: usize, want: u32, resume: bool },
    Update { client: usize, video: usize, want: u32 },
    Relay { client: usize, video: usize, to: usize, kind: usize, conn: u8 },
    Leave { client: usize, video: usize },
    Break { client: usize, clean: bool },
    Wait { ms: Millis },
    Junk { client: usize },
}

const CLIENTS: usize = 6;
const VIDEOS: usize = 2;

fn step() -> impl Strategy<Value = Step> {
    let (client, video) = (0..CLIENTS, 0..VIDEOS);
    prop_oneof![
        4 => (client.clone(), video.clone(), 0..4u32, any::<bool>())
            .prop_map(|(client, video, want, resume)| Step::Join { client, video, want, resume }),
        3 => (client.clone(), video.clone(), 0..4u32)
            .prop_map(|(client, video, want)| Step::Update { client, video, want }),
        6 => (client.clone(), video.clone(), 0..CLIENTS, 0..4usize, 0..3u8)
            .prop_map(|(client, video, to, kind, conn)| Step::Relay { client, video, to, kind, conn }),
        1 => (client.clone(), video).prop_map(|(client, video)| Step::Leave { client, video }),
        1 => (client.clone(), any::<bool>()).prop_map(|(client, clean)| Step::Break { client, clean }),
        3 => prop_oneof![0..2000u64, 0..60_000u64].prop_map(|ms| Step::Wait { ms }),
        1 => client.prop_map(|client| Step::Junk { client }),
    ]
}

/// What a client knows of its place in a video.
#[derive(Clone, Debug, Default)]
struct Place {
    /// It is joined on its present socket.
    joined: bool,
    /// Still counted until then, though its socket broke.
    away_until: Option<Millis>,
    peer: Option<String>,
    ticket: Option<String>,
    want: u32,
    viewers_at: Option<Millis>,
}

struct Model {
    bed: Bed,
    sockets: Vec<ConnectionId>,
    places: Vec<Vec<Place>>,
    /// Pairs that were matched, by video, and when last.
    paired: HashMap<(usize, String, String), Millis>,
}

impl Model {
    fn new() -> Self {
        let mut bed = Bed::new();
        let sockets = (0..CLIENTS).map(|_| bed.open()).collect();
        Self { bed, sockets, places: vec![vec![Place::default(); VIDEOS]; CLIENTS], paired: HashMap::new() }
    }

    fn count(&self, video: usize) -> usize {
        let now = self.bed.now;
        let here = |place: &&Place| place.joined || place.away_until.is_some_and(|until| until > now);
        self.places.iter().map(|places| &places[video]).filter(here).count()
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Join { client, video, want, resume } => {
                let mut message = json!({"type": "join", "v": 1, "video": name(video), "kind": "viewer", "want": want});
                let place = &mut self.places[client][video];
                let ticket = place.ticket.clone().filter(|_| resume);
                let kept = place.joined || ticket.is_some();
                if let Some(ticket) = ticket {
                    message["resume"] = ticket.into();
                }
                let old = place.peer.clone();
                let here = place.joined || place.away_until.is_some_and(|until| until > self.bed.now);
                if !here {
                    // It was out in between, which ended its links, also where nobody was there to be told.
                    self.paired.retain(|(_, a, b), _| Some(a) != old.as_ref() && Some(b) != old.as_ref());
                }
                if kept {
                    place.away_until = None;
                }
                // Without its ticket, who is away stays counted beside itself.
                let ghost = place.away_until.filter(|until| *until > self.bed.now).is_some();
                (place.joined, place.want) = (true, want);
                let expected = self.count(video) + usize::from(ghost);
                self.bed.send(self.sockets[client], &message);
                let inbox = &self.bed.inboxes[&self.sockets[client]];
                let joined = inbox.iter().rfind(|message| message["type"] == "joined").unwrap();
                assert_eq!(joined["viewers"], expected);
                let place = &mut self.places[client][video];
                if kept {
                    assert_eq!(place.peer.as_deref(), joined["peer"].as_str());
                } else {
                    assert_ne!(old.as_deref(), joined["peer"].as_str());
                }
                place.peer = joined["peer"].as_str().map(str::to_owned);
                place.ticket = joined["resume"].as_str().map(str::to_owned);
                if ghost {
                    // Keep the model simple: let the ghost go.
                    self.wait(defaults::GRACE_MS);
                }
            }
            Step::Update { client, video, want } => {
                if self.places[client][video].joined {
                    self.places[client][video].want = want;
                }
                self.bed.send(self.sockets[client], &json!({"type": "update", "video": name(video), "want": want}));
            }
            Step::Relay { client, video, to, kind, conn } => {
                let Some(peer) = self.places[to][video].peer.clone() else { return };
                let more = json!({"sdp": "v=0", "candidate": {"candidate": "x"}, "code": "full"});
                let kind = ["offer", "answer", "candidate", "reject"][kind];
                self.bed.relay(self.sockets[client], ["tide", "moon"][video], kind, &peer, &format!("c{conn}"), &more);
            }
            Step::Leave { client, video } => {
                let place = &mut self.places[client][video];
                (place.joined, place.want) = (false, 0);
                // Who joins anew is told anew.
                place.viewers_at = None;
                self.bed.send(self.sockets[client], &json!({"type": "leave", "video": name(video)}));
            }
            Step::Break { client, clean } => {
                let until = self.bed.now + defaults::GRACE_MS;
                for place in self.places[client].iter_mut().filter(|place| place.joined) {
                    (place.joined, place.want) = (false, 0);
                    place.away_until = (!clean).then_some(until);
                    place.viewers_at = None;
                }
                self.bed.close(self.sockets[client], clean);
                self.read(client);
                self.sockets[client] = self.bed.open();
            }
            Step::Wait { ms } => self.wait(ms),
            Step::Junk { client } => self.bed.send_text(self.sockets[client], "[1]"),
        }
        for client in 0..CLIENTS {
            self.read(client);
        }
        // Sockets that the shard ended are replaced as a client would.
        for (id, _) in std::mem::take(&mut self.bed.closed) {
            if let Some(client) = self.sockets.iter().position(|socket| *socket == id) {
                self.take(&Step::Break { client, clean: true });
            }
        }
        assert_eq!(self.bed.shard.counts().viewers, (0..VIDEOS).map(|video| self.count(video)).sum::<usize>());
    }

    fn wait(&mut self, ms: Millis) {
        // In small steps, so that what is read is read close to when it was sent.
        let end = self.bed.now + ms;
        while self.bed.now < end {
            self.bed.advance((end - self.bed.now).min(500));
            for client in 0..CLIENTS {
                self.read(client);
            }
        }
    }

    /// Checks what a client was sent.
    fn read(&mut self, client: usize) {
        let now = self.bed.now;
        for message in self.bed.take(self.sockets[client]) {
            let Some(video) = (0..VIDEOS).find(|video| message["video"] == name(*video)) else { continue };
            let place = &self.places[client][video];
            let me = place.peer.clone().unwrap_or_default();
            match message["type"].as_str().unwrap() {
                "match" => {
                    let peers = message["peers"].as_array().unwrap();
                    assert!(!peers.is_empty() && peers.len() <= place.want as usize, "{message} for {place:?}");
                    for peer in peers {
                        let peer = peer["peer"].as_str().unwrap().to_owned();
                        assert_ne!(peer, me, "matched with itself");
                        let other = self.places.iter().find(|places| places[video].peer.as_ref() == Some(&peer));
                        let other = &other.expect("matched with nobody")[video];
                        assert!(other.joined && other.want > 0, "matched with one who does not want: {other:?}");
                        let pair = (video, me.clone().min(peer.clone()), me.clone().max(peer));
                        let before = self.paired.insert(pair, now);
                        assert!(before.is_none_or(|at| now + 500 >= at + defaults::REMATCH_ALONE_MS), "again too soon");
                    }
                }
                "viewers" => {
                    let place = &mut self.places[client][video];
                    assert!(place.viewers_at.is_none_or(|at| now + 500 >= at + defaults::VIEWERS_MS), "too often");
                    place.viewers_at = Some(now);
                }
                "offer" | "answer" | "candidate" | "reject" => {
                    let from = message["from"].as_str().unwrap().to_owned();
                    let pair = (video, me.clone().min(from.clone()), me.clone().max(from));
                    assert!(self.paired.contains_key(&pair), "relayed between strangers");
                    assert!(message.get("to").is_none());
                }
                "gone" => {
                    let peer = message["peer"].as_str().unwrap().to_owned();
                    let pair = (video, me.clone().min(peer.clone()), me.clone().max(peer));
                    // Both ends begin anew; or it is the answer to a relay.
                    self.paired.remove(&pair);
                }
                _ => {}
            }
        }
    }
}

fn name(index: usize) -> String {
    video(["tide", "moon"][index])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn histories_keep_the_promises(steps in vec(step(), 1..80)) {
        let mut model = Model::new();
        for step in &steps {
            model.take(step);
        }
        // In the end everybody leaves and nothing is left.
        for client in 0..CLIENTS {
            model.take(&Step::Break { client, clean: client % 2 == 0 });
        }
        model.wait(defaults::GRACE_MS);
        prop_assert_eq!(model.bed.shard.videos(), 0);
        prop_assert_eq!(model.bed.shard.counts(), Counts::default());
    }

    #[test]
    fn no_text_upsets_the_shard(texts in vec("\\PC{0,60}|[{}\\[\\]\":,a-z0-9]{0,60}", 1..20)) {
        let mut bed = Bed::new();
        let id = bed.open();
        for text in &texts {
            bed.send_text(id, text);
        }
    }
}
