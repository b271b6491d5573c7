//! A soak: viewers come and go by the hundred at a home mirror and its signaling, which are watched for what they do not give back.

use std::{
    collections::VecDeque,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use marea_swarm::wire::PeerKind;
use marea_tests::native::{Event, Library, Options, Peer, Script};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

/// How long a viewer stays, in seconds: from the first to the last, in turn. Few have the whole film by then.
const STAYS: std::ops::Range<u64> = 5..20;

/// How often the programs are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// How long a program may take to say that it is ready, and to give everything back.
const PATIENCE: Duration = Duration::from_secs(60);

/// Growth between the second quarter and the last that is no leak: a share, and so many beside it (KiB of memory, or
/// descriptors and threads).
const GROWTH: f64 = 0.1;
const GROWTH_KIB: f64 = 6_144.0;
const GROWTH_COUNT: f64 = 4.0;

/// Lets viewers come and go at a home mirror, and says what it and its signaling hold.
#[derive(Parser)]
struct Cli {
    /// Folder of the programs.
    #[arg(long)]
    programs: PathBuf,
    /// Folder of a film's playlists, which is copied.
    #[arg(long)]
    media: PathBuf,
    /// How long, in minutes.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// How many viewers in that time.
    #[arg(long, default_value_t = 1_000)]
    peers: u32,
}

/// A program under watch.
struct Program {
    name: &'static str,
    child: Child,
    seen: Vec<Seen>,
}

/// What a program holds.
#[derive(Clone, Copy, Debug)]
struct Seen {
    memory_kib: f64,
    descriptors: f64,
    threads: f64,
}

type Output = Lines<BufReader<Box<dyn tokio::io::AsyncRead + Unpin + Send>>>;

impl Program {
    /// Starts it; `ready` is in the line that says so, which is returned. The rest of what it says is thrown away.
    async fn start(name: &'static str, mut command: Command, ready: &str) -> Result<(Self, String)> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else { bail!("{name} has no output") };
        let mut lines = [lines_of(Box::new(out)), lines_of(Box::new(err))];
        let found = timeout(PATIENCE, async {
            let [out, err] = &mut lines;
            loop {
                let line = tokio::select! {
                    line = out.next_line() => line?,
                    line = err.next_line() => line?,
                };
                match line {
                    Some(line) if line.contains(ready) => return Ok(line),
                    Some(_) => {}
                    None => bail!("{name} ended"),
                }
            }
        });
        let line = found.await.with_context(|| format!("{name} never said {ready:?}"))??;
        for mut lines in lines {
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        }
        Ok((Self { name, child, seen: Vec::new() }, line))
    }

    fn look(&self) -> Result<Seen> {
        let pid = self.child.id().with_context(|| format!("{} is gone", self.name))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
            line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count() as f64;
        Ok(Seen { memory_kib: field("VmRSS:"), descriptors, threads: field("Threads:") })
    }
}

fn lines_of(read: Box<dyn tokio::io::AsyncRead + Unpin + Send>) -> Output {
    BufReader::new(read).lines()
}

/// Growth that is none that a machine's moods explain; a sentence for people.
fn leak(name: &str, seen: &[Seen]) -> Option<String> {
    let quarter = |at: usize, of: fn(&Seen) -> f64| {
        let mut values: Vec<f64> = seen[seen.len() * at / 4..seen.len() * (at + 1) / 4].iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let judge = |what: &str, of: fn(&Seen) -> f64, slack: f64| {
        let (early, late) = (quarter(1, of), quarter(3, of));
        println!("{name}: {what} {early:.0} in the second quarter, {late:.0} in the last");
        // No value is no proof.
        let flat = late <= early * (1.0 + GROWTH) + slack;
        (!flat).then(|| format!("{name}: {what} grew from {early:.0} to {late:.0}"))
    };
    let memory = judge("KiB of memory", |seen| seen.memory_kib, GROWTH_KIB);
    let descriptors = judge("descriptors", |seen| seen.descriptors, GROWTH_COUNT);
    let threads = judge("threads", |seen| seen.threads, GROWTH_COUNT);
    memory.or(descriptors).or(threads)
}

/// The value of a metric without labels.
async fn metric(address: &str, name: &str) -> Result<f64> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).with_context(|| format!("no metric {name}"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        if path.is_dir() {
            copy(&path, &to.join(name))?;
        } else if name != "marea.json" {
            fs::copy(&path, to.join(name)).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let place = std::env::temp_dir().join(format!("marea-soak-{}", std::process::id()));
    let result = soak(&cli, &place).await;
    let _ = fs::remove_dir_all(&place);
    result
}

async fn soak(cli: &Cli, place: &Path) -> Result<()> {
    let (root, film) = (place.join("root"), place.join("root/film"));
    copy(&cli.media, &film)?;
    let seeder = cli.programs.join("marea-seeder");
    let key = place.join("site.key");
    let made = Command::new(&seeder).args(["key", "new", "--key"]).arg(&key).output().await?;
    let said = [made.stdout, made.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let public = said.split_whitespace().find(|word| word.starts_with("ed25519:")).context("no key was made")?;

    let mut serve = Command::new(&seeder);
    serve.args(["serve", "--listen", "127.0.0.1:0", "--root"]).arg(&root).arg("--key").arg(&key);
    let (serve, ready) = Program::start("serve", serve, "listening on http://").await?;
    let address = ready.rsplit("http://").next().context("no address")?.to_owned();
    let (site, signaling) = (format!("http://{address}/videos/film/master.m3u8"), format!("ws://{address}/signal"));
    let mut mirror = Command::new(&seeder);
    mirror.args(["mirror", &site, "--signaling", &signaling, "--public-key", public]);
    mirror.arg("--root").arg(place.join("mirror"));
    let (mirror, _) = Program::start("mirror", mirror, ": whole: ").await?;
    let mut programs = [serve, mirror];

    let id = fs::read_to_string(film.join("marea.json"))?;
    let id: serde_json::Value = serde_json::from_str(&id)?;
    let options = Options {
        signaling,
        video: id["video"].as_str().context("marea.json names no video")?.to_owned(),
        kind: PeerKind::Viewer,
        script: Script::Honest,
        fetch: true,
        origin: None,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        want: 6,
    };
    let library = Library::load(&film)?;
    sleep(LOOK).await;
    let idle: Vec<Seen> = programs.iter().map(Program::look).collect::<Result<_>>()?;

    let begun = Instant::now();
    let total = Duration::from_secs_f64(cli.minutes * 60.0);
    let pause = total / cli.peers.max(1);
    let mut here: VecDeque<(Instant, Peer)> = VecDeque::new();
    let (mut came, mut met, mut fetched, mut looked) = (0u32, 0u64, 0u64, begun);
    while begun.elapsed() < total {
        if pause * came <= begun.elapsed() {
            let stay = STAYS.start + u64::from(came) * 7 % (STAYS.end - STAYS.start);
            here.push_back((Instant::now() + Duration::from_secs(stay), Peer::start(options.clone(), library.clone())));
            came += 1;
        }
        for (_, peer) in &mut here {
            while let Ok(Some(event)) = timeout(Duration::ZERO, peer.event()).await {
                match event {
                    Event::Open { .. } => met += 1,
                    Event::Fetched { equal: true, bytes, .. } => fetched += bytes,
                    Event::Fetched { .. } => bail!("a wrong byte"),
                    _ => {}
                }
            }
        }
        here.retain(|(until, _)| *until > Instant::now());
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            for program in &mut programs {
                let seen = program.look()?;
                program.seen.push(seen);
            }
            let [serve, mirror] = programs.each_ref().map(|program| program.seen.last().copied());
            println!(
                "{:4.0} s, {came} came, {} here, {met} connections, {:.0} MB; serve {serve:?}; mirror {mirror:?}",
                begun.elapsed().as_secs_f64(),
                here.len(),
                fetched as f64 / 1e6
            );
        }
        sleep(Duration::from_millis(20)).await;
    }
    here.clear();

    // All have left: what they held is to be given back, but for the mirror's own connection.
    let left = Instant::now();
    loop {
        let connections = metric(&address, "marea_signaling_connections").await?;
        let now: Vec<Seen> = programs.iter().map(Program::look).collect::<Result<_>>()?;
        let held = now.iter().zip(&idle).any(|(now, idle)| now.descriptors > idle.descriptors + 1.0);
        if connections <= 1.0 && !held {
            println!("{:.0} s after the last one left: {now:?}", left.elapsed().as_secs_f64());
            break;
        }
        if left.elapsed() > PATIENCE {
            bail!("{connections} connections, and {now:?} are held though all have left (before: {idle:?})");
        }
        sleep(Duration::from_secs(1)).await;
    }
    if met < u64::from(came) || fetched == 0 {
        bail!("{came} viewers made {met} connections and fetched {fetched} bytes: that is no load");
    }
    let leaks: Vec<String> = programs.iter().filter_map(|program| leak(program.name, &program.seen)).collect();
    if !leaks.is_empty() {
        bail!("{}", leaks.join("; "));
    }
    println!("{came} viewers, {met} connections, {:.1} GB: nothing leaked", fetched as f64 / 1e9);
    Ok(())
}
