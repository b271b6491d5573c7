//! One WebRTC connection: offer or answer, candidates, the two negotiated channels.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::{Bytes, BytesMut};
use marea_swarm::{
    proof::{Fingerprint, Role},
    sdp::{CandidateFilter, check_sdp},
};
use rtc::peer_connection::transport::RTCDtlsRole;
use tokio::{sync::mpsc, task::JoinSet, time};
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit},
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceCandidateInit,
        RTCPeerConnectionIceEvent, RTCPeerConnectionState, RTCSessionDescription, SettingEngineBuilder,
    },
};

use super::{
    Shared,
    session::Session,
    signal::{self, Candidate, ToServer},
};

/// From the start to both channels open. Signaling forgets an offer after 30 s.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes that a channel may hold before `send` waits: so little that a CANCEL still saves something.
const SEND_BUFFER: usize = 256 * 1024;

/// Messages read and not yet handled, per connection.
const READ_AHEAD: usize = 256;

/// How often a session looks at its timers.
const TICK: Duration = Duration::from_millis(200);

/// What signaling relays to a link.
pub(super) enum Remote {
    Answer(String),
    Candidate(String),
    Rejected,
}

/// One of the two channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Control,
    Data,
}

/// A connection to be made.
pub(super) struct Link {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: String,
    pub(super) conn: String,
    /// Our side.
    pub(super) role: Role,
    pub(super) near: bool,
    /// Set once our offer is answered.
    pub(super) answered: Arc<AtomicBool>,
    pub(super) remote: mpsc::UnboundedReceiver<Remote>,
    pub(super) out: mpsc::UnboundedSender<ToServer>,
}

/// What the WebRTC stack calls back with.
struct Handler {
    candidates: mpsc::UnboundedSender<String>,
    ended: mpsc::UnboundedSender<RTCPeerConnectionState>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if let Ok(candidate) = event.candidate.to_json() {
            let _ = self.candidates.send(candidate.candidate);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if matches!(state, RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed) {
            let _ = self.ended.send(state);
        }
    }
}

/// The two channels of an open connection and what identifies it.
pub(super) struct Pipes {
    pub(super) control: Arc<dyn DataChannel>,
    pub(super) data: Arc<dyn DataChannel>,
    pub(super) local: Fingerprint,
    pub(super) remote: Fingerprint,
    /// Whether HELLO is said at once or only after the neighbour's. The `webrtc` crate (0.21.1) loses a message that comes
    /// with the end of the SCTP handshake, before it has opened its negotiated channels. Only the DTLS client's side can
    /// meet that, so the server's waits until the client has spoken.
    pub(super) speaks_first: bool,
}

impl Link {
    /// Runs the connection to its end and tells what ended it.
    pub(super) async fn run(mut self, offer: Option<String>) {
        let mut session = Session::new(Arc::clone(&self.shared), self.peer.clone(), self.role);
        let reason = match self.connect(offer, &mut session).await {
            Ok(reason) => reason,
            Err(error) => format!("{error:#}"),
        };
        self.shared.event(session.closed(reason));
    }

    async fn connect(&mut self, offer: Option<String>, session: &mut Session) -> Result<String> {
        let (candidates, mut local_candidates) = mpsc::unbounded_channel();
        let (ended, mut states) = mpsc::unbounded_channel();
        // Hidden (mDNS) addresses are not resolved: their owner reaches ours, and becomes known by that.
        let connection = PeerConnectionBuilder::new()
            .with_setting_engine(SettingEngineBuilder::new().with_answering_dtls_role(RTCDtlsRole::Server).build())
            .with_handler(Arc::new(Handler { candidates, ended }))
            .with_runtime(Arc::new(webrtc::runtime::TokioRuntime))
            .with_udp_addrs(vec![format!("{}:0", self.shared.options.address)])
            .with_data_channel_send_buffer_limit(SEND_BUFFER)
            .build()
            .await?;
        let control = connection.create_data_channel("control", Some(negotiated(0, true))).await?;
        let data = connection.create_data_channel("data", Some(negotiated(1, false))).await?;
        let mut filter = CandidateFilter::new(self.near);

        let offered = offer.map(|sdp| -> Result<_> {
            let fingerprint = check_sdp(&sdp).context("the offer")?;
            Ok((fingerprint, filter.filter_sdp(&sdp)))
        });
        let (mut remote, description) = match offered.transpose()? {
            Some((fingerprint, sdp)) => {
                connection.set_remote_description(RTCSessionDescription::offer(sdp)?).await?;
                (Some(fingerprint), connection.create_answer(None).await?)
            }
            None => (None, connection.create_offer(None).await?),
        };
        connection.set_local_description(description).await?;
        let sdp = connection.local_description().await.ok_or_else(|| anyhow!("no local description"))?.sdp;
        let local = check_sdp(&sdp).context("our own description")?;
        let (video, to, conn) = (signal::announce(&self.shared.options.video), self.peer.clone(), self.conn.clone());
        let _ = self.out.send(match self.role {
            Role::Offerer => ToServer::Offer { video, to, conn, sdp },
            Role::Answerer => ToServer::Answer { video, to, conn, sdp },
        });

        let mut readers = JoinSet::new();
        let (read, mut messages) = mpsc::channel(READ_AHEAD);
        for (name, channel) in [(Channel::Control, &control), (Channel::Data, &data)] {
            let (channel, read) = (Arc::clone(channel), read.clone());
            readers.spawn(async move {
                while let Some(event) = channel.poll().await {
                    if read.send((name, event)).await.is_err() {
                        break;
                    }
                }
            });
        }
        drop(read);

        let mut opened = (false, false);
        let mut speaks_first = false;
        let mut early = Vec::new();
        let mut unheard = VecDeque::new();
        let deadline = time::sleep(OPEN_TIMEOUT);
        tokio::pin!(deadline);
        let mut tick = time::interval(TICK);
        let mut news = self.shared.news.subscribe();
        loop {
            tokio::select! {
                Some(candidate) = local_candidates.recv() => self.tell_candidate(candidate),
                Some(relayed) = self.remote.recv() => match relayed {
                    Remote::Answer(sdp) => {
                        ensure!(self.role == Role::Offerer && remote.is_none(), "an answer that nobody asked for");
                        remote = Some(check_sdp(&sdp).context("the answer")?);
                        self.answered.store(true, Ordering::Relaxed);
                        speaks_first = sdp.contains("a=setup:passive");
                        let sdp = RTCSessionDescription::answer(filter.filter_sdp(&sdp))?;
                        connection.set_remote_description(sdp).await?;
                        for candidate in early.drain(..) {
                            connection.add_ice_candidate(candidate).await?;
                        }
                    }
                    Remote::Candidate(candidate) => {
                        if filter.allow(&candidate) && !candidate.is_empty() && !candidate.contains(".local ") {
                            let sdp_mline_index = Some(0);
                            let candidate = RTCIceCandidateInit { candidate, sdp_mline_index, ..Default::default() };
                            if remote.is_some() {
                                connection.add_ice_candidate(candidate).await?;
                            } else {
                                early.push(candidate);
                            }
                        }
                    }
                    Remote::Rejected => bail!("rejected by the neighbour"),
                },
                Some(state) = states.recv() => bail!("connection {state}"),
                message = messages.recv() => match message {
                    None => bail!("channels closed"),
                    Some((name, DataChannelEvent::OnOpen)) => {
                        match name {
                            Channel::Control => opened.0 = true,
                            Channel::Data => opened.1 = true,
                        }
                        if opened == (true, true) {
                            let remote = remote.ok_or_else(|| anyhow!("open before it was answered"))?;
                            let (control, data) = (Arc::clone(&control), Arc::clone(&data));
                            let pipes = Pipes { control, data, local, remote, speaks_first };
                            session.open(pipes).await?;
                        }
                    }
                    Some((name, DataChannelEvent::OnMessage(message))) => unheard.push_back((name, message.data)),
                    Some((_, DataChannelEvent::OnClose)) => bail!("channels closed"),
                    Some(_) => {}
                },
                Ok((oid, piece)) = news.recv() => session.announce(oid, piece).await?,
                _ = tick.tick() => session.tick().await?,
                () = &mut deadline, if opened != (true, true) => bail!("not open after {} s", OPEN_TIMEOUT.as_secs()),
            }
            // The neighbour's HELLO may come over the first channel before the second is open here.
            while opened == (true, true)
                && let Some((name, message)) = unheard.pop_front()
            {
                if let Some(reason) = session.message(name, Bytes::from(message)).await? {
                    connection.close().await?;
                    return Ok(reason);
                }
            }
        }
    }

    fn tell_candidate(&self, candidate: String) {
        let candidate = Some(Candidate { candidate, sdp_m_line_index: Some(0) });
        let (video, to, conn) = (signal::announce(&self.shared.options.video), self.peer.clone(), self.conn.clone());
        let _ = self.out.send(ToServer::Candidate { video, to, conn, candidate });
    }
}

fn negotiated(id: u16, ordered: bool) -> RTCDataChannelInit {
    RTCDataChannelInit { ordered, negotiated: Some(id), ..Default::default() }
}

/// Sends one message; waits while the channel's buffer is full.
pub(super) async fn send(channel: &Arc<dyn DataChannel>, message: &[u8]) -> Result<()> {
    Ok(channel.send(BytesMut::from(message)).await?)
}
