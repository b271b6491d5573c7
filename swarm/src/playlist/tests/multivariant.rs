use super::*;

fn multivariant(text: &str) -> Multivariant {
    match parse(text, URL, &resolve) {
        Ok(Playlist::Multivariant(playlist)) => playlist,
        other => panic!("{other:?}"),
    }
}

#[test]
fn variants_and_renditions_are_listed_and_i_frame_playlists_are_not() {
    let playlist = multivariant(&format!(
        "\u{feff}#EXTM3U\r\n#EXT-X-VERSION:8\r\n{MAREA},COMPLETE=NO\r\n#EXT-X-INDEPENDENT-SEGMENTS\r\n#EXT-X-DEFINE:NAME=\"g\",VALUE=\"aac\"\r\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{{$g}}\",NAME=\"English, stereo\",DEFAULT=YES,URI=\"audio.m3u8\"\r\n\
         #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"fr\",URI=\"https://a.example/fr.m3u8#x\"\r\n\
         #EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID=\"cc\",NAME=\"cc\",INSTREAM-ID=\"SERVICE1\"\r\n#EXT-X-MEDIA:TYPE=VIDEO\r\n\
         #EXT-X-STREAM-INF:BANDWIDTH=8000000000,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,AUDIO=\"{{$g}}\"\r\n\
         # a comment\r\n\r\n#EXT-X-FUTURE\r\n720p.m3u8?v=1\r\n\
         #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=90000,URI=\"iframe.m3u8\"\r\n\
         #EXT-X-STREAM-INF:CODECS=\"x\"\r\n#EXT-X-STREAM-INF:BANDWIDTH=-4\r\n360p.m3u8\r\nstray.m3u8\r\n"
    ));
    let tag = playlist.tag.unwrap();
    assert!(!tag.complete);
    let variant = |url: &str, bandwidth, audio: Option<&str>| Variant {
        url: format!("https://edge.example/videos/tide/{url}"),
        bandwidth,
        audio: audio.map(str::to_owned),
    };
    let expected = [variant("720p.m3u8?v=1", 8_000_000_000, Some("aac")), variant("360p.m3u8", 0, None)];
    assert_eq!(playlist.variants, expected);
    let rendition = |url: Option<&str>, kind, group: &str, name: &str| Rendition {
        url: url.map(str::to_owned),
        kind,
        group: group.into(),
        name: name.into(),
    };
    assert_eq!(
        playlist.renditions,
        [
            rendition(
                Some("https://edge.example/videos/tide/audio.m3u8"),
                RenditionKind::Audio,
                "aac",
                "English, stereo"
            ),
            rendition(Some("https://a.example/fr.m3u8"), RenditionKind::Subtitles, "s", "fr"),
            rendition(None, RenditionKind::Other, "cc", "cc"),
            rendition(None, RenditionKind::Video, "", ""),
        ]
    );
}

#[test]
fn a_tag_error_does_not_hide_the_variants() {
    let playlist = multivariant("#EXTM3U\n#EXT-X-MAREA:VERSION=3\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n");
    assert_eq!(playlist.tag_error, Some(TagError::PlaylistVersion));
    assert_eq!((playlist.tag, playlist.variants.len()), (None, 1));
}

#[test]
fn a_variant_that_cannot_be_resolved_is_not_listed() {
    let playlist = multivariant(
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nnot a url\n#EXT-X-STREAM-INF:BANDWIDTH=2\n{$x}.m3u8\n\
         #EXT-X-STREAM-INF:BANDWIDTH=3\nb.m3u8\n",
    );
    assert_eq!(playlist.variants.iter().map(|variant| variant.bandwidth).collect::<Vec<_>>(), [3]);
}

#[test]
fn what_is_no_playlist_says_why() {
    let error = |text: &str| parse(text, URL, &resolve).unwrap_err();
    for text in ["", "\n", "<!doctype html><title>404</title>", "{}", "EXTM3U", "#EXTINF:4,\na.ts\n#EXTM3U", "\0\0\0"] {
        assert_eq!(error(text), PlaylistError::NoHeader, "{text}");
    }
    for text in [
        "#EXTM3U",
        "#EXTM3U\na.ts\nb.ts\n",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n",
        "#EXTM3U\n#EXT-X-I-FRAME-STREAM-INF:URI=\"a\"\n",
    ] {
        assert_eq!(error(text), PlaylistError::Nothing, "{text}");
    }
}
