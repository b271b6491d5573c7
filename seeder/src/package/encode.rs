//! Makes renditions, each in a folder of its own that is there whole or not at all.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{
    PARTIAL, PackageError, PackageEvent, at, ffmpeg,
    ladder::{Plan, Rung, SEGMENT},
    probe::{Probed, Track},
};

/// A picture of the film, beside its multivariant playlist.
pub(super) const POSTER: &str = "poster.jpg";
/// Media playlist of a rendition.
pub(super) const PLAYLIST: &str = "index.m3u8";
/// Where subtitles lie in their rendition's folder.
const SUBTITLES: &str = "subtitles.vtt";
/// Most tracks of sound, and of subtitles.
const MAX_TRACKS: usize = 8;
/// Bits per second of sound.
const AUDIO_RATE: &str = "128k";
/// x264's effort: a 20-euro server encodes 1080p at about the speed of the film.
const PRESET: &str = "veryfast";
/// Where in the film the poster is taken: beyond the titles.
const POSTER_AT: f64 = 0.1;

/// What is needed to work on one file.
pub(super) struct Work<'a> {
    pub(super) source: &'a Path,
    pub(super) probed: &'a Probed,
    /// Folder of this content.
    pub(super) folder: &'a Path,
    pub(super) slug: &'a str,
    pub(super) report: &'a (dyn Fn(&PackageEvent) + Sync),
}

/// Renditions that are whole.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    pub(super) video: Vec<Rung>,
    /// Folder and what it holds.
    pub(super) audio: Vec<(String, Track)>,
    pub(super) subtitles: Vec<(String, Track)>,
}

impl Work<'_> {
    /// A rendition of the picture.
    pub(super) fn video(&self, rung: &Rung, plan: &Plan) -> Result<Rung, PackageError> {
        let mut options = vec!["-map".into(), format!("0:{}", self.probed.video.index), "-an".into(), "-sn".into()];
        match rung.bitrate {
            None => options.extend(["-c:v", "copy"].map(String::from)),
            Some(bitrate) => options.extend(self.encoder(rung, bitrate, plan)),
        }
        options.extend(hls());
        self.rendition(&rung.name, &options)?;
        Ok(rung.clone())
    }

    fn encoder(&self, rung: &Rung, bitrate: u64, plan: &Plan) -> Vec<String> {
        let deinterlace = if self.probed.video.interlaced { "yadif," } else { "" };
        let filter = format!("{deinterlace}scale={}:{},setsar=1,format=yuv420p", rung.width, rung.height);
        let even = plan.cuts.len() == (self.probed.duration / SEGMENT).ceil() as usize
            && plan.cuts.iter().enumerate().all(|(index, cut)| (cut - SEGMENT * index as f64).abs() < 0.001);
        let keys = if even {
            format!("expr:gte(t,n_forced*{SEGMENT})")
        } else {
            // A little early: a frame's time may be rounded down.
            let times: Vec<String> = plan.cuts.iter().map(|cut| format!("{:.3}", (cut - 0.002).max(0.0))).collect();
            times.join(",")
        };
        let text = |value: u64| value.to_string();
        [
            "-vf",
            &filter,
            "-c:v",
            "libx264",
            "-preset",
            PRESET,
            "-profile:v",
            "main",
            "-b:v",
            &text(bitrate),
            "-maxrate",
            &text(bitrate * 11 / 10),
            "-bufsize",
            &text(bitrate * 2),
            // Key frames where segments begin and nowhere else, so that renditions fit together.
            "-force_key_frames",
            &keys,
            "-g",
            "100000",
            "-sc_threshold",
            "0",
            "-x264-params",
            "open-gop=0",
        ]
        .map(String::from)
        .to_vec()
    }

    /// All sound and all subtitles.
    pub(super) fn audio_and_subtitles(&self) -> Result<Tracks, PackageError> {
        let mut tracks = Tracks::default();
        for (number, track) in self.probed.audio.iter().take(MAX_TRACKS).enumerate() {
            let name = format!("audio-{number}");
            let mut options = vec!["-map".into(), format!("0:{}", track.index), "-vn".into(), "-sn".into()];
            let mut track = track.clone();
            if track.codec == "aac" && track.profile == "LC" && track.channels <= 2 {
                options.extend(["-c:a", "copy"].map(String::from));
            } else {
                options.extend(["-c:a", "aac", "-b:a", AUDIO_RATE, "-ac", "2", "-ar", "48000"].map(String::from));
                track.channels = 2;
            }
            options.extend(hls());
            self.rendition(&name, &options)?;
            tracks.audio.push((name, track));
        }
        for (number, track) in self.probed.subtitles.iter().take(MAX_TRACKS).enumerate() {
            let name = format!("subtitles-{number}");
            let options = ["-map", &format!("0:{}", track.index), "-c:s", "webvtt", "-f", "webvtt", SUBTITLES];
            self.whole(&name, |folder| {
                self.ffmpeg(&name, folder, &options.map(String::from))?;
                let seconds = self.probed.duration;
                let text = format!(
                    "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{}\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXTINF:{seconds:.3},\n\
                     {SUBTITLES}\n#EXT-X-ENDLIST\n",
                    seconds.ceil()
                );
                let path = folder.join(PLAYLIST);
                fs::write(&path, text).map_err(at(&path))
            })?;
            tracks.subtitles.push((name, track.clone()));
        }
        Ok(tracks)
    }

    /// The poster. A film without one is none the worse.
    pub(super) fn poster(&self, film: &Path) {
        let time = format!("{:.3}", self.probed.duration * POSTER_AT);
        let options = ["-map", &format!("0:{}", self.probed.video.index), "-ss", &time, "-frames:v", "1"];
        let filter = ["-vf", "scale=w='min(1280,iw)':h=-2", "-q:v", "4", "-f", "image2", "-update", "1", POSTER];
        let made = self.partial().map_err(at(self.folder)).and_then(|folder| {
            let options: Vec<String> = options.into_iter().chain(filter).map(String::from).collect();
            ffmpeg::encode(self.source, folder.path(), &options, self.probed.duration, &mut |_| {})?;
            fs::rename(folder.path().join(POSTER), film.join(POSTER)).map_err(at(film))
        });
        if let Err(error) = made {
            tracing::warn!(%error, "there is no poster");
        }
    }

    fn rendition(&self, name: &str, options: &[String]) -> Result<(), PackageError> {
        self.whole(name, |folder| self.ffmpeg(name, folder, options))
    }

    fn ffmpeg(&self, name: &str, folder: &Path, options: &[String]) -> Result<(), PackageError> {
        let seconds = self.probed.duration;
        ffmpeg::encode(self.source, folder, options, seconds, &mut |done| {
            (self.report)(&PackageEvent::Progress {
                slug: self.slug.to_owned(),
                rendition: name.to_owned(),
                part: (done / seconds).min(1.0),
            });
        })
    }

    /// Makes the folder `name` by `make` unless it is there.
    fn whole(&self, name: &str, make: impl FnOnce(&Path) -> Result<(), PackageError>) -> Result<(), PackageError> {
        let target = self.folder.join(name);
        if target.exists() {
            return Ok(());
        }
        let partial = self.partial().map_err(at(self.folder))?;
        make(partial.path())?;
        // On the disk before it has its name: what has a name is whole, also after a power cut.
        settle(partial.path()).map_err(at(partial.path()))?;
        let path: PathBuf = partial.keep();
        fs::rename(&path, &target).map_err(at(&target))?;
        fs::File::open(self.folder).and_then(|folder| folder.sync_all()).map_err(at(self.folder))
    }

    fn partial(&self) -> io::Result<TempDir> {
        tempfile::Builder::new().prefix(PARTIAL).tempdir_in(self.folder)
    }
}

/// Files on disk, and readable by whoever serves them.
fn settle(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for entry in fs::read_dir(folder)? {
        fs::File::open(entry?.path())?.sync_all()?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    fs::File::open(folder)?.sync_all()
}

/// Output as fragmented MP4 in segments.
fn hls() -> Vec<String> {
    let length = SEGMENT.to_string();
    [
        "-map_metadata",
        "-1",
        "-f",
        "hls",
        "-hls_time",
        &length,
        "-hls_playlist_type",
        "vod",
        "-hls_segment_type",
        "fmp4",
        "-hls_flags",
        "independent_segments",
        "-hls_fmp4_init_filename",
        "init.mp4",
        // The first picture is shown at 0, as the first sound is. Else ffmpeg moves a stream of reordered frames, and only
        // that one, by two frames: lips and voice would part.
        "-avoid_negative_ts",
        "disabled",
        "-hls_segment_filename",
        "%05d.m4s",
        PLAYLIST,
    ]
    .map(String::from)
    .to_vec()
}
