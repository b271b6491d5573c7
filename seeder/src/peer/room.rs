//! One video's swarm: the core, what it holds, who is there.

use std::{
    collections::{HashMap, HashSet},
    fs,
};

use bytes::Bytes;
use marea_signaling::{
    message::Kind,
    token::{Claims, TokenKey},
};
use marea_swarm::{
    Millis, Swarm,
    config::Config,
    swarm::{Object, Peer},
    wire::{FRAME_HEADER_LEN, PeerKind},
};

use super::{EdgeSide, Film, Part, PeerPlan, TextAt, random, signal::ToServer};
use crate::{
    config::{PEER_NEIGHBOURS, TOKEN_LIFE},
    sign::now_ms,
};

/// One video.
pub(super) struct Room {
    /// Announce id.
    video: String,
    /// Video id as written.
    pub(super) id: String,
    pub(super) swarm: Swarm,
    parts: HashMap<Object, Part>,
    texts: HashMap<String, TextAt>,
    /// The piece that was read last: its four frames mostly follow one another.
    read: Option<(Object, u32, Vec<u8>)>,
    /// Our id at signaling.
    pub(super) me: String,
    resume: Option<String>,
    /// Neighbours that were asked for last.
    wanted: u32,
    /// Peers that are not met again.
    pub(super) banned: HashSet<String>,
    /// Signaling has let us in, and the site wants sharing.
    pub(super) joined: bool,
}

impl Room {
    pub(super) fn new(plan: &PeerPlan, film: &Film, video: String, now: Millis) -> Self {
        let config = Config {
            neighbours: PEER_NEIGHBOURS,
            memory_limit: u64::MAX,
            upload_limit: plan.upload_limit,
            max_upload_ratio: None,
            ..Config::default()
        };
        let kind = if plan.kind == Kind::Edge { PeerKind::Edge } else { PeerKind::Mirror };
        let swarm = Swarm::new(&film.video, kind, config, &random(), now);
        Self {
            video,
            id: film.video.clone(),
            swarm,
            parts: HashMap::new(),
            texts: HashMap::new(),
            read: None,
            me: String::new(),
            resume: None,
            wanted: 0,
            banned: HashSet::new(),
            joined: false,
        }
    }

    /// What lies on disk now.
    pub(super) fn hold(&mut self, film: Film, now: Millis) {
        for list in &film.lists {
            self.swarm.playlist(now, list);
        }
        let mut parts = HashMap::new();
        for part in film.parts {
            if let Some(object) = self.swarm.object(&part.locator)
                && (self.parts.get(&object) == Some(&part) || self.swarm.hold(now, object, part.list.clone()))
            {
                parts.insert(object, part);
            }
        }
        for object in self.parts.keys().filter(|object| !parts.contains_key(object)) {
            self.swarm.lost(now, *object);
        }
        self.parts = parts;
        self.texts = film.texts;
        self.read = None;
    }

    /// Gives a neighbour the signed playlist of this NAME: a mirror's as it lies on the disk until it expires, that of the server
    /// `edge` as it signs it.
    pub(super) fn give_text(&mut self, now: Millis, peer: Peer, name: &str, edge: Option<&EdgeSide>) {
        let text = self.texts.get(name).and_then(|at| match at {
            TextAt::File(path) => fs::read(path).ok().map(Bytes::from),
            TextAt::Served(rel) => (edge?.playlist)(rel),
        });
        self.swarm.give_text(now, peer, name, text.as_deref());
    }

    /// Whether an object is an init section, as far as that is known.
    pub(super) fn is_init(&self, object: Object) -> bool {
        self.parts.get(&object).is_some_and(|part| part.init)
    }

    /// A FRAME message; None if the disk does not have it any more, which neighbours are told.
    pub(super) fn frame(
        &mut self,
        now: Millis,
        header: &[u8; FRAME_HEADER_LEN],
        object: Object,
        piece: u32,
        range: std::ops::Range<usize>,
    ) -> Option<Vec<u8>> {
        if self.read.as_ref().is_none_or(|(other, at, _)| (*other, *at) != (object, piece)) {
            let part = self.parts.get(&object)?;
            match part.piece(piece) {
                Ok(bytes) => self.read = Some((object, piece, bytes)),
                Err(error) => {
                    tracing::warn!(path = %part.path().display(), %error, "it is not shared any more");
                    self.parts.remove(&object);
                    self.swarm.lost(now, object);
                    return None;
                }
            }
        }
        let (_, _, bytes) = self.read.as_ref()?;
        Some([header, bytes.get(range)?].concat())
    }

    /// What joins the swarm at signaling.
    pub(super) fn join(&mut self, plan: &PeerPlan, connected: Vec<String>) -> ToServer {
        self.joined = false;
        self.wanted = self.swarm.want();
        let claims = Claims {
            video: self.video.clone(),
            kind: plan.kind,
            exp: now_ms() as f64 / 1_000.0 + TOKEN_LIFE.as_secs_f64(),
            nbf: None,
            prefix: None,
        };
        ToServer::Join {
            v: 1,
            video: self.video.clone(),
            kind: plan.kind.as_str(),
            want: self.wanted,
            connected,
            resume: self.resume.clone(),
            token: plan.key.as_ref().and_then(|key: &TokenKey| key.sign(&claims)),
        }
    }

    /// Signaling has let us in.
    pub(super) fn joined(&mut self, now: Millis, peer: String, resume: Option<String>, salt: &[u8], population: u32) {
        self.swarm.joined(now, &peer, salt, population);
        self.me = peer;
        self.resume = resume;
        self.joined = true;
    }

    /// What to tell signaling if we want more or fewer neighbours than it knows.
    pub(super) fn update(&mut self) -> Option<ToServer> {
        let want = self.swarm.want();
        if !self.joined || want == self.wanted {
            return None;
        }
        self.wanted = want;
        Some(ToServer::Update { video: self.video.clone(), want })
    }
}
