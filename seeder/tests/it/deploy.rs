//! What lies in `deploy/` fits the programs.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use marea_seeder::{Checkup, Mode, annotate, doctor};
use marea_signaling::layered::Layers;
use tokio::net::TcpListener;
use tokio_websockets::{ClientBuilder, Message};

use crate::support::{Edge, clip, folder, write};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn read(name: &str) -> String {
    fs::read_to_string(deploy().join(name)).unwrap()
}

/// Whatever looks like one of our metrics.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words
        .filter(|word| {
            ["marea_seeder_", "marea_signaling_", "marea_build_"].iter().any(|start| word.starts_with(start))
        })
        .collect()
}

#[tokio::test]
async fn every_metric_of_dashboard_and_alerts_is_one_that_the_programs_have() {
    // One that runs signaling and STUN too, so that the metrics of both programs are there.
    let root = folder();
    clip(root.path(), "ts", "film");
    let edge = Edge::of(root.path()).await;
    // A family of counters is shown once it has counted: so somebody looks, joins, asks for STUN, and is refused.
    edge.media("/videos/film/film.m3u8").await;
    let film = format!("http://{}/videos/film/film.m3u8", edge.addr).parse().unwrap();
    doctor(&film, &Checkup { origin: None, idle: Duration::from_millis(10) }).await.unwrap();
    let uri = format!("ws://{}/signal", edge.addr).parse().unwrap();
    let (mut socket, _) = ClientBuilder::from_uri(uri).connect().await.unwrap();
    socket.send(Message::text("no JSON")).await.unwrap();
    socket.next().await.unwrap().unwrap();
    let text = edge.text("/metrics").await;
    let known: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .flat_map(|(name, kind)| match kind {
            "counter" => vec![format!("{name}_total")],
            "histogram" => ["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")).into(),
            "info" => vec![format!("{name}_info")],
            _ => vec![name.to_owned()],
        })
        .collect();
    let (board, alerts) = (read("grafana.json"), read("alerts.yml"));
    let board: serde_json::Value = serde_json::from_str(&board).unwrap();
    let expressions: String =
        board["panels"].as_array().unwrap().iter().map(|panel| panel["targets"].to_string()).collect();
    for (name, used) in [("grafana.json", metrics(&expressions)), ("alerts.yml", metrics(&alerts))] {
        assert!(used.len() >= 5, "{name} was read: {used:?}");
        for metric in used {
            assert!(known.contains(metric), "{name}: {metric} is none of {known:?}");
        }
    }
    edge.stop().await;
}

#[test]
fn the_settings_files_are_settings() {
    for (name, layers) in
        [("seeder.toml", marea_seeder::config::LAYERS), ("signaling.toml", marea_signaling::defaults::LAYERS)]
    {
        let path = deploy().join(name);
        let values = load(&layers, &["--config", path.to_str().unwrap()]);
        match name {
            "seeder.toml" => drop(marea_seeder::Config::from_values(&values).unwrap()),
            _ => drop(marea_signaling::config::Config::from_values(&values).unwrap()),
        }
    }
}

fn load(layers: &Layers, args: &[&str]) -> marea_signaling::layered::Values {
    let args = std::iter::once("program").chain(args.iter().copied());
    let matches = clap::Command::new("program").args(layers.args()).get_matches_from(args);
    layers.load(&matches, []).unwrap()
}

#[test]
fn nginx_takes_the_example() {
    let place = folder();
    let main = main_file(place.path(), &deploy().join("nginx.conf").canonicalize().unwrap());
    let main = write(place.path(), "main.conf", main);
    let Some(nginx) = program("nginx") else { return eprintln!("nginx is not installed: its example is not checked") };
    let output = Command::new(nginx).args(["-t", "-p"]).arg(place.path()).arg("-c").arg(main).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn an_annotated_folder_behind_that_nginx_has_nothing_to_change() {
    let Some(nginx) = program("nginx") else { return eprintln!("nginx is not installed: its example is not tried") };
    let place = folder();
    let videos = place.path().join("srv/videos");
    clip(&videos, "ladder", "film");
    // Signaling that knows the video: it reads the same folder.
    let edge = Edge::of(&videos).await;
    annotate(&videos, Some(&format!("ws://{}/signal", edge.addr)), None, Mode::Write, &|_| {}).unwrap();
    edge.media("/videos/film/0/index.m3u8").await;
    let addr = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let example = read("nginx.conf")
        .replace("listen 80;", &format!("listen {addr};"))
        .replace("server_name video.example;", "server_name 127.0.0.1;")
        .replace(" /srv", &format!(" {}/srv", place.path().display()));
    let example = write(place.path(), "site.conf", example);
    let main = write(place.path(), "main.conf", main_file(place.path(), &example));
    let mut command = tokio::process::Command::new(nginx);
    command.arg("-p").arg(place.path()).arg("-c").arg(main).args(["-g", "daemon off; master_process off;"]);
    let mut running = command.kill_on_drop(true).spawn().unwrap();
    while tokio::net::TcpStream::connect(addr).await.is_err() {
        assert!(running.try_wait().unwrap().is_none(), "nginx does not run");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let film = format!("http://{addr}/videos/film/master.m3u8").parse().unwrap();
    let report = doctor(&film, &Checkup { origin: None, idle: Duration::from_millis(10) }).await.unwrap();
    assert!(report.is_fine(), "{report}");
    running.kill().await.unwrap();
    edge.stop().await;
}

/// An `nginx.conf` around `site`, with all that is written in `place`.
fn main_file(place: &Path, site: &Path) -> String {
    format!(
        "pid {0}/pid; error_log stderr; events {{}}\nhttp {{ access_log off; client_body_temp_path {0}/1; proxy_temp_path {0}/2; \
         fastcgi_temp_path {0}/3; uwsgi_temp_path {0}/4; scgi_temp_path {0}/5;\ninclude {1};\n}}\n",
        place.display(),
        site.display(),
    )
}

#[test]
fn systemd_takes_the_units() {
    let place = folder();
    let Some(analyze) = program("systemd-analyze") else {
        return eprintln!("systemd is not installed: the units are not checked");
    };
    for (name, program, whose) in [
        ("marea-seeder", "marea-seeder", "--system"),
        ("marea-signaling", "marea-signaling", "--system"),
        ("marea-mirror", "marea-seeder", "--user"),
    ] {
        // The programs are not installed here; all else is looked at as it is.
        let unit = read(&format!("systemd/{name}.service")).replace(&format!("/usr/bin/{program}"), "/bin/true");
        let unit = write(place.path(), &format!("{name}.service"), unit);
        let output = Command::new(&analyze).args(["verify", "--man=no", whose]).arg(unit).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // It speaks of other units of the machine too.
        let ours: Vec<&str> = said.lines().filter(|line| line.contains(name)).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
}

/// Where a program of the system is: `sbin` is not on everybody's path.
fn program(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/usr/local/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
}
