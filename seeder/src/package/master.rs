//! The multivariant playlist, from what the renditions really are.

use std::{fmt::Write as _, fs, io, path::Path};

use super::{
    encode::{PLAYLIST, Tracks},
    ladder::Plan,
    probe::Track,
};

/// Its file name.
pub(super) const NAME: &str = "master.m3u8";
/// The codec of all sound: AAC, low complexity (RFC 6381).
const AUDIO_CODEC: &str = "mp4a.40.2";

/// The text of the playlist of these tracks (RFC 8216 §4.3.4), whose folders are in `folder`, named `content`; `fps` is
/// frames per second.
pub(super) fn text(content: &str, fps: f64, plan: &Plan, tracks: &Tracks, folder: &Path) -> io::Result<String> {
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    let mut groups = String::new();
    for (kind, group, list) in [("AUDIO", "audio", &tracks.audio), ("SUBTITLES", "subtitles", &tracks.subtitles)] {
        for (index, (name, track)) in list.iter().enumerate() {
            let first = kind == "AUDIO" && index == 0;
            let _ = write!(text, "#EXT-X-MEDIA:TYPE={kind},GROUP-ID=\"{group}\",NAME=\"{}\"", label(track, index));
            if let Some(language) = &track.language {
                let _ = write!(text, ",LANGUAGE=\"{}\"", quoted(language));
            }
            let _ = write!(text, ",DEFAULT={},AUTOSELECT=YES", if first { "YES" } else { "NO" });
            if kind == "AUDIO" && track.channels > 0 {
                let _ = write!(text, ",CHANNELS=\"{}\"", track.channels);
            }
            let _ = writeln!(text, ",URI=\"{content}/{name}/{PLAYLIST}\"");
        }
        if !list.is_empty() {
            let _ = write!(groups, ",{kind}=\"{group}\"");
        }
    }
    let audio = tracks.audio.first().map(|(name, _)| Rates::of(&folder.join(name))).transpose()?.unwrap_or_default();
    for rung in &plan.video {
        if !tracks.video.contains(rung) {
            continue;
        }
        let rendition = folder.join(&rung.name);
        let rates = Rates::of(&rendition)?;
        let mut codecs = avc_codec(&fs::read(rendition.join("init.mp4"))?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the init section has no avcC"))?;
        if !tracks.audio.is_empty() {
            let _ = write!(codecs, ",{AUDIO_CODEC}");
        }
        let _ = writeln!(
            text,
            "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},RESOLUTION={}x{},FRAME-RATE={fps:.3},CODECS=\"{codecs}\"{groups}\n\
             {content}/{}/{PLAYLIST}",
            rates.peak + audio.peak,
            rates.average + audio.average,
            rung.width,
            rung.height,
            rung.name,
        );
    }
    Ok(text)
}

/// Bits per second of a rendition's segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rates {
    /// Of the segment with the most.
    peak: u64,
    average: u64,
}

impl Rates {
    fn of(folder: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(folder.join(PLAYLIST))?;
        let (mut seconds, mut bytes, mut peak, mut duration) = (0.0, 0u64, 0.0f64, 0.0);
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("#EXTINF:") {
                duration = rest.split(',').next().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
            } else if !line.is_empty() && !line.starts_with('#') {
                let size = fs::metadata(folder.join(line))?.len();
                (seconds, bytes) = (seconds + duration, bytes + size);
                // The last segment may be a few frames: its rate says nothing.
                if duration > 0.5 || peak == 0.0 {
                    peak = peak.max(size as f64 * 8.0 / duration.max(0.1));
                }
            }
        }
        let average = bytes as f64 * 8.0 / f64::max(seconds, 0.1);
        Ok(Self { peak: peak.max(average).ceil() as u64, average: average.ceil() as u64 })
    }
}

/// `avc1.` with profile, constraints and level, from an init section's decoder configuration (RFC 6381 §3.3).
fn avc_codec(init: &[u8]) -> Option<String> {
    let at = init.windows(4).position(|window| window == b"avcC")?;
    // One byte of version, then profile, constraints, level.
    let [_, profile, constraints, level] = *init.get(at + 4..at + 8)? else { return None };
    Some(format!("avc1.{profile:02x}{constraints:02x}{level:02x}"))
}

fn label(track: &Track, index: usize) -> String {
    let name = track.title.as_ref().or(track.language.as_ref());
    match name {
        // Names of a group have to differ (RFC 8216 §4.3.4.1.1).
        Some(name) if index > 0 => format!("{} {}", quoted(name), index + 1),
        Some(name) => quoted(name),
        None => format!("Track {}", index + 1),
    }
}

/// What may stand in a quoted string.
fn quoted(text: &str) -> String {
    text.chars().filter(|char| !char.is_control() && *char != '"').take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codec_is_read_from_the_init_section() {
        let init = [b"....avcC".as_slice(), &[1, 0x4d, 0x40, 0x1f, 0xff]].concat();
        assert_eq!(avc_codec(&init).as_deref(), Some("avc1.4d401f"));
        assert_eq!(avc_codec(b"....avcC\x01"), None);
    }

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(quoted("a\"\nURI=\"b"), "aURI=b");
    }
}
