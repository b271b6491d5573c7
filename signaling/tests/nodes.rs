//! Several nodes over a real Redis, alone and as a cluster.

#[expect(dead_code, reason = "what the other test files use")]
mod common;

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use marea_signaling::{config::Config, service::Policy};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use common::{Client, PATIENCE, Running, http, text, video};

/// A Redis server of this test; killed when dropped.
struct Redis {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Redis {
    fn start() -> Self {
        Self::start_at(free_port(), tempfile::tempdir().unwrap(), &[])
    }

    fn start_at(port: u16, folder: tempfile::TempDir, more: &[&str]) -> Self {
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(folder.path()).args(more);
        let child = command.stdout(Stdio::null()).spawn();
        let child = child.expect("redis-server is needed: `cargo xtask test` installs it");
        let redis = Self { child, port, folder };
        let end = Instant::now() + PATIENCE;
        while redis.cli(&["PING"]) != "PONG" {
            assert!(Instant::now() < end, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        redis
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What redis-cli prints.
    fn cli(&self, args: &[&str]) -> String {
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(args).stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// As a power cut would: nothing is said, and what it held is lost.
    fn kill(mut self) -> (u16, tempfile::TempDir) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        (self.port, folder)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn config(redis: &str) -> Config {
    Config { secret: Some([7; 32]), redis: Some(redis.parse().unwrap()), ..common::config() }
}

async fn node(redis: &str) -> Running {
    let node = Running::start_config(config(redis)).await;
    until("the node reaches Redis", async || node.signaling.redis_up() == Some(true)).await;
    node
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < end, "it never happened that {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The value of a metric, 0 if it is not there.
async fn metric(node: &Running, name: &str) -> f64 {
    let (_, page) = http(node.admin.unwrap(), "GET /metrics HTTP/1.1").await;
    let line = page.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
}

fn matched(peer: String) -> impl Fn(&Value) -> bool {
    move |value| value["type"] == "match" && value["peers"][0]["peer"] == *peer
}

/// Two clients meet: each is told that there are two, the second is told of the first, and a handshake goes both ways.
async fn meet(a: &mut Client, b: &mut Client, name: &str) -> (String, String) {
    let a_id = text(&a.join(name, 8).await["peer"]);
    let b_id = text(&b.join(name, 8).await["peer"]);
    // Either may be the one that is told: the other is open by then.
    let (a_told, b_told) = (matched(b_id.clone()), matched(a_id.clone()));
    let ids = (a_id.clone(), b_id.clone());
    let (from, to, offerer, answerer) = tokio::select! {
        _ = a.until("match", a_told) => (a_id, b_id, a, b),
        _ = b.until("match", b_told) => (b_id, a_id, b, a),
    };
    let message =
        |kind: &str, to: &str| json!({"type": kind, "video": video(name), "to": to, "conn": "c", "sdp": "v=0"});
    offerer.send(&message("offer", &to)).await;
    assert_eq!(answerer.expect("offer").await["from"], json!(from));
    answerer.send(&message("answer", &from)).await;
    assert_eq!(offerer.expect("answer").await["from"], json!(to));
    ids
}

#[tokio::test]
async fn viewers_of_two_and_three_nodes_meet() {
    let redis = Redis::start();
    let nodes = [node(&redis.url()).await, node(&redis.url()).await, node(&redis.url()).await];
    let (mut a, mut b, mut c) = (nodes[0].client().await, nodes[1].client().await, nodes[2].client().await);
    meet(&mut a, &mut b, "tide").await;
    let joined = c.join("tide", 8).await;
    let count = |value: &Value| value["type"] == "viewers" && value["viewers"] == 3;
    if joined["viewers"] != 3 {
        c.until("viewers", count).await;
    }
    let mut met = 0;
    while met < 2 {
        met += c.expect("match").await["peers"].as_array().unwrap().len();
    }
    // One who leaves is missed by those who know it, wherever they are.
    a.close().await;
    for other in [&mut b, &mut c] {
        other.expect("gone").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_peer_says_arrives_whole_and_in_its_order() {
    let redis = Redis::start();
    let nodes = [node(&redis.url()).await, node(&redis.url()).await];
    let (mut a, mut b) = (nodes[0].client().await, nodes[1].client().await);
    let (_, b_id) = meet(&mut a, &mut b, "tide").await;
    // A candidate that overtook its offer would be refused.
    for number in 0..12 {
        let conn = format!("c{number}");
        a.send(&json!({"type": "offer", "video": video("tide"), "to": b_id, "conn": conn, "sdp": "v=0"})).await;
        for candidate in 0..15 {
            let candidate = json!({"candidate": format!("candidate:{candidate}"), "sdpMid": "0"});
            let message =
                json!({"type": "candidate", "video": video("tide"), "to": b_id, "conn": conn, "candidate": candidate});
            a.send(&message).await;
        }
    }
    for number in 0..12 {
        assert_eq!(b.expect("offer").await["conn"], json!(format!("c{number}")));
        for candidate in 0..15 {
            let heard = b.expect("candidate").await;
            assert_eq!(heard["candidate"]["candidate"], json!(format!("candidate:{candidate}")));
        }
    }
    let replayed = "marea_signaling_rejects_total{reason=\"node-replayed\"}";
    assert_eq!(metric(&nodes[1], replayed).await, 0.0);
}

#[tokio::test]
async fn viewers_meet_over_a_cluster() {
    let servers: Vec<Redis> = (0..3)
        .map(|_| {
            let more = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
            // The bus takes the port plus 10,000.
            let port = std::iter::repeat_with(free_port).find(|port| *port < 55_000).unwrap();
            Redis::start_at(port, tempfile::tempdir().unwrap(), &more)
        })
        .collect();
    let places: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
    let mut command = Command::new("redis-cli");
    command.args(["--cluster", "create", "--cluster-yes"]).args(&places).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    until("the cluster is up", async || {
        servers.iter().all(|server| server.cli(&["CLUSTER", "INFO"]).contains("state:ok"))
    })
    .await;
    let urls: Vec<String> = servers.iter().map(Redis::url).collect();
    let nodes = [node(&urls.join(",")).await, node(&urls[2]).await];
    for video in ["one", "two", "three", "four"] {
        let (mut a, mut b) = (nodes[0].client().await, nodes[1].client().await);
        meet(&mut a, &mut b, video).await;
    }
    // The subscriptions survive that their connections are cut.
    servers.iter().for_each(|server| drop(server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"])));
    for node in &nodes {
        until("the node is back", async || node.signaling.redis_up() == Some(true)).await;
    }
    let end = Instant::now() + Duration::from_secs(15);
    for number in 0.. {
        let (mut a, mut b) = (nodes[0].client().await, nodes[1].client().await);
        let name = format!("again {number}");
        if timeout(Duration::from_secs(2), meet(&mut a, &mut b, &name)).await.is_ok() {
            break;
        }
        assert!(Instant::now() < end, "nobody meets any more");
    }
}

#[tokio::test]
async fn redis_dies_and_comes_back_empty_and_no_client_notices() {
    let redis = Redis::start();
    let nodes = [node(&redis.url()).await, node(&redis.url()).await];
    let (mut a, mut b) = (nodes[0].client().await, nodes[1].client().await);
    meet(&mut a, &mut b, "tide").await;
    let (port, folder) = redis.kill();
    until("the nodes see that", async || nodes.iter().all(|node| node.signaling.redis_up() == Some(false))).await;
    for node in &nodes {
        let (status, page) = http(node.address, "GET /readyz HTTP/1.1").await;
        assert!(status == 200 && page.contains("redis: down"), "{page}");
        // Two of one node meet as ever.
        let (mut c, mut d) = (node.client().await, node.client().await);
        meet(&mut c, &mut d, "local").await;
    }
    // Those who know each other are only not heard.
    let to = json!({"type": "update", "video": video("tide"), "want": 8});
    a.send(&to).await;
    a.expect_silence().await;
    let begin = Instant::now();
    let _redis = Redis::start_at(port, folder, &[]);
    until("the nodes are back", async || nodes.iter().all(|node| node.signaling.redis_up() == Some(true))).await;
    let (mut c, mut d) = (nodes[0].client().await, nodes[1].client().await);
    meet(&mut c, &mut d, "again").await;
    // What was there before is there again: a newcomer of the old film counts all of them.
    let mut e = nodes[1].client().await;
    if e.join("tide", 8).await["viewers"] != 3 {
        e.until("viewers", |value| value["type"] == "viewers" && value["viewers"] == 3).await;
    }
    assert!(begin.elapsed() < Duration::from_secs(10), "healed after {:?}", begin.elapsed());
    for client in [&mut a, &mut b] {
        client.expect("viewers").await;
    }
}

#[tokio::test]
async fn what_is_forged_in_redis_matches_nobody() {
    let redis = Redis::start();
    let node = node(&redis.url()).await;
    let mut a = node.client().await;
    a.join("tide", 8).await;
    let id = redis.cli(&["HKEYS", "marea:1:nodes"]);
    assert_eq!(id.len(), 16, "{id}");
    let channel = format!("marea:1:c:{id}");
    let frame = format!("{}{}[]", "\u{1}", "x".repeat(32));
    for forged in [frame.as_str(), "", "[]", "\u{1}", &"y".repeat(100_000)] {
        assert_eq!(redis.cli(&["PUBLISH", &channel, forged]), "1");
    }
    let rejected = "marea_signaling_rejects_total{reason=\"node-forged\"}";
    until("they are refused", async || metric(&node, rejected).await == 5.0).await;
    // Wrong rows, and a node that does not exist.
    let row = redis.cli(&["KEYS", "marea:1:s:*"]);
    for (field, value) in [("junk", "1,0"), ("00000000000000aa", "x"), ("00000000000000ab", "-1,0,0")] {
        redis.cli(&["HSET", &row, field, value]);
    }
    redis.cli(&["HSET", "marea:1:nodes", "zz", "1,1,1"]);
    a.send(&json!({"type": "update", "video": video("tide"), "want": 9})).await;
    a.expect_silence().await;
}

#[tokio::test]
async fn nodes_of_other_versions_stand_beside_each_other() {
    let redis = Redis::start();
    let node = node(&redis.url()).await;
    let mut a = node.client().await;
    a.join("tide", 8).await;
    let row = redis.cli(&["KEYS", "marea:1:s:*"]);
    // One of the next version that still reads this one, and one that does not.
    let channel = "marea:1:c:00000000000000b1";
    let mut listener = Command::new("redis-cli")
        .args(["-p", &redis.port.to_string(), "SUBSCRIBE", channel])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut heard = BufReader::new(listener.stdout.take().unwrap());
    for (id, beat) in [("00000000000000b1", "1,1,2"), ("00000000000000b2", "1,2,3")] {
        redis.cli(&["HSET", "marea:1:nodes", id, beat]);
    }
    until("both are seen", async || metric(&node, "marea_signaling_nodes").await == 2.0).await;
    for id in ["00000000000000b1", "00000000000000b2"] {
        redis.cli(&["HSET", &row, id, "5,0"]);
    }
    redis.cli(&["HSET", "marea:1:nodes", "00000000000000b1", "2,1,2"]);
    // Its numbers count; the other's do not, since nobody there could be met.
    let mut b = node.client().await;
    b.join("tide", 8).await;
    b.until("viewers", |value| value["type"] == "viewers" && value["viewers"] == 7).await;
    // It is spoken to in version 1: the first byte of a frame.
    let mut line = Vec::new();
    while !line.starts_with(&[1]) {
        line.clear();
        heard.read_until(b'\n', &mut line).unwrap();
    }
    listener.kill().unwrap();
    listener.wait().unwrap();
}

#[tokio::test]
async fn a_dump_of_redis_holds_no_address_and_no_id() {
    let redis = Redis::start();
    let policy = Policy { trusted_proxies: vec!["127.0.0.1".parse().unwrap()], ..Policy::default() };
    let (one, other) = (
        Running::start_config(Config { policy: policy.clone(), ..config(&redis.url()) }).await,
        Running::start_config(Config { policy, ..config(&redis.url()) }).await,
    );
    let mut peers = Vec::new();
    let mut clients = Vec::new();
    for number in 0..20 {
        let node = if number % 2 == 0 { &one } else { &other };
        let address = format!("203.0.113.{number}");
        let mut client = Client::connect(node.address, &[("x-forwarded-for", address.as_str())]).await;
        peers.push(text(&client.join("tide", 8).await["peer"]));
        clients.push(client);
    }
    until("both nodes have written", async || {
        let row = redis.cli(&["KEYS", "marea:1:s:*"]);
        redis.cli(&["HLEN", &row]) == "2"
    })
    .await;
    redis.cli(&["CONFIG", "SET", "rdbcompression", "no"]);
    assert_eq!(redis.cli(&["SAVE"]), "OK");
    let dump = std::fs::read(redis.folder.path().join("dump.rdb")).unwrap();
    let holds = |bytes: &[u8]| dump.windows(bytes.len()).any(|window| window == bytes);
    assert!(holds(b"marea:1:nodes"));
    assert!(!holds(b"203.0.113") && !holds(&[203, 0, 113]));
    let id = video("tide");
    assert!(!holds(id.as_bytes()) && peers.iter().all(|peer| !holds(peer.as_bytes())));
}

#[tokio::test]
async fn nodes_without_a_secret_share_one() {
    let redis = Redis::start();
    let start = async || {
        let node = Running::start_config(Config { secret: None, ..config(&redis.url()) }).await;
        until("the node reaches Redis", async || node.signaling.redis_up() == Some(true)).await;
        node
    };
    let nodes = [start().await, start().await];
    let (mut a, mut b) = (nodes[0].client().await, nodes[1].client().await);
    let salt = a.join("salt", 0).await["salt"].clone();
    assert_eq!(b.join("salt", 0).await["salt"], salt);
    meet(&mut a, &mut b, "tide").await;
}

#[tokio::test]
async fn redis_may_be_away_at_the_start() {
    let port = free_port();
    let url = format!("redis://127.0.0.1:{port}");
    let nodes = [Running::start_config(config(&url)).await, Running::start_config(config(&url)).await];
    let (mut a, mut b) = (nodes[0].client().await, nodes[0].client().await);
    meet(&mut a, &mut b, "local").await;
    let _redis = Redis::start_at(port, tempfile::tempdir().unwrap(), &[]);
    until("the nodes reach Redis", async || nodes.iter().all(|node| node.signaling.redis_up() == Some(true))).await;
    let mut c = nodes[1].client().await;
    meet(&mut a, &mut c, "tide").await;
}

/// Viewers who came before a node knew the nodes' secret are met like all others once it does.
#[tokio::test]
async fn redis_may_be_away_from_nodes_without_a_secret() {
    let port = free_port();
    let url = format!("redis://127.0.0.1:{port}");
    let start = async || Running::start_config(Config { secret: None, ..config(&url) }).await;
    let nodes = [start().await, start().await];
    let mut early = nodes[0].client().await;
    let early_id = text(&early.join("tide", 8).await["peer"]);
    let _redis = Redis::start_at(port, tempfile::tempdir().unwrap(), &[]);
    until("the nodes reach Redis", async || nodes.iter().all(|node| node.signaling.redis_up() == Some(true))).await;
    let mut late = nodes[1].client().await;
    let late_id = text(&late.join("tide", 8).await["peer"]);
    tokio::select! {
        _ = early.until("match", matched(late_id)) => {}
        _ = late.until("match", matched(early_id)) => {}
    }
}

/// The program itself, to be stopped and killed.
struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    fn start(redis: &str, secret: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_marea-signaling"))
            .args(["--listen", "127.0.0.1:0", "--redis", redis, "--secret"])
            .arg(secret)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line:?}"));
        let address = address.trim_end().parse().unwrap();
        Self { child, address }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_node_that_is_killed_or_hangs_leaves_the_counts() {
    use rustix::process::Signal;
    let redis = Redis::start();
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), [7; 48]).unwrap();
    let url = redis.url();
    let [one, killed, stopped] = [(), (), ()].map(|()| Program::start(&url, secret.path()));
    let mut clients = Vec::new();
    for node in [&one, &killed, &stopped] {
        let mut client = Client::connect(node.address, &[]).await;
        client.join("tide", 0).await;
        clients.push(client);
    }
    let mut a = Client::connect(one.address, &[]).await;
    // Numbers are told each 10 s at most.
    let mut viewers = a.join("tide", 0).await["viewers"].clone();
    let mut count = async |expected: u32| {
        let wait = async {
            while viewers != expected {
                if let Some(text) = a.socket.next().await.unwrap().unwrap().as_text() {
                    viewers = serde_json::from_str::<Value>(text).unwrap()["viewers"].clone();
                }
            }
        };
        timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("never {expected} viewers"));
    };
    count(4).await;
    killed.signal(Signal::KILL);
    stopped.signal(Signal::STOP);
    // The lease of 15 s, seen at a beat of 5 s.
    count(2).await;
    // One that goes on is counted again.
    stopped.signal(Signal::CONT);
    count(3).await;
}

#[tokio::test]
async fn a_node_that_ends_takes_its_rows_with_it() {
    let redis = Redis::start();
    let mut one = node(&redis.url()).await;
    let other = node(&redis.url()).await;
    let (mut a, mut b) = (one.client().await, other.client().await);
    meet(&mut a, &mut b, "tide").await;
    one.stop();
    a.expect("drain").await;
    a.close().await;
    one.ended().await;
    assert_eq!(redis.cli(&["HLEN", "marea:1:nodes"]), "1");
    let row = redis.cli(&["KEYS", "marea:1:s:*"]);
    assert_eq!(redis.cli(&["HLEN", &row]), "1");
    // Nobody says that its viewers have left.
    b.expect_silence().await;
}

#[tokio::test]
async fn webtorrent_clients_of_two_nodes_meet() {
    let redis = Redis::start();
    let nodes = [node(&redis.url()).await, node(&redis.url()).await];
    let mut clients = Vec::new();
    for node in &nodes {
        clients.push(Client::connect_to(node.address, "/announce", &[]).await);
    }
    let announce = |peer: &str, offers: u32| {
        let offers: Vec<Value> = (0..offers)
            .map(|number| {
                json!({"offer_id": format!("{number:0>20}"), "offer": {"type": "offer", "sdp": format!("v=0 {number}\r\n")}})
            })
            .collect();
        json!({"action": "announce", "info_hash": "h".repeat(20), "peer_id": peer, "numwant": 5, "offers": offers})
    };
    let [a, b] = ["a", "b"].map(|letter| letter.repeat(20));
    clients[0].send(&announce(&a, 5)).await;
    clients[0].until("reply", |value| value.get("interval").is_some()).await;
    clients[1].send(&announce(&b, 5)).await;
    let offered = |value: &Value| value.get("offer").is_some();
    let offer = clients[0].until("offer", offered).await;
    assert_eq!((&offer["peer_id"], &offer["info_hash"]), (&json!(b), &json!("h".repeat(20))));
    let answer = json!({"action": "announce", "info_hash": "h".repeat(20), "peer_id": a, "to_peer_id": b,
        "offer_id": offer["offer_id"], "answer": {"type": "answer", "sdp": "v=0 answer\r\n"}});
    clients[0].send(&answer).await;
    let answered = clients[1].until("answer", |value| value.get("answer").is_some()).await;
    assert_eq!((&answered["peer_id"], &answered["answer"]["sdp"]), (&json!(a), &json!("v=0 answer\r\n")));
    // It is answered once, and counted as two everywhere.
    clients[0].send(&answer).await;
    clients[1].expect_silence().await;
    clients[0].send(&json!({"action": "scrape", "info_hash": "h".repeat(20)})).await;
    let files = clients[0].until("files", |value| value.get("files").is_some()).await;
    assert_eq!(files["files"]["h".repeat(20)]["incomplete"], 2);
}
