//! `package` with the real ffmpeg, on the clip that the repository carries.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use hls_m3u8::MasterPlaylist;
use marea_seeder::{PackageError, PackageEvent, package};
use tempfile::TempDir;

fn clip() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/media/bigbuckbunny.mp4")
}

/// A source that is quickly made: `seconds` of a small test picture, as MPEG-4 part 2 with sound and subtitles.
fn small(folder: &Path, seconds: u32) -> PathBuf {
    let subtitles = folder.join("words.srt");
    fs::write(&subtitles, "1\n00:00:00,500 --> 00:00:01,500\nHello\n").expect("subtitles");
    let path = folder.join("Small Film.mkv");
    let picture = format!("testsrc=s=320x180:r=10:d={seconds}");
    let sound = format!("sine=d={seconds}");
    let mut command = Command::new("ffmpeg");
    command.args(["-y", "-v", "error", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound, "-i"]);
    command.arg(subtitles).args(["-c:v", "mpeg4", "-c:a", "mp2", "-c:s", "srt"]).arg(&path);
    assert!(command.status().expect("ffmpeg").success());
    path
}

fn run(source: &Path, root: &Path) -> (Result<String, PackageError>, Vec<PackageEvent>) {
    let events = Mutex::new(Vec::new());
    let result = package(source, root, None, None, &|event| events.lock().expect("no panic").push(event.clone()));
    (result, events.into_inner().expect("no panic"))
}

fn reason(source: &Path, root: &Path) -> String {
    run(source, root).0.expect_err("it is refused").to_string()
}

/// All files below, with their paths relative to it.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).expect("a folder").flatten() {
            if entry.path().is_dir() {
                open.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(folder).expect("below").to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn other_codecs_are_encoded_and_subtitles_kept() {
    let work = TempDir::new().expect("a folder");
    let root = work.path().join("root");
    let source = small(work.path(), 9);
    let (playlist, events) = run(&source, &root);
    assert_eq!(playlist.expect("packaged"), "small-film/master.m3u8");
    let film = root.join("small-film");
    let text = fs::read_to_string(film.join("master.m3u8")).expect("a playlist");
    let quick = events.iter().filter(|event| matches!(event, PackageEvent::Published { .. })).count();
    assert_eq!(quick, 1, "one rendition is published once: {events:?}");
    assert!(text.contains("TYPE=SUBTITLES") && text.contains("TYPE=AUDIO") && text.contains("avc1."), "{text}");
    let made = files(&film);
    let words = made.iter().find(|file| file.ends_with("subtitles.vtt")).expect("subtitles");
    assert!(fs::read_to_string(film.join(words)).expect("text").contains("Hello"));
    let segments = made.iter().filter(|file| file.contains("/180p/") && file.ends_with(".m4s")).count();
    assert_eq!(segments, 3, "{made:?}");
}

#[test]
fn a_changed_file_keeps_its_id_and_gets_new_urls() {
    let work = TempDir::new().expect("a folder");
    let root = work.path().join("root");
    let source = small(work.path(), 2);
    run(&source, &root).0.expect("packaged");
    let film = root.join("small-film");
    let (id, before) = (fs::read_to_string(film.join("marea.json")).expect("an id"), files(&film));
    small(work.path(), 3);
    run(&source, &root).0.expect("packaged anew");
    assert_eq!(fs::read_to_string(film.join("marea.json")).expect("an id"), id);
    let after = files(&film);
    let segment = |files: &[String]| files.iter().find(|file| file.ends_with("/180p/00000.m4s")).cloned();
    assert_ne!(segment(&before), segment(&after));
    assert_eq!(after.iter().filter(|file| file.ends_with("/180p/init.mp4")).count(), 1, "{after:?}");
}

#[test]
fn what_is_no_film_is_refused_in_plain_words() {
    let work = TempDir::new().expect("a folder");
    let root = work.path().join("root");
    let put = |name: &str, bytes: &[u8]| {
        let path = work.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path
    };
    let secret = put("secret.ts", &[0x47; 188 * 100]);
    let list = format!("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{}\n#EXT-X-ENDLIST\n", secret.display());
    let playlist = reason(&put("evil.mp4", list.as_bytes()), &root);
    assert!(playlist.contains("it is a playlist"), "{playlist}");
    let whole = fs::read(clip()).expect("the clip");
    let cut = reason(&put("cut.mp4", &whole[..300_000]), &root);
    assert!(cut.contains("it was cut short"), "{cut}");
    let text = reason(&put("text.mp4", b"no film at all"), &root);
    assert!(text.contains("no MP4 at all"), "{text}");
    assert!(reason(work.path(), &root).contains("it is not a file"));
    assert!(reason(&work.path().join("nowhere.mp4"), &root).contains("nowhere.mp4"));
    assert!(!files(&root).iter().any(|file| file.ends_with(".m3u8")), "{:?}", files(&root));
}

fn package_program(source: &Path, root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marea-seeder"));
    command.arg("package").arg(source).arg("--root").arg(root).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn finished(mut command: Command) -> Output {
    command.output().expect("the program")
}

#[test]
fn a_killed_run_leaves_nothing_half_made_and_the_next_one_ends_with_a_tagged_ladder() {
    let work = TempDir::new().expect("a folder");
    let root = work.path().join("root");
    let mut child = package_program(&clip(), &root).spawn().expect("the program");
    // Killed as soon as one rendition is on show and the next under way.
    let film = root.join("bigbuckbunny");
    let end = Instant::now() + Duration::from_secs(60);
    while !film.join("master.m3u8").exists() {
        assert!(Instant::now() < end, "nothing was published: {:?}", files(&root));
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    let text = fs::read_to_string(film.join("master.m3u8")).expect("a playlist");
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let list = fs::read_to_string(film.join(line)).expect("what is listed is there");
        assert!(list.contains("#EXT-X-ENDLIST"), "{list}");
    }

    let (playlist, _) = run(&clip(), &root);
    assert_eq!(playlist.expect("packaged"), "bigbuckbunny/master.m3u8");
    let text = fs::read_to_string(film.join("master.m3u8")).expect("a playlist");
    assert!(text.contains("#EXT-X-MAREA:VERSION=1,"), "{text}");
    let master = MasterPlaylist::try_from(text.as_str()).expect("a strict parser takes it");
    assert_eq!(master.variant_streams.len(), 4);
    // Its H.264 is taken as it is.
    assert!(text.contains("RESOLUTION=1280x720"), "{text}");
    let made = files(&film);
    assert!(made.contains(&"poster.jpg".to_owned()) && made.contains(&"marea.json".to_owned()), "{made:?}");
    assert!(made.iter().any(|file| file.ends_with("/360p/00000.m4s.pieces")), "{made:?}");
    assert!(!made.iter().any(|file| file.contains("partial")), "{made:?}");

    // After that there is nothing to do.
    let before = files(&root);
    let (again, events) = run(&clip(), &root);
    assert!(again.is_ok());
    assert!(matches!(events.as_slice(), [PackageEvent::Unchanged { .. }]), "{events:?}");
    assert_eq!(files(&root), before);
}

#[test]
fn errors_name_what_is_wrong_and_the_other_files_are_packaged() {
    let work = TempDir::new().expect("a folder");
    let root = work.path().join("root");
    let good = small(work.path(), 2);
    let mut command = package_program(&work.path().join("nowhere.mp4"), &root);
    command.arg(&good);
    let output = finished(command);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nowhere.mp4"));
    assert!(root.join("small-film/master.m3u8").exists());

    let mut command = package_program(&good, &root);
    command.env("PATH", work.path());
    fs::remove_dir_all(root.join("small-film")).expect("removed");
    let output = finished(command);
    assert!(String::from_utf8_lossy(&output.stderr).contains("apt-get install ffmpeg"));

    // A root that cannot be written to; whoever runs this as root may write everywhere.
    let closed = work.path().join("closed");
    fs::create_dir(&closed).expect("a folder");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).expect("read-only");
    let output = finished(package_program(&good, &closed));
    if !output.status.success() {
        assert!(String::from_utf8_lossy(&output.stderr).contains("may write"), "{output:?}");
    }
}
