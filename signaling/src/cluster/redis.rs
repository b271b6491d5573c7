//! The connection to Redis, and what is kept there.
//!
//! | key | what |
//! |---|---|
//! | `marea:1:nodes` | hash: node → how often it has said that it lives, and the frame versions that it reads |
//! | `marea:1:s:ID` | hash: node → its members of a swarm; `ID` is a keyed hash of the announce id or info hash |
//! | `marea:1:secret` | the service's secret, if its operator has set none |
//! | channel `marea:1:c:NODE` | frames to a node, the only subscription that it has |
//!
//! A node whose number in `nodes` stands still for [`defaults::NODE_LEASE`] is dead: clocks of machines are never compared. Rows are
//! soft state, written at the first and the last member at once and else at most once a second, and anew every half minute.

mod rows;
mod servers;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError, Weak},
    time::Duration,
};

use ::redis::{PushInfo, PushKind, RedisError, RedisResult, Value, cmd, pipe};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use futures_util::future::try_join_all;
use tokio::{
    sync::{
        Notify,
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

pub use self::servers::{Servers, ServersError};
use self::{rows::Rows, servers::Connection};
use super::{
    Elsewhere, NodeEvent, NodeId, NodeMessage, Numbers, SwarmId,
    frame::{Framer, Refusal, VERSIONS},
};
use crate::{defaults, metrics::Metrics};

const NODES: &str = "marea:1:nodes";
const SECRET: &str = "marea:1:secret";

/// What the cores leave for the other nodes. Never blocks and never grows without bound.
#[derive(Debug)]
pub(crate) struct Outbound {
    queue: mpsc::Sender<(NodeId, NodeMessage)>,
    /// One entry a swarm: only the last numbers matter.
    changed: Mutex<HashMap<SwarmId, Numbers>>,
    wake: Notify,
}

impl Outbound {
    pub(crate) fn new() -> (Self, mpsc::Receiver<(NodeId, NodeMessage)>) {
        let (queue, receiver) = mpsc::channel(defaults::NODE_QUEUE);
        (Self { queue, changed: Mutex::default(), wake: Notify::new() }, receiver)
    }

    /// False if the queue is full: the message is lost.
    pub(crate) fn send(&self, node: NodeId, message: NodeMessage) -> bool {
        self.queue.try_send((node, message)).is_ok()
    }

    pub(crate) fn change(&self, swarm: SwarmId, numbers: Numbers) {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(swarm, numbers);
        self.wake.notify_one();
    }

    fn take_changed(&self) -> HashMap<SwarmId, Numbers> {
        std::mem::take(&mut self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Who hears what other nodes say.
pub(crate) trait Listener: Send + Sync + 'static {
    fn hear(&self, event: NodeEvent);
}

/// The secret that the nodes of one Redis share without their operator: made by the first of them.
///
/// # Errors
/// Redis cannot be reached within [`defaults::REDIS_CONNECT`].
pub async fn shared_secret(servers: &Servers) -> RedisResult<[u8; 32]> {
    let work = async {
        let mut connection = servers.connect(|_| Ok::<_, ()>(())).await?;
        let mut fresh = [0; 32];
        getrandom::fill(&mut fresh).map_err(|error| std::io::Error::other(error.to_string()))?;
        let () = cmd("SET")
            .arg(SECRET)
            .arg(HEXLOWER_PERMISSIVE.encode(&fresh))
            .arg("NX")
            .query_async(&mut connection)
            .await?;
        let text: String = cmd("GET").arg(SECRET).query_async(&mut connection).await?;
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes
            .ok_or_else(|| RedisError::from((::redis::ErrorKind::UnexpectedReturnType, "no secret", SECRET.to_owned())))
    };
    timeout(defaults::REDIS_CONNECT, work).await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
}

/// One node's part, run as a task until its listener is gone.
pub(crate) struct Node<L> {
    own: NodeId,
    servers: Servers,
    listener: Weak<L>,
    outbound: std::sync::Arc<Outbound>,
    queue: mpsc::Receiver<(NodeId, NodeMessage)>,
    leave: oneshot::Receiver<oneshot::Sender<()>>,
    framer: Framer,
    metrics: Metrics,
    rows: Rows,
    nodes: HashMap<NodeId, Standing>,
    beats: u64,
    /// Whether the operator has been told that Redis is gone.
    complained: bool,
}

/// What is known of another node.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// Its last number.
    beat: u64,
    /// When that was new.
    since: Instant,
    /// The newest frame version that both read.
    version: u8,
    alive: bool,
}

/// What a command brought.
enum Done {
    /// A swarm's row, with what the others have.
    Row(SwarmId, HashMap<String, String>),
    /// A row was taken out.
    Removed,
    /// The frames to all nodes; these nodes heard none of theirs.
    Published(Vec<NodeId>),
}

impl<L: Listener> Node<L> {
    #[expect(clippy::too_many_arguments, reason = "one call, all of them facts of a start")]
    pub(crate) fn new(
        own: NodeId,
        servers: Servers,
        secret: &[u8; 32],
        listener: Weak<L>,
        outbound: std::sync::Arc<Outbound>,
        queue: mpsc::Receiver<(NodeId, NodeMessage)>,
        leave: oneshot::Receiver<oneshot::Sender<()>>,
        metrics: Metrics,
    ) -> Self {
        Self {
            own,
            servers,
            listener,
            outbound,
            queue,
            leave,
            framer: Framer::new(secret, own),
            metrics,
            rows: Rows::new(secret),
            nodes: HashMap::new(),
            beats: 0,
            complained: false,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut wait = defaults::REDIS_RETRY.0;
        while self.listener.strong_count() > 0 {
            let (push, pushed) = mpsc::channel(defaults::NODE_QUEUE);
            let metrics = self.metrics.clone();
            let connecting = self.servers.connect(move |info: PushInfo| {
                // What is too much is lost, as with any other gap of pub/sub. If the end is, the next beat finds it.
                if let Err(TrySendError::Full(_)) = push.try_send(info) {
                    metrics.reject("node-queue-full");
                }
                Ok::<_, ()>(())
            });
            let error = match timeout(defaults::REDIS_CONNECT, connecting).await {
                Ok(Ok(connection)) => {
                    wait = defaults::REDIS_RETRY.0;
                    let end = self.talk(connection, pushed).await;
                    self.metrics.redis_up.set(0);
                    self.tell(NodeEvent::Reachable(false));
                    match end {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Ok(Err(error)) => error,
                Err(_) => std::io::Error::from(std::io::ErrorKind::TimedOut).into(),
            };
            if !std::mem::replace(&mut self.complained, true) {
                tracing::warn!(
                    %error,
                    "Redis cannot be used: viewers of this node are matched with each other only, until it is back"
                );
            }
            // What waits for the others is of no use later.
            while self.queue.try_recv().is_ok() {}
            let jitter = rand_part(self.own, self.beats);
            self.beats += 1;
            sleep(wait.mul_f64(0.5 + jitter)).await;
            wait = (wait * 2).min(defaults::REDIS_RETRY.1);
        }
    }

    /// Serves until the connection breaks, or until this node leaves.
    async fn talk(&mut self, mut connection: Connection, mut pushed: mpsc::Receiver<PushInfo>) -> RedisResult<()> {
        connection.subscribe(&channel(self.own)).await?;
        let now = Instant::now();
        // Before the rows: others look whether the nodes in them live.
        self.beat(&mut connection).await?;
        self.rows.return_all(now, defaults::ROW_RETURN);
        self.metrics.redis_up.set(1);
        if std::mem::take(&mut self.complained) {
            tracing::info!("Redis is back");
        }
        self.tell(NodeEvent::Reachable(true));
        let mut beat_at = now + defaults::NODE_BEAT;
        let mut work: JoinSet<RedisResult<Done>> = JoinSet::new();
        // One batch at a time, so that each node hears its frames in their order; what comes meanwhile makes the next one.
        let (mut waiting, mut publishing) = (Vec::new(), false);
        loop {
            for (swarm, numbers) in self.outbound.take_changed() {
                self.rows.change(Instant::now(), swarm, numbers);
            }
            while work.len() < defaults::REDIS_IN_FLIGHT
                && let Some(row) = self.rows.due(Instant::now())
            {
                let (own, mut connection) = (self.own, connection.clone());
                work.spawn(async move { write_row(own, &mut connection, row).await });
            }
            let busy = work.len() >= defaults::REDIS_IN_FLIGHT;
            let row_at = self.rows.next().filter(|_| !busy).unwrap_or(beat_at).min(beat_at);
            tokio::select! {
                biased;
                leaving = &mut self.leave => {
                    self.leave_well(&mut connection).await;
                    if let Ok(done) = leaving {
                        let _ = done.send(());
                    }
                    return Ok(());
                }
                Some(done) = work.join_next() => {
                    match done {
                        Ok(done) => match done? {
                            Done::Row(swarm, row) => self.read_row(swarm, &row, &mut waiting),
                            Done::Removed => {}
                            Done::Published(unheard) => {
                                publishing = false;
                                // Nobody listens: it has gone, or has lost Redis and will come back with a beat.
                                unheard.into_iter().for_each(|node| self.lose(node));
                            }
                        },
                        Err(error) => tracing::debug!(%error, "a task of Redis ended"),
                    }
                }
                push = pushed.recv() => {
                    let Some(push) = push else { return Err(gone()) };
                    match push.kind {
                        PushKind::Disconnection => return Err(gone()),
                        PushKind::Message | PushKind::SMessage => self.hear(&push.data),
                        _ => {}
                    }
                }
                () = sleep_until(beat_at) => {
                    beat_at = Instant::now() + defaults::NODE_BEAT;
                    // A beat that fails ends the connection: without it the others take this node for dead.
                    self.beat(&mut connection).await?;
                    if self.listener.strong_count() == 0 {
                        return Ok(());
                    }
                }
                () = sleep_until(row_at) => {}
                () = self.outbound.wake.notified() => {}
                count = self.queue.recv_many(&mut waiting, defaults::REDIS_IN_FLIGHT), if !publishing => {
                    if count == 0 {
                        return Ok(());
                    }
                }
            }
            if !publishing && !waiting.is_empty() {
                let frames = self.frames(std::mem::take(&mut waiting));
                publishing = !frames.is_empty();
                if publishing {
                    work.spawn(publish(connection.clone(), frames));
                }
            }
        }
    }

    /// Says that this node lives, and reads which others do.
    async fn beat(&mut self, connection: &mut Connection) -> RedisResult<()> {
        self.beats += 1;
        let value = format!("{},{},{}", self.beats, VERSIONS.0, VERSIONS.1);
        let (nodes,): (HashMap<String, String>,) = pipe()
            .hset(NODES, self.own.to_string(), value)
            .ignore()
            .expire(NODES, seconds(defaults::ROW_LIFE))
            .ignore()
            .hgetall(NODES)
            .query_async(connection)
            .await?;
        // Who has been dead for long is taken out by whoever sees it.
        let now = Instant::now();
        let long = |standing: &Standing| !standing.alive && now >= standing.since + defaults::NODE_FORGET;
        let dead = self.nodes.iter().filter(|(node, standing)| long(standing) && nodes.contains_key(&node.to_string()));
        let dead: Vec<String> = dead.map(|(node, _)| node.to_string()).collect();
        if !dead.is_empty() {
            let () = cmd("HDEL").arg(NODES).arg(dead).query_async(connection).await?;
        }
        self.read_nodes(&nodes);
        Ok(())
    }

    /// Takes this node's rows out, so that nobody asks it any more.
    async fn leave_well(&mut self, connection: &mut Connection) {
        let own = self.own.to_string();
        let work = async {
            let () = cmd("HDEL").arg(NODES).arg(&own).query_async(connection).await?;
            for key in self.rows.keys() {
                let () = cmd("HDEL").arg(key).arg(&own).query_async(connection).await?;
            }
            Ok::<_, RedisError>(())
        };
        if !matches!(timeout(defaults::REDIS_TIMEOUT, work).await, Ok(Ok(()))) {
            tracing::debug!("Redis was not told that this node leaves: its lease ends by itself");
        }
    }

    fn read_nodes(&mut self, nodes: &HashMap<String, String>) {
        let now = Instant::now();
        let read = |(node, value): (&String, &String)| {
            let mut numbers = value.split(',').map(|number| number.parse::<u64>().ok());
            let (beat, oldest, newest) = (numbers.next()??, numbers.next()??, numbers.next()??);
            let version = newest.min(VERSIONS.1.into());
            let common = version >= oldest && version >= VERSIONS.0.into();
            Some((parse_node(node)?, beat, u8::try_from(version).ok().filter(|_| common)))
        };
        // With one that reads no version that is written here there is nothing to be said.
        let mut listed: HashMap<NodeId, (u64, Option<u8>)> =
            nodes.iter().filter_map(read).map(|(node, beat, version)| (node, (beat, version))).collect();
        listed.remove(&self.own);
        let (mut expired, mut returned) = (Vec::new(), false);
        for (node, standing) in &mut self.nodes {
            match listed.remove(node) {
                Some((beat, Some(version))) if standing.beat != beat => {
                    returned |= !standing.alive;
                    *standing = Standing { beat, since: now, version, alive: true };
                }
                // One that is not listed may have left, or Redis has lost its list: the lease tells.
                _ if now >= standing.since + defaults::NODE_LEASE => expired.push(*node),
                _ => {}
            }
        }
        for (node, (beat, version)) in listed {
            let alive = version.is_some();
            self.nodes.insert(node, Standing { beat, since: now, version: version.unwrap_or_default(), alive });
        }
        expired.into_iter().for_each(|node| self.lose(node));
        self.nodes.retain(|_, standing| standing.alive || now < standing.since + 2 * defaults::NODE_FORGET);
        self.metrics.nodes.set(1 + self.nodes.values().filter(|standing| standing.alive).count() as i64);
        if returned {
            // It does not know that it was taken for dead, and does not write its rows anew for that.
            self.rows.return_all(now, defaults::ROW_RETURN);
        }
    }

    /// A node cannot be reached any more, unless it says again that it lives.
    fn lose(&mut self, node: NodeId) {
        let Some(standing) = self.nodes.get_mut(&node) else { return };
        if std::mem::replace(&mut standing.alive, false) {
            tracing::info!(%node, "a node is no more");
            self.tell(NodeEvent::Lost(node));
        }
    }

    /// What a row says of the other nodes; they hear of ours if they have not.
    fn read_row(&mut self, swarm: SwarmId, row: &HashMap<String, String>, more: &mut Vec<(NodeId, NodeMessage)>) {
        let mut elsewhere: Elsewhere = BTreeMap::new();
        for (node, numbers) in row {
            let Some(node) = parse_node(node).filter(|node| *node != self.own) else { continue };
            let mut parts = numbers.split(',').map(|number| number.parse::<u32>().ok());
            let (Some(Some(a)), Some(Some(b))) = (parts.next(), parts.next()) else { continue };
            // A node that is not known yet has begun since the last beat.
            if (a, b) != (0, 0) && self.nodes.get(&node).is_none_or(|standing| standing.alive) {
                elsewhere.insert(node, (a, b));
            }
        }
        if let Some(numbers) = self.rows.told(swarm, &elsewhere) {
            more.extend(elsewhere.keys().map(|node| (*node, NodeMessage::Count { swarm, numbers })));
        }
        self.tell(NodeEvent::Elsewhere(swarm, elsewhere));
    }

    /// One frame a node, unless it grows too long.
    fn frames(&mut self, messages: Vec<(NodeId, NodeMessage)>) -> BTreeMap<NodeId, Vec<Vec<u8>>> {
        let mut batches: BTreeMap<NodeId, Vec<Vec<String>>> = BTreeMap::new();
        for (node, message) in messages {
            if self.nodes.get(&node).is_some_and(|standing| !standing.alive) {
                continue;
            }
            // Plain data: it cannot fail to be written.
            let text = serde_json::to_string(&message).unwrap_or_default();
            let batches = batches.entry(node).or_default();
            match batches.last_mut() {
                Some(last) if last.iter().map(String::len).sum::<usize>() + text.len() <= defaults::NODE_FRAME => {
                    last.push(text);
                }
                _ => batches.push(vec![text]),
            }
            self.metrics.node_message("out");
        }
        let mut frames = BTreeMap::new();
        for (node, batches) in batches {
            let version = self.nodes.get(&node).map_or(VERSIONS.1, |standing| standing.version);
            let written = batches.iter().map(|batch| self.framer.write(node, version, batch)).collect();
            frames.insert(node, written);
        }
        frames
    }

    /// A message of pub/sub: channel and payload.
    fn hear(&mut self, data: &[Value]) {
        let Some(Value::BulkString(frame)) = data.get(1) else { return };
        match self.framer.read(frame) {
            Ok((node, messages)) => {
                for message in messages {
                    self.metrics.node_message("in");
                    self.tell(NodeEvent::Message(node, message));
                }
            }
            Err(refusal) => {
                self.metrics.reject(refusal.as_str());
                if refusal == Refusal::Forged {
                    tracing::debug!("a message in Redis is not of this service");
                }
            }
        }
    }

    fn tell(&self, event: NodeEvent) {
        if let Some(listener) = self.listener.upgrade() {
            listener.hear(event);
        }
    }
}

/// Publishes what each node is to hear, in its order.
async fn publish(connection: Connection, frames: BTreeMap<NodeId, Vec<Vec<u8>>>) -> RedisResult<Done> {
    let each = frames.into_iter().map(|(node, frames)| {
        let mut connection = connection.clone();
        async move {
            let mut heard = 0;
            for frame in frames {
                heard = connection.publish(&channel(node), frame).await?;
            }
            Ok::<_, RedisError>((heard == 0).then_some(node))
        }
    });
    let unheard: Vec<Option<NodeId>> = try_join_all(each).await?;
    Ok(Done::Published(unheard.into_iter().flatten().collect()))
}

/// Writes a row and reads what the others have.
async fn write_row(own: NodeId, connection: &mut Connection, row: rows::Write) -> RedisResult<Done> {
    let own = own.to_string();
    if row.numbers == (0, 0) {
        let () = cmd("HDEL").arg(&row.key).arg(own).query_async(connection).await?;
        return Ok(Done::Removed);
    }
    let (others,): (HashMap<String, String>,) = pipe()
        .hset(&row.key, own, format!("{},{}", row.numbers.0, row.numbers.1))
        .ignore()
        .expire(&row.key, seconds(defaults::ROW_LIFE))
        .ignore()
        .hgetall(&row.key)
        .query_async(connection)
        .await?;
    Ok(Done::Row(row.swarm, others))
}

fn channel(node: NodeId) -> String {
    format!("marea:1:c:{node}")
}

fn parse_node(text: &str) -> Option<NodeId> {
    u64::from_str_radix(text, 16).ok().map(NodeId)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn gone() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()
}

/// A number in `[0, 1)` that differs between nodes and times.
fn rand_part(node: NodeId, time: u64) -> f64 {
    let hash = blake3::Hasher::new().update(&node.0.to_be_bytes()).update(&time.to_be_bytes()).finalize();
    f64::from(hash.as_bytes()[0]) / 256.0
}

/// A swarm's name in Redis: who reads it there learns no announce id.
fn row_key(key: &[u8; 32], swarm: &SwarmId) -> String {
    let mut hasher = blake3::Hasher::new_keyed(key);
    match swarm {
        SwarmId::Video(video) => hasher.update(b"v").update(&video.0),
        SwarmId::Torrent(torrent) => hasher.update(b"t").update(&torrent.0),
    };
    format!("marea:1:s:{}", BASE64URL_NOPAD.encode(&hasher.finalize().as_bytes()[..16]))
}
