//! One peer: its line, its core or script, its player, and what its host keeps.

use std::{collections::VecDeque, net::Ipv4Addr};

use marea_signaling::ids::ConnectionId;
use marea_swarm::{
    Millis, Swarm,
    swarm::{Bytes, CloseReason, Fetch, Peer},
};

use super::{player::Player, scenario::Role, script::Script};

/// One end of a connection between two peers.
#[derive(Debug)]
pub struct End {
    /// Our name for it.
    pub peer: Peer,
    /// Who is there.
    pub other: usize,
    /// Their name for it.
    pub other_peer: Peer,
    /// One way, in milliseconds.
    pub delay: f64,
    /// Rate that losses allow, in bytes per millisecond.
    pub most: f64,
    /// Frames that wait in the `data` channel.
    pub queue: VecDeque<Packet>,
    /// Their bytes.
    pub queued: u32,
    /// What is on its way out.
    pub chunk: Option<Chunk>,
    /// When the last control message arrives there: they keep their order.
    pub last_control: Millis,
    /// Bytes since it was last idle, for slow start.
    pub ramp: f64,
    /// When it fell idle.
    pub idle_since: Millis,
}

/// A FRAME, without its payload.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Header as the core encoded it.
    pub header: [u8; marea_swarm::wire::FRAME_HEADER_LEN],
    /// Payload bytes.
    pub len: u32,
    /// The payload is not what it should be.
    pub wrong: bool,
}

/// Frames that leave together: up to a tenth of a second's worth.
#[derive(Debug)]
pub struct Chunk {
    /// In order.
    pub packets: Vec<Packet>,
    /// Bytes in all.
    pub bytes: f64,
    /// Bytes that have not left.
    pub left: f64,
    /// Bytes per millisecond now.
    pub rate: f64,
}

/// A connection that is being made.
#[derive(Debug)]
pub struct Dialing {
    /// Who, by number.
    pub other: usize,
    /// Ours was the offer.
    pub offered: bool,
    /// When it began; it dies 30 s later.
    pub since: Millis,
}

/// Counters of one peer.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Control messages sent to peers, and their bytes.
    pub controls: u64,
    /// Bytes of them.
    pub control_bytes: u64,
    /// Frames sent.
    pub frames: u64,
    /// Messages to signaling.
    pub signals: u64,
    /// Pieces kept whose bytes were wrong: the invariant that must hold is 0.
    pub wrong_kept: u64,
    /// Things refused by the core.
    pub refused: u64,
    /// Neighbours banned.
    pub bans: u64,
    /// Connections that opened, and that came to nothing.
    pub opened: u32,
    /// See `opened`.
    pub unopened: u32,
    /// Loads that failed.
    pub failed: u32,
    /// Events handed to the core.
    pub drains: u64,
}

/// [`Viewer::nat`] of one that cannot use UDP.
pub const NO_UDP: usize = 3;

/// A peer.
pub struct Viewer {
    /// What it does.
    pub role: Role,
    /// Bytes per millisecond up and down.
    pub up: f64,
    /// See `up`.
    pub down: f64,
    /// Kind of router: 0 open, 1 port-restricted, 2 symmetric; or [`NO_UDP`].
    pub nat: usize,
    /// Its place on a square map of side 1.
    pub place: (f64, f64),
    /// Round trip of its access line, in milliseconds.
    pub access: f64,
    /// Probability that a packet is lost on it.
    pub loss: f64,
    /// Its public address.
    pub address: Ipv4Addr,
    /// How many times longer its start takes than on an idle machine.
    pub slowed: f64,
    /// It is there.
    pub alive: bool,
    /// It has left for good.
    pub gone: bool,

    /// The core, once the engine is there. None of those who only play a script, and of plain players.
    pub core: Option<Box<Swarm>>,
    /// The script of one that is no viewer.
    pub script: Option<Script>,
    /// Segment of each object, by the core's number.
    pub objects: Vec<u32>,
    /// Playlist state that its page has last seen, by its end, and when it is read again.
    pub listed: usize,
    /// First segment that was listed then.
    pub listed_first: usize,
    /// It has read a playlist.
    pub reads: bool,
    /// The rendition whose playlist is awaited after a change.
    pub awaits: Option<usize>,
    /// When its page reads a live playlist again.
    pub next_poll: Millis,
    /// Segment that was loaded plainly before the engine came.
    pub early: Option<usize>,
    /// Flows arriving from peers and servers at once: they share the downlink.
    pub incoming: u32,
    /// HTTP transfers under way, by the core's name.
    pub fetches: Vec<(Fetch, usize)>,
    /// The plain load that is under way, or was before the engine came.
    pub plain: Option<usize>,
    /// Bytes of plain HTTP.
    pub plain_bytes: u64,
    /// Bytes since the connection to the server was idle, and when that was.
    pub http_ramp: (f64, Millis),
    /// A connection to the server is there.
    pub http_warm: bool,

    /// Connections.
    pub ends: Vec<End>,
    next_peer: u32,
    /// Connections being made.
    pub dialing: Vec<Dialing>,
    /// Until when the flows of its uplink are reckoned.
    pub uplink_at: Millis,
    /// Names the uplink event that counts.
    pub uplink_turn: u32,
    /// Time lost to others' data in the uplink's queue, in milliseconds.
    pub crowded: bool,

    /// Its socket.
    pub socket: Option<ConnectionId>,
    /// Its id; empty before `joined`.
    pub id: String,
    /// Told to signaling, and when.
    pub want: (u32, Millis),
    /// Ids that it must not meet again.
    pub banned: Vec<usize>,

    /// The player.
    pub player: Player,
    /// When the core is to be called next.
    pub wake_at: Millis,
    /// It waits to be drained.
    pub dirty: bool,
    /// Counters.
    pub counters: Counters,
    /// The core's byte counters, once it is gone.
    pub final_bytes: Option<Bytes>,
    /// When each live segment was held, after it was first listed, in milliseconds.
    pub spread: Vec<u32>,
    /// Neighbours lost, by reason.
    pub closes: Vec<CloseReason>,
}

impl Viewer {
    /// One that has not come yet.
    pub fn new(role: Role, player: Player) -> Self {
        Self {
            role,
            up: 0.0,
            down: 0.0,
            nat: 0,
            place: (0.0, 0.0),
            access: 0.0,
            loss: 0.0,
            address: Ipv4Addr::UNSPECIFIED,
            slowed: 1.0,
            alive: false,
            gone: false,
            core: None,
            script: None,
            objects: Vec::new(),
            listed: 0,
            listed_first: 0,
            reads: false,
            awaits: None,
            next_poll: 0,
            early: None,
            incoming: 0,
            fetches: Vec::new(),
            plain: None,
            plain_bytes: 0,
            http_ramp: (0.0, 0),
            http_warm: false,
            ends: Vec::new(),
            next_peer: 0,
            dialing: Vec::new(),
            uplink_at: 0,
            uplink_turn: 0,
            crowded: false,
            socket: None,
            id: String::new(),
            want: (0, 0),
            banned: Vec::new(),
            player,
            wake_at: Millis::MAX,
            dirty: false,
            counters: Counters::default(),
            final_bytes: None,
            spread: Vec::new(),
            closes: Vec::new(),
        }
    }

    /// Whether it has a picture to show.
    pub fn watches(&self) -> bool {
        matches!(self.role, Role::Viewer | Role::FreeRider)
    }

    /// What a page's work takes while it starts, in milliseconds, if it takes `ms` on an idle machine.
    pub fn slowly(&self, ms: Millis) -> Millis {
        (ms as f64 * self.slowed).round() as Millis
    }

    /// A fresh name for a connection.
    pub fn name_peer(&mut self) -> Peer {
        self.next_peer += 1;
        Peer(self.next_peer)
    }

    /// Its end of a connection.
    pub fn end(&mut self, peer: Peer) -> Option<&mut End> {
        self.ends.iter_mut().find(|end| end.peer == peer)
    }
}
