//! A seeder on a free port, a plain HTTP client, and clips.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use marea_seeder::{Config, Control, Seeder};
use marea_swarm::{
    Root,
    pieces::{ListCheck, ObjectHasher, check_list, list_from_bytes},
    playlist::{self, Locator, MediaPlaylist, Playlist},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

/// Asks one address.
#[derive(Clone, Copy)]
pub(crate) struct Client {
    pub(crate) addr: SocketAddr,
}

impl Client {
    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, &[]).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Reply {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        Reply::parse(&bytes)
    }
}

impl std::ops::Deref for Edge {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// A running seeder.
pub(crate) struct Edge {
    client: Client,
    pub(crate) control: Control,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Edge {
    pub(crate) async fn of(root: &Path) -> Self {
        Self::with(root, |_| {}).await
    }

    pub(crate) async fn with(root: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(root, ([127, 0, 0, 1], 0).into());
        change(&mut config);
        Self::run(Seeder::bind(config).await.unwrap())
    }

    pub(crate) fn run(seeder: Seeder) -> Self {
        let (addr, control) = (seeder.local_addr(), seeder.control());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(seeder.run(async {
            let _ = stopped.await;
        }));
        Self { client: Client { addr }, control, stop, running }
    }

    /// A client of another address.
    pub(crate) fn at(&self, addr: SocketAddr) -> Client {
        Client { addr }
    }

    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        self.running.await.unwrap();
    }

    pub(crate) async fn text(&self, target: &str) -> String {
        let reply = self.get(target).await;
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        reply.text()
    }

    /// A media playlist once all its tags are there.
    pub(crate) async fn media(&self, target: &str) -> MediaPlaylist {
        let started = Instant::now();
        loop {
            let list = self.media_now(target).await;
            if list.tag.as_ref().is_some_and(|tag| tag.complete) {
                return list;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "{target} does not get its tags: {list:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn media_now(&self, target: &str) -> MediaPlaylist {
        let text = self.text(target).await;
        self.index(target, &text)
    }

    /// What the text of the media playlist `target` says.
    pub(crate) fn index(&self, target: &str, text: &str) -> MediaPlaylist {
        match parse(text, &format!("http://{}{target}", self.addr)) {
            Playlist::Media(list) => list,
            Playlist::Multivariant(_) => panic!("{target} is multivariant"),
        }
    }

    /// A counter of `/metrics`, by its name with labels.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = self.text("/metrics").await;
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in\n{text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Body bytes of `kind`: complete, cancelled.
    pub(crate) async fn sent(&self, kind: &str) -> (u64, u64) {
        let name =
            |outcome| format!("marea_seeder_sent_bytes_total{{kind=\"{kind}\",via=\"http\",outcome=\"{outcome}\"}}");
        (self.metric(&name("complete")).await, self.metric(&name("cancelled")).await)
    }

    /// What a player gets for `locator`.
    async fn load(&self, locator: &Locator) -> Vec<u8> {
        let origin = format!("http://{}", self.addr);
        let range = locator.range.map(|range| format!("bytes={}-{}", range.start, range.start + range.len - 1));
        let headers: Vec<(&str, &str)> = range.iter().map(|range| ("Range", range.as_str())).collect();
        self.ask("GET", locator.url.strip_prefix(&origin).unwrap(), &headers).await.body
    }

    /// Whether everything that `list` names is what its tags say.
    pub(crate) async fn holds(&self, list: &MediaPlaylist) -> bool {
        for (locator, object) in list.locators() {
            if *blake3::hash(&self.load(locator).await).as_bytes() != object.root.0 {
                return false;
            }
        }
        true
    }

    /// Fetches everything that `list` names and checks it against its tags, lists included. Returns how many objects.
    pub(crate) async fn verify(&self, list: &MediaPlaylist) -> usize {
        let origin = format!("http://{}", self.addr);
        let mut count = 0;
        for (locator, object) in list.locators() {
            let body = self.load(locator).await;
            assert_eq!(body.len() as u64, object.size, "{locator:?}");
            assert_eq!(Root(*blake3::hash(&body).as_bytes()), object.root, "{locator:?}");
            if object.size > 65_536 {
                let list_url = locator.list_url();
                let list = self.get(list_url.strip_prefix(&origin).unwrap()).await;
                assert_eq!(list.status, 200, "{list_url}");
                verify_list(&list.body, &body, object.list_at);
            }
            count += 1;
        }
        count
    }
}

/// Checks the part at `at` of a `.pieces` file against the object's bytes.
pub(crate) fn verify_list(file: &[u8], object: &[u8], at: u64) {
    let len = object.len().div_ceil(65_536) * 32;
    let list = list_from_bytes(&file[at as usize..at as usize + len]).unwrap();
    let mut hasher = ObjectHasher::new();
    hasher.update(object);
    let hashed = hasher.finish();
    assert_eq!(check_list(&list, hashed.size, hashed.root), ListCheck::Fits);
}

pub(crate) fn parse(text: &str, url: &str) -> Playlist {
    let resolve =
        |base: &str, reference: &str| Some(url::Url::parse(base).unwrap().join(reference).unwrap().to_string());
    playlist::parse(text, url, &resolve).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("no answer");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        Self { status, headers, body: bytes[end + 4..].to_vec() }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// All headers, names in lower case.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A folder of its own.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub(crate) fn write(root: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// Bytes that look random and are the same for the same seed.
pub(crate) fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// All files below a folder with their bytes, hidden ones left out.
pub(crate) fn tree(root: &Path) -> HashMap<PathBuf, Vec<u8>> {
    let mut files = HashMap::new();
    for entry in fs::read_dir(root).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.path().is_dir() {
            files.extend(tree(&entry.path()));
        } else {
            files.insert(entry.path(), fs::read(entry.path()).unwrap());
        }
    }
    files
}

/// Runs ffmpeg in `folder`; what it makes is a 6 s test picture with a tone.
pub(crate) fn ffmpeg(folder: &Path, live: bool, args: &str) -> std::process::Child {
    fs::create_dir_all(folder).unwrap();
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-y"]);
    if live {
        command.arg("-re");
    }
    command.args("-f lavfi -i testsrc2=size=320x180:rate=25:duration=6".split(' '));
    command.args("-f lavfi -i sine=440:duration=6 -c:v libx264 -preset ultrafast -b:v 900k -threads 1".split(' '));
    command.args(["-force_key_frames", "expr:gte(t,n_forced*1)", "-c:a", "aac", "-f", "hls"]);
    // The stream map of a ladder is one argument with (no-break) spaces in it.
    let args = args.split_ascii_whitespace().map(|arg| arg.replace('\u{a0}', " "));
    command.args(args).current_dir(folder).stdout(Stdio::null());
    command.spawn().expect("ffmpeg is needed: `cargo xtask test` installs it")
}

/// Clips that are made once and kept: `ladder` (fMP4, two renditions and audio), `single` (byte ranges in one file),
/// `ts`.
static CLIPS: LazyLock<PathBuf> = LazyLock::new(|| {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let kept = place.join("seeder-clips-1");
    if kept.exists() {
        return kept;
    }
    let clips = tempfile::tempdir_in(place).unwrap();
    let ladder = "-map 0:v -map 0:v -map 1:a -hls_time 2 -hls_playlist_type vod -hls_segment_type fmp4 \
                  -master_pl_name master.m3u8 -hls_fmp4_init_filename init_%v.mp4 -hls_segment_filename %v/s%d.m4s \
                  -var_stream_map v:0,agroup:a\u{a0}v:1,agroup:a\u{a0}a:0,agroup:a,default:yes %v/index.m3u8";
    let jobs = [
        ffmpeg(&clips.path().join("ladder"), false, ladder),
        ffmpeg(
            &clips.path().join("single"),
            false,
            "-hls_time 2 -hls_playlist_type vod -hls_segment_type fmp4 -hls_flags single_file film.m3u8",
        ),
        ffmpeg(&clips.path().join("ts"), false, "-hls_time 2 -hls_playlist_type vod film.m3u8"),
    ];
    for mut job in jobs {
        assert!(job.wait().unwrap().success());
    }
    // Whole or not at all. Another test run may have been faster.
    let _ = fs::rename(clips.path(), &kept);
    kept
});

/// A fresh copy of a clip's folder under `name` of `root`.
pub(crate) fn clip(root: &Path, clip: &str, name: &str) -> PathBuf {
    let (from, to) = (CLIPS.join(clip), root.join(name));
    for (path, bytes) in tree(&from) {
        write(&to, path.strip_prefix(&from).unwrap().to_str().unwrap(), bytes);
    }
    to
}
