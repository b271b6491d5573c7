use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Client, clip, folder, write};

fn seeder(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marea-seeder"));
    command.args(args).stdin(Stdio::null()).env_remove("STATE_DIRECTORY");
    command
}

fn output(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = seeder(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn wait(child: &mut Child) -> i32 {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap();
        }
        if started.elapsed() > Duration::from_secs(15) {
            child.kill().unwrap();
            panic!("it does not stop");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn wrong_use_exits_2_and_says_what_is_right() {
    let root = folder();
    let root = root.path().to_str().unwrap();
    for (args, hint) in [
        (&["serve"][..], "root"),
        (&["serve", "--rot", root], "--root"),
        (&["serve", "--root", root, "--listen", "nowhere"], "listen"),
        (&["serve", "--root", root, "--signaling", "https://x.example"], "wss://"),
        (&["serve", "--root", root, "--trusted-proxy", "10.0.0.0/99"], "trusted-proxy"),
        (&["annotate"], "DIR"),
        (&["annotate", root, "--check", "--remove"], "--check"),
        (&["annotate", root, "--signaling", "nonsense"], "wss://"),
        (&["mirror"], "URL"),
        (&["mirror", "ftp://x.example/a.m3u8"], "http://"),
        (&["mirror", "http://x.example/", "--disk", "much"], "20gb"),
        (&["mirror", "http://x.example/", "--public-key", "x"], "ed25519:"),
        (&["key", "show"], "--key"),
        (&["frobnicate"], "frobnicate"),
        (&[], "serve"),
    ] {
        let (code, stdout, stderr) = output(args);
        assert_eq!(code, 2, "{args:?}: {stderr}");
        assert!(stderr.contains(hint) && stdout.is_empty(), "{args:?}: {stdout}{stderr}");
    }
    let (code, stdout, _) = output(&["--version"]);
    assert_eq!((code, stdout.trim()), (0, concat!("marea-seeder ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn failures_exit_1_and_name_what_failed() {
    let (code, _, stderr) = output(&["serve", "--root", "/nonexistent", "--listen", "127.0.0.1:0"]);
    assert!(code == 1 && stderr.contains("/nonexistent"), "{stderr}");
    let root = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (code, _, stderr) = output(&["serve", "--root", root.path().to_str().unwrap(), "--listen", &addr]);
    assert!(code == 1 && stderr.contains(&addr), "{stderr}");
}

#[test]
fn settings_come_in_layers_and_can_be_printed_and_checked() {
    let root = folder();
    let file = write(root.path(), "c.toml", format!("root = {:?}\nlisten = \"127.0.0.1:1\"\n", root.path()));
    let file = file.to_str().unwrap();
    let print = |variable: &str, args: &[&str]| {
        let mut command = seeder(&["serve", "--config", file, "--print-config"]);
        let output = command.args(args).env("MAREA_SEEDER_LISTEN", variable).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(print("", &[]).contains("listen = \"127.0.0.1:1\""));
    assert!(print("127.0.0.1:2", &[]).contains("listen = \"127.0.0.1:2\""));
    assert!(print("127.0.0.1:2", &["--listen", "127.0.0.1:3"]).contains("listen = \"127.0.0.1:3\""));
    assert_eq!(output(&["serve", "--config", file, "--check-config"]).0, 0);

    let wrong = write(root.path(), "w.toml", "root = \"x\"\nlissten = \"127.0.0.1:1\"\n");
    let (code, _, stderr) = output(&["serve", "--config", wrong.to_str().unwrap(), "--check-config"]);
    assert!(code == 2 && stderr.contains("lissten") && stderr.contains("`listen`"), "{stderr}");
}

struct Running {
    child: Child,
    client: Client,
}

fn start(root: &Path, config: &Path) -> Running {
    let (root, config) = (root.to_str().unwrap(), config.to_str().unwrap());
    let mut child = seeder(&["serve", "--root", root, "--listen", "127.0.0.1:0", "--config", config])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let addr = line.strip_prefix("listening on http://").unwrap().trim().parse().unwrap();
    // Nothing else ever comes on stdout.
    thread::spawn(move || {
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    });
    Running { child, client: Client { addr } }
}

#[tokio::test]
async fn it_says_where_it_listens_reloads_on_hangup_and_ends_on_terminate() {
    let root = folder();
    clip(root.path(), "ts", "film");
    let config = write(root.path(), ".c.toml", "signaling = \"wss://one.example/\"\n");
    let mut running = start(root.path(), &config);
    let target = "/videos/film/film.m3u8";
    assert!(running.client.get(target).await.text().contains("one.example"));
    fs::write(&config, "signaling = \"wss://two.example/\"\n").unwrap();
    signal(&running.child, Signal::HUP);
    let started = Instant::now();
    while !running.client.get(target).await.text().contains("two.example") {
        assert!(started.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What cannot be used is refused, and it goes on as before.
    fs::write(&config, "signalling = 1\n").unwrap();
    signal(&running.child, Signal::HUP);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(running.client.get(target).await.text().contains("two.example"));
    signal(&running.child, Signal::TERM);
    assert_eq!(wait(&mut running.child), 0);
    let mut log = String::new();
    running.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("signalling") && log.contains("stopping"), "{log}");
}

#[test]
fn annotate_exits_1_on_what_is_stale_and_names_it() {
    let root = folder();
    clip(root.path(), "ladder", "film");
    let dir = root.path().to_str().unwrap();
    let (code, stdout, stderr) = output(&["annotate", dir, "--check"]);
    assert!(code == 1 && stdout.is_empty() && stderr.contains("master.m3u8: stale"), "{stderr}");
    let signaling = ["annotate", dir, "--signaling", "wss://s.example/signal"];
    assert_eq!(output(&signaling).0, 0);
    assert!(
        fs::read_to_string(root.path().join("film/0/index.m3u8")).unwrap().contains("SIGNALING=\"wss://s.example/")
    );
    assert_eq!(output(&[&signaling[..], &["--check"]].concat()).0, 0);
    assert_eq!(output(&["annotate", dir, "--remove"]).0, 0);
    assert_eq!(output(&["annotate", dir, "--check"]).0, 1);
}
