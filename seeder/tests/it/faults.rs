//! Hostile files, and a machine that fails: nothing half-made is listed, nothing that was whole is lost, the edge serves on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use marea_seeder::package;

use super::support::{folder, tree};

const PROGRAM: &str = env!("CARGO_BIN_EXE_marea-seeder");

fn ffmpeg(args: &str, output: &Path) {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-y", "-v", "error"]).args(args.split(' ')).arg(output);
    assert!(command.status().expect("ffmpeg").success(), "{args}");
}

fn refusal(source: &Path, root: &Path) -> String {
    package(source, root, None, None, &|_| {}).expect_err("it is refused").to_string()
}

/// Writes `value` `offset` bytes after each `mark`.
fn patch(bytes: &mut [u8], mark: &[u8], offset: usize, value: &[u8]) {
    let places: Vec<usize> =
        (0..bytes.len().saturating_sub(mark.len())).filter(|&at| bytes[at..].starts_with(mark)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + offset..at + offset + value.len()].copy_from_slice(value);
    }
}

/// Playlists below, hidden folders included.
fn playlists(root: &Path) -> Vec<PathBuf> {
    let is_playlist = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "m3u8");
    tree(root).into_keys().filter(is_playlist).collect()
}

#[test]
fn pictures_without_bounds_and_films_without_end_are_refused() {
    let work = folder();
    let root = work.path().join("root");
    let picture = work.path().join("picture.avi");
    ffmpeg("-f lavfi -i color=s=16x16:d=0.2:r=5 -c:v rawvideo -pix_fmt bgr24", &picture);
    let mut bytes = fs::read(&picture).expect("a film");
    for (side, reason) in [(9_000u32, "9000 × 9000 is too large"), (30_000, "beyond all bounds")] {
        // BITMAPINFOHEADER: width and height.
        let side = side.to_le_bytes();
        patch(&mut bytes, b"strf", 12, &[side, side].concat());
        fs::write(&picture, &bytes).expect("written");
        let said = refusal(&picture, &root);
        assert!(said.contains(reason), "{said}");
    }

    let endless = work.path().join("endless.mp4");
    ffmpeg("-f lavfi -i color=s=16x16:d=1:r=5 -c:v mpeg4 -use_editlist 0", &endless);
    let mut bytes = fs::read(&endless).expect("a film");
    // Time scale and length of the film and of its track (ISO/IEC 14496-12 §8.2.2, §8.4.2).
    let (scale, length) = (1u32.to_be_bytes(), 0x7000_0000u32.to_be_bytes());
    patch(&mut bytes, b"mvhd", 16, &[scale, length].concat());
    patch(&mut bytes, b"mdhd", 16, &[scale, length].concat());
    fs::write(&endless, bytes).expect("written");
    let said = refusal(&endless, &root);
    assert!(said.contains("more than 24 hours"), "{said}");

    let link = work.path().join("zeros.mp4");
    std::os::unix::fs::symlink("/dev/zero", &link).expect("a link");
    let said = refusal(&link, &root);
    assert!(said.contains("it is not a file"), "{said}");
    assert_eq!(playlists(&root), Vec::<PathBuf>::new());
}

#[test]
fn a_name_that_looks_like_options_and_commands_is_only_a_name() {
    let work = folder();
    let source = work.path().join("-y;$(touch owned).mp4");
    let plain = work.path().join("plain.mp4");
    ffmpeg("-f lavfi -i color=s=64x36:d=1:r=5 -c:v mpeg4", &plain);
    fs::rename(&plain, &source).expect("renamed");
    let output = Command::new(PROGRAM)
        .current_dir(work.path())
        .args(["package", "--root", "root", "--", "-y;$(touch owned).mp4"])
        .output()
        .expect("the program");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(work.path().join("root/y-touch-owned/master.m3u8").exists());
    assert!(!work.path().join("owned").exists());
}

/// The process called `name` that `parent` started.
fn child_called(parent: &Child, name: &str) -> Option<rustix::process::Pid> {
    for task in fs::read_dir(format!("/proc/{}/task", parent.id())).ok()?.flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for pid in children.split_whitespace() {
            if fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name) {
                return rustix::process::Pid::from_raw(pid.parse().ok()?);
            }
        }
    }
    None
}

#[test]
fn a_killed_ffmpeg_leaves_nothing_to_be_seen_and_the_next_run_makes_it() {
    let work = folder();
    let (source, root) = (work.path().join("film.mkv"), work.path().join("root"));
    ffmpeg("-f lavfi -i testsrc2=s=640x360:d=20:r=25 -c:v mpeg4", &source);
    let package = || {
        let mut command = Command::new(PROGRAM);
        command.arg("package").arg(&source).arg("--root").arg(&root).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let child = package().spawn().expect("the program");
    let end = Instant::now() + Duration::from_secs(60);
    let victim = loop {
        assert!(Instant::now() < end, "ffmpeg was never seen");
        match child_called(&child, "ffmpeg") {
            Some(pid) => break pid,
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    rustix::process::kill_process(victim, rustix::process::Signal::KILL).expect("killed");
    let output = child.wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("ffmpeg ended early (signal: 9"), "{said}");
    assert_eq!(playlists(&root), Vec::<PathBuf>::new());
    assert!(package().status().expect("the program").success());
    assert!(root.join("film/master.m3u8").exists());
}

/// What happens on a disk that is full and then read-only, told line by line. Runs in a mount namespace of its own.
const DISK: &str = r#"
set -eu
program=$1 source=$2 disk=$3 copy=$4
say() { echo "$*"; }
mount -t tmpfs -o size=700k tmpfs "$disk"
mount -t tmpfs -o size=200k tmpfs "$copy"
mkdir "$disk/root"
"$program" key new --key "$disk/.site.key" 2>/dev/null >&2
# A video that is there before anything fails.
"$program" package "$source" --root "$disk/root" 2>/dev/null
mv "$disk/root/film" "$disk/root/old"
"$program" serve --root "$disk/root" --listen 127.0.0.1:0 --list-videos --key "$disk/.site.key" > "$copy/../ready" 2> "$copy/../log" &
server=$!
trap 'kill $server' EXIT
while ! grep -q listening "$copy/../ready"; do sleep 0.05; done
address=$(sed -n 's|listening on http://||p' "$copy/../ready")
get() { exec 3<>"/dev/tcp/${address%:*}/${address#*:}"; printf 'GET %s HTTP/1.0\r\n\r\n' "$1" >&3; head -1 <&3 | tr -d '\r'; exec 3>&-; }
package() { "$program" package "$source" --root "$disk/root" 2>&1 | tail -1 || true; }

dd if=/dev/zero of="$disk/filler" bs=1k count=100000 2>/dev/null || true
say "full: $(package)"
say "listed on full: $(find "$disk/root/film" -name '*.m3u8' 2>/dev/null | grep -v partial | wc -l)"
say "served on full: $(get /videos/old/master.m3u8)"
rm "$disk/filler"
mount -o remount,ro "$disk"
say "read-only: $(package)"
say "served read-only: $(get /videos/old/master.m3u8)"
mount -o remount,rw,size=50m "$disk"
say "mended: $(package)"
say "served mended: $(get /videos/film/master.m3u8)"

# A mirror whose disk is too small.
mirror() { "$program" mirror "http://$address/videos/old/master.m3u8" --root "$copy" > "$copy/../mirror" 2>&1 && say "$1 ok" || say "$1 failed"; }
dd if=/dev/zero of="$copy/filler" bs=1k count=170 2>/dev/null
mirror "mirror on full:"
say "mirrored on full: $(find "$copy" -name '*.m3u8' | wc -l)"
mount -o remount,ro "$copy"
mirror "mirror read-only:"
mount -o remount,rw,size=50m "$copy"
mirror "mirror mended:"
say "mirrored: $(find "$copy" -name 'master.m3u8' | wc -l)"
"#;

#[test]
fn a_full_and_a_read_only_disk_lose_nothing_and_the_edge_serves_on() {
    let work = folder();
    let source = work.path().join("film.mkv");
    ffmpeg("-f lavfi -i testsrc2=s=160x90:d=8:r=10 -c:v mpeg4", &source);
    let (disk, copy) = (work.path().join("disk"), work.path().join("copy"));
    fs::create_dir(&disk).and_then(|()| fs::create_dir(&copy)).expect("folders");
    let probe = Command::new("unshare").args(["-m", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        eprintln!("SKIPPED: no disk can be filled here without the right to mount one (run as root)");
        return;
    }
    let output = Command::new("unshare")
        .args(["-m", "bash", "-c", DISK, "bash", PROGRAM])
        .args([&source, &disk, &copy])
        .output()
        .expect("a namespace");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = format!("{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let line = |start: &str| {
        let found = said.lines().find_map(|line| line.strip_prefix(start));
        found.unwrap_or_else(|| panic!("no {start:?} in {all}")).trim().to_owned()
    };
    assert!(line("full:").contains("Make room"), "{all}");
    assert_eq!(line("listed on full:"), "0", "{all}");
    for served in ["served on full:", "served read-only:", "served mended:"] {
        assert!(line(served).ends_with("200 OK"), "{all}");
    }
    assert!(line("read-only:").contains("may write to"), "{all}");
    assert!(line("mended:").ends_with("film/master.m3u8: published"), "{all}");
    assert_eq!(line("mirror on full:"), "failed", "{all}");
    assert_eq!(line("mirrored on full:"), "0", "{all}");
    assert_eq!(line("mirror read-only:"), "failed", "{all}");
    assert_eq!((line("mirror mended:").as_str(), line("mirrored:").as_str()), ("ok", "1"), "{all}");
}
