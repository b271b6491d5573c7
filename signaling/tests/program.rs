//! The program itself: its command line, its output, its signals.

#[expect(dead_code, reason = "what the other test file uses")]
mod common;

use std::{
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use common::{Client, PATIENCE, http};

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marea-signaling"));
    command.args(args).stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = program(args).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A running program; killed when dropped.
struct Process {
    child: Child,
    address: SocketAddr,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Process {
    fn start(args: &[&str]) -> Self {
        let mut child = program(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line:?}"));
        let address = address.trim_end().parse().unwrap();
        Self { child, address, stdout }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn wait(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it did not end");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn it_says_where_it_listens_and_drains_on_sigterm() {
    let mut process = Process::start(&["--listen", "127.0.0.1:0"]);
    assert_ne!(process.address.port(), 0);
    let mut client = Client::connect(process.address, &[]).await;
    client.join("tide", 0).await;
    process.signal(rustix::process::Signal::TERM);
    client.expect("drain").await;
    client.close().await;
    assert_eq!(process.wait(), Some(0));
    let mut rest = String::new();
    process.stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "one line on stdout");
}

#[tokio::test]
async fn sighup_reads_the_file_again_and_keeps_clients() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "udp = \"none\"\n").unwrap();
    let process = Process::start(&["--listen", "127.0.0.1:0", "--config", file.path().to_str().unwrap()]);
    let origin = [("origin", "http://localhost:1")];
    let mut old = Client::connect(process.address, &origin).await;
    assert_eq!(old.join("tide", 0).await["ice"], serde_json::json!([]));
    std::fs::write(file.path(), "udp = \"none\"\nallow-origin = [\"https://video.example\"]\n").unwrap();
    process.signal(rustix::process::Signal::HUP);
    let end = Instant::now() + PATIENCE;
    loop {
        let mut new = Client::connect(process.address, &origin).await;
        new.send(&serde_json::json!({"type": "dance"})).await;
        if new.expect("error").await["code"] == "origin-refused" {
            break;
        }
        assert!(Instant::now() < end, "the new list does not count");
    }
    // What is wrong changes nothing.
    std::fs::write(file.path(), "nonsense = 1\n").unwrap();
    process.signal(rustix::process::Signal::HUP);
    old.join("moon", 0).await;
    assert_eq!(http(process.address, "GET /readyz HTTP/1.1").await.0, 200);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, stdout, stderr) = output(&["--listen", &address]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains(&address) && stderr.contains("in use") && stderr.contains("--listen"), "{stderr}");
}

#[test]
fn wrong_usage_ends_with_2_and_says_why() {
    for (args, expected) in [
        (&["--rediss", "redis://x"][..], "--rediss"),
        (&["--listen", "nowhere"], "nowhere"),
        (&["--public-url", "x"], "public-url"),
        (&["--config", "/nonexistent/x.toml"], "/nonexistent/x.toml"),
    ] {
        let (code, stdout, stderr) = output(args);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(stderr.contains(expected), "{stderr}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "allow-origins = []\n").unwrap();
    let (code, _, stderr) = output(&["--config", file.path().to_str().unwrap(), "--check-config"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("did you mean `allow-origin`"), "{stderr}");
}

#[test]
fn the_printed_configuration_is_a_valid_one() {
    let (code, printed, _) = output(&["--print-config", "--allow-origin", "https://video.example"]);
    assert_eq!(code, Some(0));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &printed).unwrap();
    let path = file.path().to_str().unwrap();
    assert_eq!(output(&["--config", path, "--check-config"]).0, Some(0));
    assert_eq!(output(&["--config", path, "--print-config"]).1, printed);
}

#[tokio::test]
async fn sighup_revokes_a_video_in_mid_film_and_stops_all_sharing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("signaling.toml");
    std::fs::write(&file, "udp = \"none\"\n").unwrap();
    let process = Process::start(&["--listen", "127.0.0.1:0", "--config", file.to_str().unwrap()]);
    let (mut tide, mut moon) =
        (Client::connect(process.address, &[]).await, Client::connect(process.address, &[]).await);
    tide.join("tide", 0).await;
    moon.join("moon", 0).await;
    let id = output(&["announce-id", "tide"]).1;
    assert_eq!(id.trim_end(), common::video("tide"));
    std::fs::write(&file, format!("udp = \"none\"\nrevoked = [\"{}\"]\n", id.trim_end())).unwrap();
    process.signal(rustix::process::Signal::HUP);
    assert_eq!(tide.expect("revoked").await["video"], common::video("tide"));
    moon.expect_silence().await;
    std::fs::write(&file, "udp = \"none\"\np2p = \"off\"\n").unwrap();
    process.signal(rustix::process::Signal::HUP);
    assert_eq!(moon.expect("revoked").await["video"], common::video("moon"));
    assert_eq!(moon.join("moon", 1).await["policy"]["p2p"], "off");
}

#[tokio::test]
async fn printed_tokens_open_their_video_while_their_key_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (old, new, config) = (path("old"), path("new"), path("signaling.toml"));
    std::fs::write(&old, "an old secret of more than thirty-two bytes\n").unwrap();
    // RFC 8410 §10.3.
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
               -----END PRIVATE KEY-----\n";
    std::fs::write(&new, pem).unwrap();
    let write = |keys: &str| {
        std::fs::write(&config, format!("udp = \"none\"\nrequire-token = true\ntoken-key = [{keys}]\n")).unwrap();
    };
    write(&format!("{old:?}, {new:?}"));
    let process = Process::start(&["--listen", "127.0.0.1:0", "--config", &config]);
    let join = |token: Option<String>| serde_json::json!({"type": "join", "v": 1, "video": common::video("tide"), "kind": "viewer", "want": 0, "token": token});
    let mut client = Client::connect(process.address, &[]).await;
    client.send(&join(None)).await;
    client.expect_error("token-required").await;
    let mint = |key: &str, video: &str| output(&["token", "--key", key, video]).1.trim_end().to_owned();
    client.send(&join(Some(mint(&old, "moon")))).await;
    client.expect_error("token-invalid").await;
    for key in [&old, &new] {
        let mut client = Client::connect(process.address, &[]).await;
        client.send(&join(Some(mint(key, "tide")))).await;
        client.expect("joined").await;
    }
    write(&format!("{new:?}"));
    process.signal(rustix::process::Signal::HUP);
    let end = Instant::now() + PATIENCE;
    loop {
        let mut client = Client::connect(process.address, &[]).await;
        client.send(&join(Some(mint(&old, "tide")))).await;
        if client.until("an answer", |_| true).await["type"] == "error" {
            break;
        }
        assert!(Instant::now() < end, "the old key still counts");
    }
}

#[test]
fn wrong_keys_and_rules_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let short = path("short");
    std::fs::write(&short, "short").unwrap();
    for (args, code, expected) in [
        (&["--token-key", &short][..], 2, "32 bytes"),
        (&["--token-key", "/nonexistent/key"], 2, "/nonexistent/key"),
        (&["--require-token"], 2, "token-key"),
        (&["--secret", &short], 2, "32 or more"),
        (&["--peer-key", "ed25519:x"], 2, "peer-key"),
        (&["--p2p", "maybe"], 2, "on, ask or off"),
        (&["--rollout", "101"], 2, "percentage"),
        (&["--video-policy", "tide=off"], 2, "announce-id"),
        (&["--revoked", "tide"], 2, "base64url"),
        (&["token", "--key", &short, "tide"], 1, "32 bytes"),
        (&["token", "tide"], 2, "--key"),
        (&["token", "--key", &short, "--seconds", "3601", "tide"], 2, "3600"),
    ] {
        let (status, _, stderr) = output(args);
        assert_eq!(status, Some(code), "{args:?}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
    }
}
