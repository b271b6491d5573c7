//! `cargo xtask bench edge`: the seeder beside nginx, one core each, in turn. What counts is the processor time that a gigabyte costs.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write as _,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    run::{self, cargo, program},
    setup,
};

/// Size of the file in bytes, connections.
const CELLS: [(usize, usize); 5] = [(2_000_000, 16), (2_000_000, 128), (200_000, 128), (200_000, 1024), (1_000, 128)];

/// Where single runs are kept.
const RUNS: &str = "docs/benchmarks/edge.jsonl";

/// Where the table is drawn.
const PAGE: &str = "docs/benchmarks.md";
const BEGIN: &str = "<!-- edge: drawn by `cargo xtask bench edge --report` -->";
const END: &str = "<!-- end of edge -->";

/// What `wrk` says at its end: exact, where its own text is rounded.
const SCRIPT: &str = "done = function(s) io.write('TOTAL ', s.bytes, ' ', s.requests, ' ', s.duration, ' ', s.errors.status + s.errors.read + s.errors.timeout, '\\n') end\n";

/// The client's ciphers: it asks first for the one that browsers ask first for on processors with AES, not for OpenSSL's own choice.
const CLIENT: &str = "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = tls\n[tls]\nCiphersuites = TLS_AES_128_GCM_SHA256\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Server {
    Nginx,
    Marea,
}

/// One run.
struct Outcome {
    server: Server,
    tls: bool,
    size: usize,
    connections: usize,
    /// Seconds of processor time per 10^9 bytes.
    cpu: f64,
    /// Per second.
    requests: f64,
    /// KiB.
    memory: u64,
}

/// Measures, or only draws the table of what was measured.
///
/// # Errors
/// If something cannot be built or a server does not serve.
pub(crate) fn bench(options: &[&str]) -> Result<()> {
    if options.contains(&"--report") {
        return report();
    }
    let value = |name: &str| options.iter().position(|option| *option == name).and_then(|at| options.get(at + 1));
    let number = |name: &str, default: u64| match value(name) {
        Some(text) => text.parse().map_err(|_| run::usage(format!("{name} takes a number, not {text:?}"))),
        None => Ok(default),
    };
    let (runs, seconds) = (number("--runs", 7)?, number("--seconds", 2)?);
    let kinds: &[bool] = match value("--only").copied() {
        Some("plain") => &[false],
        Some("tls") => &[true],
        None => &[false, true],
        Some(other) => return Err(run::usage(format!("--only takes plain or tls, not {other:?}"))),
    };
    for tool in ["wrk", "taskset", "openssl"] {
        if Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            bail!("{tool} is missing; on Debian: apt-get install wrk util-linux openssl nginx-light");
        }
    }
    run::check(&mut cargo(["build", "--release", "-p", "marea-seeder", "--features", "aws-lc"]))?;
    let place = run::target().join("bench-edge");
    prepare(&place)?;
    for &tls in kinds {
        for (size, connections) in CELLS {
            for number in 0..runs {
                for server in [Server::Nginx, Server::Marea] {
                    let outcome = measure(&place, server, tls, size, connections, seconds)?;
                    eprintln!(
                        "{:?} tls={tls} {size} x {connections} #{number}: {:.3} CPU s/GB, {:.0}/s, {} MiB",
                        outcome.server,
                        outcome.cpu,
                        outcome.requests,
                        outcome.memory / 1024
                    );
                    keep(&outcome)?;
                }
            }
        }
    }
    report()
}

/// Files, certificate and nginx's configuration.
fn prepare(place: &Path) -> Result<()> {
    fs::create_dir_all(place.join("videos"))?;
    for (size, _) in CELLS {
        // Not all the same byte, so that nothing on the way can be clever.
        let bytes: Vec<u8> = (0..size).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        fs::write(place.join(format!("videos/{size}.m4s")), bytes)?;
    }
    fs::write(place.join("wrk.lua"), SCRIPT)?;
    fs::write(place.join("openssl.cnf"), CLIENT)?;
    let (cert, key) = (place.join("cert.pem"), place.join("key.pem"));
    if !cert.exists() {
        let mut openssl = program("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        openssl.args(["-nodes", "-days", "30", "-subj", "/CN=localhost", "-keyout"]).arg(&key).arg("-out").arg(&cert);
        run::check_quietly(&mut openssl)?;
    }
    Ok(())
}

/// nginx as its documentation tunes it for static files: the same headers, one worker.
fn nginx_config(place: &Path, port: u16, tls: bool) -> String {
    let here = place.display();
    let (secure, lines) = if tls {
        let lines = format!(
            "ssl_certificate {here}/cert.pem; ssl_certificate_key {here}/key.pem; ssl_protocols TLSv1.3;\n\
             ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256; ssl_buffer_size 16k;"
        );
        (" ssl", lines)
    } else {
        ("", String::new())
    };
    let user = if setup::is_root() { "user root;" } else { "" };
    format!(
        "{user} daemon off; master_process off; worker_processes 1; pid {here}/nginx.pid; error_log stderr error;\n\
         worker_rlimit_nofile 8192; events {{ worker_connections 4096; use epoll; }}\n\
         http {{ access_log off; sendfile on; sendfile_max_chunk 1m; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000;\n\
         open_file_cache max=1024; open_file_cache_valid 60s; etag on; types {{ video/mp4 m4s; }}\n\
         client_body_temp_path {here}/t1; proxy_temp_path {here}/t2; fastcgi_temp_path {here}/t3; uwsgi_temp_path {here}/t4; scgi_temp_path {here}/t5;\n\
         server {{ listen 127.0.0.1:{port} backlog=4096{secure}; {lines} root {here};\n\
         add_header Access-Control-Allow-Origin *; add_header Timing-Allow-Origin *; add_header Cache-Control \"public, max-age=3600\";\n\
         add_header Cross-Origin-Resource-Policy cross-origin; add_header X-Content-Type-Options nosniff;\n\
         add_header Access-Control-Expose-Headers \"Content-Length, Content-Range, Accept-Ranges, ETag, Last-Modified, Age, X-Cache, Server-Timing\"; }} }}\n"
    )
}

/// A server that is ended when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(place: &Path, server: Server, tls: bool, port: u16) -> Result<Running> {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]);
    match server {
        Server::Nginx => {
            let config = place.join("nginx.conf");
            fs::write(&config, nginx_config(place, port, tls))?;
            command.args(["/usr/sbin/nginx", "-e", "stderr", "-c"]).arg(&config);
        }
        Server::Marea => {
            command.arg(run::target().join("release/marea-seeder")).args(["serve", "--threads", "1", "--root"]);
            command.arg(place.join("videos")).args(["--listen", &format!("127.0.0.1:{port}")]);
            if tls {
                command.arg("--tls-cert").arg(place.join("cert.pem")).arg("--tls-key").arg(place.join("key.pem"));
            }
        }
    }
    let running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("no server")?);
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if begun.elapsed() > Duration::from_secs(10) {
            bail!("{server:?} does not listen");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(running)
}

fn measure(place: &Path, server: Server, tls: bool, size: usize, connections: usize, seconds: u64) -> Result<Outcome> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let running = start(place, server, tls, port)?;
    let scheme = if tls { "https" } else { "http" };
    let url = format!("{scheme}://127.0.0.1:{port}/videos/{size}.m4s");
    // A thousand connections take longer to be made than to warm up, over TLS more than a second.
    let seconds = if connections < 1000 { seconds } else { 3 * seconds };
    load(place, &url, connections, if connections < 1000 { 1 } else { 3 })?;
    let pid = running.0.id();
    let before = ticks(pid)?;
    let watch = thread::spawn(move || {
        thread::sleep(Duration::from_millis(800));
        memory(pid)
    });
    let (bytes, requests, micros) = load(place, &url, connections, seconds)?;
    let used = (ticks(pid)? - before) as f64 / 100.0;
    let memory = watch.join().unwrap_or(0);
    Ok(Outcome {
        server,
        tls,
        size,
        connections,
        cpu: used / (bytes as f64 / 1e9),
        requests: requests as f64 / (micros as f64 / 1e6),
        memory,
    })
}

/// Loads for so long; bytes, requests and microseconds.
fn load(place: &Path, url: &str, connections: usize, seconds: u64) -> Result<(u64, u64, u64)> {
    let mut wrk = Command::new("taskset");
    wrk.args([
        "-c",
        "1",
        "wrk",
        "-t1",
        "--timeout",
        "20s",
        &format!("-c{connections}"),
        &format!("-d{seconds}s"),
        "-s",
    ]);
    wrk.env("OPENSSL_CONF", place.join("openssl.cnf"));
    let output = wrk.arg(place.join("wrk.lua")).arg(url).output().context("wrk could not be started")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let total =
        text.lines().find_map(|line| line.strip_prefix("TOTAL ")).with_context(|| format!("wrk says {text}"))?;
    let numbers: Vec<u64> = total.split(' ').filter_map(|number| number.parse().ok()).collect();
    match numbers[..] {
        [bytes, requests, micros, 0] if requests > 0 => Ok((bytes, requests, micros)),
        _ => bail!("{url}: wrk met errors: {total}"),
    }
}

/// Processor time of a process so far, in hundredths of a second.
fn ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name, which may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')').context("no process")?.1.split_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

/// Resident memory of a process in KiB; 0 if it cannot be read.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn keep(outcome: &Outcome) -> Result<()> {
    let Outcome { server, tls, size, connections, cpu, requests, memory } = outcome;
    let line = format!(
        "{{\"server\":\"{server:?}\",\"tls\":{tls},\"size\":{size},\"connections\":{connections},\"cpu\":{cpu:.4},\"requests\":{requests:.1},\"memory\":{memory}}}\n"
    );
    let path = run::root().join(RUNS);
    let mut file =
        OpenOptions::new().create(true).append(true).open(&path).with_context(|| path.display().to_string())?;
    Ok(file.write_all(line.as_bytes())?)
}

/// Value of a field of one of our own lines.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("\"{name}\":"))?;
    Some(rest.split([',', '}']).next()?.trim_matches('"'))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Draws the table of all runs that were kept.
fn report() -> Result<()> {
    let text = fs::read_to_string(run::root().join(RUNS)).context("nothing was measured: leave out --report")?;
    type Cell = (bool, usize, usize);
    let mut cells: BTreeMap<Cell, BTreeMap<Server, Vec<[f64; 3]>>> = BTreeMap::new();
    for line in text.lines() {
        let number = |name| field(line, name).and_then(|text| text.parse::<f64>().ok());
        let server = if field(line, "server") == Some("Nginx") { Server::Nginx } else { Server::Marea };
        let (Some(size), Some(connections)) = (number("size"), number("connections")) else { continue };
        let (Some(cpu), Some(requests), Some(memory)) = (number("cpu"), number("requests"), number("memory")) else {
            continue;
        };
        let cell = (field(line, "tls") == Some("true"), size as usize, connections as usize);
        cells.entry(cell).or_default().entry(server).or_default().push([cpu, requests, memory]);
    }
    let mut table = String::from(
        "\n|  | runs | nginx CPU s/GB | seeder CPU s/GB | nginx ÷ seeder | nginx req/s | seeder req/s | nginx MiB | seeder MiB |\n\
         | --- | --: | --: | --: | --: | --: | --: | --: | --: |\n",
    );
    let mut products: BTreeMap<bool, (f64, u32)> = BTreeMap::new();
    for tls in [false, true] {
        for (size, connections) in CELLS {
            let Some(by_server) = cells.get(&(tls, size, connections)) else { continue };
            let of = |server, index: usize| {
                let runs = by_server.get(&server).map_or(&[][..], Vec::as_slice);
                median(&runs.iter().map(|run| run[index]).collect::<Vec<_>>())
            };
            let ratio = of(Server::Nginx, 0) / of(Server::Marea, 0);
            let (sum, count) = products.entry(tls).or_default();
            (*sum, *count) = (*sum + ratio.ln(), *count + 1);
            let runs = by_server.get(&Server::Marea).map_or(0, Vec::len);
            table += &format!(
                "| {} {} kB × {connections} | {runs} | {:.3} | {:.3} | {ratio:.2} | {:.0} | {:.0} | {:.0} | {:.0} |\n",
                if tls { "TLS" } else { "plain" },
                size / 1000,
                of(Server::Nginx, 0),
                of(Server::Marea, 0),
                of(Server::Nginx, 1),
                of(Server::Marea, 1),
                of(Server::Nginx, 2) / 1024.0,
                of(Server::Marea, 2) / 1024.0,
            );
        }
    }
    for (tls, (sum, count)) in products {
        let name = if tls { "TLS" } else { "plain" };
        table += &format!("\nGeometric mean, {name}: **{:.2}**.\n", (sum / f64::from(count)).exp());
    }
    print!("{table}");
    let page: PathBuf = run::root().join(PAGE);
    let text = fs::read_to_string(&page)?;
    let (Some(from), Some(to)) = (text.find(BEGIN), text.find(END)) else { bail!("{PAGE} has no place for the table") };
    Ok(fs::write(page, format!("{}\n{table}\n{}", &text[..from + BEGIN.len()], &text[to..]))?)
}
