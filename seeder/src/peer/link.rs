//! One WebRTC connection, driven without a socket or a clock of its own: descriptions, candidates, the two channels, and how
//! much lies in them.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use marea_swarm::{
    proof::{Fingerprint, Role},
    sdp::{CandidateFilter, MAX_CANDIDATES, check_sdp},
    wire::FRAME_HEADER_LEN,
};
use str0m::{
    Candidate, Event, Input, Output, Rtc, RtcConfig,
    change::{SdpAnswer, SdpOffer, SdpPendingOffer},
    channel::{ChannelConfig, ChannelId},
    crypto::dtls::DtlsCert,
    net::{Protocol, Receive, Transmit},
};

use crate::config::{
    LINK_CONTROL, LINK_OPEN, LINK_PROBES, LINK_PROGRESS, LINK_RATE_SAMPLE, LINK_ROUTES, LINK_WINDOW, LINK_WINDOW_TIME,
};

/// Why a connection cannot be made or goes on no more.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("the neighbour's description is refused: {0}")]
    Sdp(#[from] marea_swarm::sdp::SdpError),
    #[error("the neighbour's description cannot be read: {0}")]
    Unreadable(String),
    #[error("it does not fit what was said before")]
    OutOfTurn,
    #[error(transparent)]
    Rtc(#[from] str0m::RtcError),
}

/// Whose connection it is.
#[derive(Clone, Debug)]
pub(super) struct Name {
    /// Announce id of the video.
    pub(super) video: String,
    /// The neighbour's id.
    pub(super) peer: String,
    /// The connection's id at signaling.
    pub(super) conn: String,
    /// Both have one public address.
    pub(super) near: bool,
}

/// What all connections share.
pub(super) struct Common<'a> {
    pub(super) certificate: &'a DtlsCert,
    /// Our sockets.
    pub(super) addresses: Vec<SocketAddr>,
    /// Sockets and how they are seen.
    pub(super) reflexive: Vec<(SocketAddr, SocketAddr)>,
}

/// What happened on a connection.
#[derive(Debug)]
pub(super) enum Happened {
    /// Both channels are open.
    Open,
    Control(Vec<u8>),
    Data(Vec<u8>),
    /// It is over.
    Closed,
}

/// One connection.
pub(super) struct Link {
    pub(super) name: Name,
    pub(super) role: Role,
    rtc: Rtc,
    pending: Option<SdpPendingOffer>,
    filter: CandidateFilter,
    /// Candidates that came before their description.
    early: Vec<String>,
    /// What may still be sent to an address, unless (none) something of this connection has come from it; at most
    /// [`LINK_ROUTES`] addresses.
    probes: HashMap<IpAddr, Option<u8>>,
    pub(super) local: Fingerprint,
    pub(super) remote: Option<Fingerprint>,
    channels: [ChannelId; 2],
    opened: [bool; 2],
    /// When it has to be looked at.
    pub(super) timeout: Instant,
    since: Instant,
    /// Messages that the stack has not taken yet.
    control: VecDeque<Vec<u8>>,
    /// Bytes of `control`.
    queued: usize,
    /// Frames of media, and whether they are of an init section.
    frames: VecDeque<(Vec<u8>, bool)>,
    /// Bytes of `frames`.
    pub(super) unsent: usize,
    /// Bytes of media that were handed to the stack and not yet counted: of segments, of init sections.
    pub(super) uncounted: [u64; 2],
    /// Bytes given to the stack in all, and those of them that have arrived.
    written: u64,
    arrived: u64,
    /// When more arrived last, or something was sent after all had.
    progress: Instant,
    /// Since when arrivals are counted, and how many there were then.
    sample: (Instant, u64),
    /// Most bytes that lie in the stack, under way or not.
    window: usize,
}

impl Link {
    /// A connection that we offer; gives the description.
    pub(super) fn offer(name: Name, common: &Common<'_>, now: Instant) -> Result<(Self, String), LinkError> {
        let (mut rtc, filter) = begin(&name, common, now);
        let mut changes = rtc.sdp_api();
        let channels = [CONTROL, DATA].map(|channel| changes.add_channel_with_config(channel.config()));
        let (offer, pending) = changes.apply().ok_or(LinkError::OutOfTurn)?;
        let sdp = offer.to_sdp_string();
        let local = check_sdp(&sdp)?;
        let sdp = ours(&name, &sdp);
        Ok((Self::new(name, Role::Offerer, rtc, Some(pending), filter, local, None, channels, now), sdp))
    }

    /// A connection that a neighbour offers; gives the answer.
    pub(super) fn answer(
        name: Name,
        offer: &str,
        common: &Common<'_>,
        now: Instant,
    ) -> Result<(Self, String), LinkError> {
        let remote = check_sdp(offer)?;
        let (mut rtc, mut filter) = begin(&name, common, now);
        let answer = rtc.sdp_api().accept_offer(read_offer(&mut filter, offer)?)?;
        let sdp = answer.to_sdp_string();
        let local = check_sdp(&sdp)?;
        let sdp = ours(&name, &sdp);
        let channels = [CONTROL, DATA].map(|channel| rtc.direct_api().create_data_channel(channel.config()));
        Ok((Self::new(name, Role::Answerer, rtc, None, filter, local, Some(remote), channels, now), sdp))
    }

    #[expect(clippy::too_many_arguments, reason = "the fields that differ between the two above")]
    fn new(
        name: Name,
        role: Role,
        rtc: Rtc,
        pending: Option<SdpPendingOffer>,
        filter: CandidateFilter,
        local: Fingerprint,
        remote: Option<Fingerprint>,
        channels: [ChannelId; 2],
        now: Instant,
    ) -> Self {
        Self {
            name,
            role,
            rtc,
            pending,
            filter,
            early: Vec::new(),
            probes: HashMap::new(),
            local,
            remote,
            channels,
            opened: [false; 2],
            timeout: now,
            since: now,
            control: VecDeque::new(),
            queued: 0,
            frames: VecDeque::new(),
            unsent: 0,
            uncounted: [0; 2],
            written: 0,
            arrived: 0,
            progress: now,
            sample: (now, 0),
            window: LINK_WINDOW.0,
        }
    }

    /// Whether both channels are open.
    pub(super) fn is_open(&self) -> bool {
        self.opened == [true; 2]
    }

    /// Our name in ICE, which the neighbour's checks carry.
    pub(super) fn ufrag(&mut self) -> String {
        self.rtc.direct_api().local_ice_credentials().ufrag
    }

    /// Whether our offer still waits for its answer.
    pub(super) fn is_unanswered(&self) -> bool {
        self.pending.is_some()
    }

    /// The neighbour's answer to our offer.
    pub(super) fn answered(&mut self, sdp: &str, now: Instant) -> Result<(), LinkError> {
        let remote = check_sdp(sdp)?;
        let pending = self.pending.take().ok_or(LinkError::OutOfTurn)?;
        let sdp = self.filter.filter_sdp(sdp);
        let answer = SdpAnswer::from_sdp_string(&sdp).map_err(|error| LinkError::Unreadable(error.to_string()))?;
        self.rtc.sdp_api().accept_answer(pending, answer)?;
        self.remote = Some(remote);
        self.timeout = now;
        for candidate in std::mem::take(&mut self.early) {
            self.take(&candidate);
        }
        Ok(())
    }

    /// An offer with the same `conn`: the neighbour's addresses have changed. Gives the answer.
    pub(super) fn restarted(&mut self, offer: &str, now: Instant) -> Result<String, LinkError> {
        if Some(check_sdp(offer)?) != self.remote {
            return Err(LinkError::OutOfTurn);
        }
        // The filter lives as long as the connection: a restart is no new allowance of addresses to try.
        let answer = self.rtc.sdp_api().accept_offer(read_offer(&mut self.filter, offer)?)?;
        self.timeout = now;
        Ok(ours(&self.name, &answer.to_sdp_string()))
    }

    /// A candidate of the neighbour's.
    pub(super) fn candidate(&mut self, candidate: &str, now: Instant) {
        if self.remote.is_some() {
            self.take(candidate);
            self.timeout = now;
        } else if self.early.len() < MAX_CANDIDATES {
            self.early.push(candidate.to_owned());
        }
    }

    fn take(&mut self, candidate: &str) {
        // A hidden name cannot be resolved here: its owner finds us, and becomes known by that. TCP is not spoken.
        if !candidate.is_empty()
            && self.filter.allow(candidate)
            && let Ok(candidate) = Candidate::from_sdp_string(candidate)
            && candidate.proto() == Protocol::Udp
        {
            self.rtc.add_remote_candidate(candidate);
        }
    }

    /// An address of ours that became known; gives what the neighbour is to be told.
    pub(super) fn seen_as(&mut self, base: SocketAddr, seen: SocketAddr, now: Instant) -> Option<String> {
        let candidate = Candidate::server_reflexive(seen, base, Protocol::Udp).ok()?;
        let text = self.rtc.add_local_candidate(candidate)?.to_sdp_string();
        self.timeout = now;
        CandidateFilter::new(self.name.near).allow(&text).then_some(text)
    }

    /// Whether a datagram belongs to this connection.
    pub(super) fn accepts(&self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> bool {
        received(now, from, to, bytes).is_some_and(|input| self.rtc.accepts(&input))
    }

    /// A datagram of this connection.
    pub(super) fn receive(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if let Some(input) = received(now, from, to, bytes) {
            if self.knows(from.ip()) {
                self.probes.insert(from.ip(), None);
            }
            self.input(input);
        }
    }

    fn input(&mut self, input: Input<'_>) {
        if let Err(error) = self.rtc.handle_input(input) {
            tracing::debug!(%error, "a connection is given up");
            self.rtc.disconnect();
        }
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, now: Instant) {
        self.input(Input::Timeout(now));
    }

    /// Queues a message of the `control` channel. A neighbour who takes none is given up before they fill the memory.
    pub(super) fn send_control(&mut self, bytes: Vec<u8>) {
        self.queued += bytes.len();
        self.control.push_back(bytes);
        if self.queued > LINK_CONTROL {
            self.rtc.disconnect();
        }
    }

    /// Queues a message of the `data` channel; `init`: of an init section.
    pub(super) fn send_frame(&mut self, bytes: Vec<u8>, init: bool) {
        self.unsent += bytes.len();
        self.frames.push_back((bytes, init));
    }

    /// Ends it, as far as possible in good order.
    pub(super) fn close(&mut self) {
        if self.rtc.close().is_err() {
            self.rtc.disconnect();
        }
    }

    /// Carries out all that is due: hands queued messages to the stack as far as its window and `budget` (bytes of media) go,
    /// and collects what is to be sent and what happened.
    pub(super) fn run(
        &mut self,
        now: Instant,
        budget: &mut f64,
        out: &mut Vec<Transmit>,
        happened: &mut Vec<Happened>,
    ) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Transmit(transmit)) => {
                    if self.may_send(transmit.destination.ip()) {
                        out.push(transmit);
                    }
                }
                Ok(Output::Event(event)) => self.event(event, happened),
                Ok(Output::Timeout(timeout)) => {
                    if !self.rtc.is_alive() || self.is_dead(now) {
                        happened.push(Happened::Closed);
                        self.rtc.disconnect();
                        return;
                    }
                    if !self.write(now, budget) {
                        self.timeout = timeout.min(self.deadline());
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection is given up");
                    happened.push(Happened::Closed);
                    self.rtc.disconnect();
                    return;
                }
            }
        }
    }

    /// Whether an address is remembered, or can be.
    fn knows(&self, ip: IpAddr) -> bool {
        self.probes.len() < LINK_ROUTES || self.probes.contains_key(&ip)
    }

    /// Whether a datagram may go there: whoever a neighbour gives for himself gets no more than a few that he did not want.
    fn may_send(&mut self, to: IpAddr) -> bool {
        if !self.knows(to) {
            return false;
        }
        match self.probes.entry(to).or_insert(Some(LINK_PROBES)) {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    fn event(&mut self, event: Event, happened: &mut Vec<Happened>) {
        match event {
            Event::ChannelOpen(id, _) => {
                let Some(index) = self.channels.iter().position(|&channel| channel == id) else { return };
                // Whatever arrives frees the stack's buffer; this wakes us when it has.
                if let Some(mut channel) = self.rtc.channel(id) {
                    channel.set_buffered_amount_low_threshold(LINK_WINDOW.0 / 2);
                }
                let before = self.is_open();
                self.opened[index] = true;
                if self.is_open() && !before {
                    happened.push(Happened::Open);
                }
            }
            Event::ChannelData(data) if data.id == self.channels[0] => happened.push(Happened::Control(data.data)),
            Event::ChannelData(data) if data.id == self.channels[1] => happened.push(Happened::Data(data.data)),
            Event::ChannelClose(_) | Event::Closed => happened.push(Happened::Closed),
            _ => {}
        }
    }

    /// Hands one message to the stack; false if none can go now.
    fn write(&mut self, now: Instant, budget: &mut f64) -> bool {
        if !self.is_open() {
            return false;
        }
        let buffered = self.buffered();
        self.measure(now, buffered);
        let (index, message, init) = match (self.control.front(), self.frames.front()) {
            (Some(message), _) => (0, message, false),
            (None, Some((frame, init))) if *budget > 0.0 && buffered + frame.len() <= self.window => (1, frame, *init),
            _ => return false,
        };
        let Some(mut channel) = self.rtc.channel(self.channels[index]) else { return false };
        if !matches!(channel.write(true, message), Ok(true)) {
            return false;
        }
        if self.written == self.arrived {
            self.progress = now;
        }
        let len = message.len();
        self.written += len as u64;
        if index == 0 {
            self.control.pop_front();
            self.queued -= len;
        } else {
            self.frames.pop_front();
            self.unsent -= len;
            self.uncounted[usize::from(init)] += len.saturating_sub(FRAME_HEADER_LEN) as u64;
            *budget -= len as f64;
        }
        true
    }

    /// Bytes in the stack that have not arrived.
    fn buffered(&mut self) -> usize {
        self.channels.map(|id| self.rtc.channel(id).map_or(0, |mut channel| channel.buffered_amount())).iter().sum()
    }

    fn measure(&mut self, now: Instant, buffered: usize) {
        let arrived = self.written.saturating_sub(buffered as u64);
        if arrived > self.arrived {
            self.arrived = arrived;
            self.progress = now;
        }
        let (since, before) = self.sample;
        let elapsed = now.duration_since(since);
        if elapsed >= LINK_RATE_SAMPLE {
            // What is in the stack is what the next control message waits for.
            let rate = (arrived - before.min(arrived)) as f64 / elapsed.as_secs_f64();
            let fits = (rate * LINK_WINDOW_TIME.as_secs_f64()) as usize;
            if fits > self.window || !self.frames.is_empty() {
                self.window = fits.clamp(LINK_WINDOW.0, LINK_WINDOW.1);
            }
            self.sample = (now, arrived);
        }
    }

    fn is_dead(&self, now: Instant) -> bool {
        now >= self.deadline()
    }

    /// When it is given up if nothing happens.
    fn deadline(&self) -> Instant {
        if !self.is_open() {
            self.since + LINK_OPEN
        } else if self.written > self.arrived {
            self.progress + LINK_PROGRESS
        } else {
            self.progress + Duration::from_secs(3600)
        }
    }
}

/// One of the two channels, `docs/protocol.md` §5.
struct Negotiated {
    label: &'static str,
    id: u16,
    ordered: bool,
}

const CONTROL: Negotiated = Negotiated { label: "control", id: 0, ordered: true };
const DATA: Negotiated = Negotiated { label: "data", id: 1, ordered: false };

impl Negotiated {
    fn config(&self) -> ChannelConfig {
        ChannelConfig {
            label: self.label.to_owned(),
            ordered: self.ordered,
            negotiated: Some(self.id),
            ..ChannelConfig::default()
        }
    }
}

fn begin(name: &Name, common: &Common<'_>, now: Instant) -> (Rtc, CandidateFilter) {
    let mut config = RtcConfig::new().clear_codecs().set_dtls_cert(common.certificate.clone());
    config = config.set_sctp_max_buffered_amount(2 * LINK_WINDOW.1);
    let mut rtc = config.build(now);
    for &address in &common.addresses {
        if let Ok(candidate) = Candidate::host(address, Protocol::Udp) {
            rtc.add_local_candidate(candidate);
        }
    }
    for &(base, seen) in &common.reflexive {
        if let Ok(candidate) = Candidate::server_reflexive(seen, base, Protocol::Udp) {
            rtc.add_local_candidate(candidate);
        }
    }
    (rtc, CandidateFilter::new(name.near))
}

/// Our description as the neighbour is to see it: addresses of our home network are nothing to strangers.
fn ours(name: &Name, sdp: &str) -> String {
    CandidateFilter::new(name.near).filter_sdp(sdp)
}

fn read_offer(filter: &mut CandidateFilter, offer: &str) -> Result<SdpOffer, LinkError> {
    SdpOffer::from_sdp_string(&filter.filter_sdp(offer)).map_err(|error| LinkError::Unreadable(error.to_string()))
}

fn received<'a>(now: Instant, source: SocketAddr, destination: SocketAddr, bytes: &'a [u8]) -> Option<Input<'a>> {
    let contents = bytes.try_into().ok()?;
    Some(Input::Receive(now, Receive { proto: Protocol::Udp, source, destination, contents }))
}
