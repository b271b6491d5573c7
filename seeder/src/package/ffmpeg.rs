//! ffmpeg and ffprobe as caged programs: they read one local file of media, and no more than they are given of the
//! machine.

use std::{
    io::{self, BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{PackageError, probe::MAX_PIXELS};

pub(super) const FFMPEG: &str = "ffmpeg";
pub(super) const FFPROBE: &str = "ffprobe";

/// Containers that hold media themselves. Playlists and scripts (HLS, DASH, concat) are not among them: they would have
/// other files opened.
const CONTAINERS: &str = "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,mxf,h264,hevc,m4v,y4m,yuv4mpegpipe";
/// Address space, in bytes: x264 at 4K takes two gigabytes.
const MEMORY: u64 = 6 << 30;
/// Longest file that it writes, in bytes: a segment is a thousandth of that.
const FILE: u64 = 1 << 30;
/// Open files.
const FILES: u64 = 256;
/// CPU seconds for a probe.
const PROBE_CPU: u64 = 300;
/// CPU seconds per second of film, and for the start: 4K of fast motion on an old machine.
const CPU_PER_SECOND: f64 = 60.0;
/// Kept of what it says on stderr, in bytes.
const SAID: u64 = 64 * 1024;

/// What `program` answers about `source`.
///
/// # Errors
/// It is not there, or cannot read the file.
pub(super) fn output(program: &'static str, source: &Path, options: &[&str]) -> Result<String, PackageError> {
    let mut command = Command::new(program);
    command.args(["-v", "error"]).args(input(source)).args(options);
    let mut text = String::new();
    let said = run(program, command, PROBE_CPU, |stdout| stdout.read_to_string(&mut text).map(drop))?;
    said.map_err(|said| unreadable(source, &said))?;
    Ok(text)
}

/// Encodes from `source` with `options` in `folder`; `progress` is given the seconds of film that are done.
///
/// # Errors
/// ffmpeg is not there, or failed.
pub(super) fn encode(
    source: &Path,
    folder: &Path,
    options: &[String],
    seconds: f64,
    progress: &mut dyn FnMut(f64),
) -> Result<(), PackageError> {
    let mut command = Command::new(FFMPEG);
    command.current_dir(folder).args(["-hide_banner", "-nostdin", "-loglevel", "error", "-progress", "pipe:1"]);
    command.arg("-max_pixels").arg(MAX_PIXELS.to_string());
    command.args(input(source)).args(options);
    let cpu = (CPU_PER_SECOND * (seconds + 60.0)) as u64;
    let said = run(FFMPEG, command, cpu, |stdout| {
        for line in BufReader::new(stdout).lines() {
            let time = line?.strip_prefix("out_time_us=").and_then(|time| time.parse::<f64>().ok());
            if let Some(time) = time {
                progress((time / 1e6).max(0.0));
            }
        }
        Ok(())
    })?;
    said.map_err(|said| {
        if said.contains("No space left on device") {
            PackageError::Io { path: folder.to_owned(), source: io::ErrorKind::StorageFull.into() }
        } else {
            unreadable(source, &said)
        }
    })
}

/// Input options: this one file, by no other protocol, as no playlist.
fn input(source: &Path) -> Vec<std::ffi::OsString> {
    let mut file = std::ffi::OsString::from("file:");
    // An absolute path, since a relative one is looked up in another folder.
    file.push(std::path::absolute(source).unwrap_or_else(|_| source.to_owned()));
    vec![
        "-protocol_whitelist".into(),
        "file,pipe".into(),
        "-format_whitelist".into(),
        CONTAINERS.into(),
        "-i".into(),
        file,
    ]
}

/// Runs it to its end; the inner error is what it said on stderr when it failed.
fn run(
    program: &'static str,
    mut command: Command,
    cpu: u64,
    read: impl FnOnce(&mut dyn Read) -> io::Result<()>,
) -> Result<Result<(), String>, PackageError> {
    let missing = |error| PackageError::NoFfmpeg(program, error);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(missing)?;
    cage(&child, cpu);
    let stderr = child.stderr.take();
    let said = thread::spawn(move || {
        let mut said = Vec::new();
        if let Some(mut stderr) = stderr {
            // The pipe is read to its end, or it would fill up and stop the program.
            let _ = (&mut stderr).take(SAID).read_to_end(&mut said);
            let _ = io::copy(&mut stderr, &mut io::sink());
        }
        String::from_utf8_lossy(&said).into_owned()
    });
    let result = match &mut child.stdout {
        Some(stdout) => read(stdout),
        None => Ok(()),
    };
    if result.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(missing)?;
    let said = said.join().unwrap_or_default();
    if status.success() && result.is_ok() {
        return Ok(Ok(()));
    }
    Ok(Err(if said.trim().is_empty() { format!("{program} ended early ({status})") } else { said }))
}

/// Limits of the system, from the first moment that there is a process to limit.
fn cage(child: &Child, cpu: u64) {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return };
    let limits = [(Resource::Cpu, cpu), (Resource::As, MEMORY), (Resource::Fsize, FILE), (Resource::Nofile, FILES)];
    for (resource, most) in limits {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        if let Err(error) = prlimit(Some(pid), resource, limit) {
            tracing::warn!(%error, ?resource, "ffmpeg runs without this limit");
        }
    }
}

/// ffmpeg's reason in plain words, and its own last line.
fn unreadable(source: &Path, said: &str) -> PackageError {
    const REASONS: [(&str, &str); 7] = [
        (
            "moov atom not found",
            "its index (moov) is missing: it was cut short, or is no MP4 at all. Copy or export it again",
        ),
        ("Format not on whitelist", "it is a playlist or of a kind that is not packaged"),
        ("Invalid data found", "it is no media file, or a broken one"),
        ("Permission denied", "this user may not read it"),
        ("Cannot allocate memory", "it takes more memory than is allowed to ffmpeg"),
        ("File size limit", "a segment of it grew too large"),
        ("Decoder not found", "this ffmpeg has no decoder for it"),
    ];
    let plain = REASONS.iter().find(|(needle, _)| said.contains(needle)).map(|(_, plain)| *plain);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let reason = match plain {
        Some(plain) => format!("{plain} (ffmpeg: {last})"),
        None => format!("ffmpeg cannot read it: {last}"),
    };
    PackageError::Source { path: source.to_owned(), reason }
}
