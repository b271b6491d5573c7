/** Why a video is not shared, or not fully: every code of `session.reasons`, what it does, and one sentence for people. */

/**
 * What a reason does to `state` while nobody is connected: `off` lasts until the source, the page or the viewer's word
 * changes; `waiting` passes by itself; a `note` changes nothing.
 */
export type Effect = "off" | "waiting" | "note";

const EFFECTS = {
  off: "off",
  "consent-pending": "waiting",
  "consent-refused": "off",
  metered: "waiting",
  hidden: "note",
  gate: "waiting",
  "no-hash": "off",
  "bad-tags": "off",
  private: "off",
  "insecure-page": "off",
  "no-wasm": "off",
  csp: "off",
  "no-webrtc": "off",
  "no-ice-server": "note",
  "native-playback": "off",
  "other-engine": "off",
  "signaling-unreachable": "waiting",
  "signaling-refused": "off",
  "origin-refused": "off",
  "token-expired": "off",
  "video-unknown": "off",
  "udp-blocked": "waiting",
  "no-range": "note",
  "origin-hash-mismatch": "note",
  "signature-invalid": "off",
  "playlist-version": "off",
  killed: "off",
} as const satisfies Record<string, Effect>;

/** A code of `session.reasons`. */
export type Reason = keyof typeof EFFECTS;

/** All codes. */
export const REASONS = /* @__PURE__ */ Object.keys(EFFECTS) as Reason[];

const TEXTS: Record<Reason, string> = {
  off: "The page has switched sharing off.",
  "consent-pending": "The viewer has not yet agreed to share.",
  "consent-refused": "The viewer has switched sharing off.",
  metered: "The connection is metered or saves data, so nothing is shared.",
  hidden: "The video is hidden or paused, so nothing is uploaded.",
  gate: "Too few viewers are here to share with.",
  "no-hash": "Neither tags nor a hash list verify this video, so there is nothing that could be shared safely.",
  "bad-tags": "The verification tags of the playlist are wrong.",
  private: "The video needs credentials and is not marked for sharing.",
  "insecure-page": "Checking this video needs a secure page (https) and a newer browser.",
  "no-wasm": "WebAssembly is missing, or marea.wasm could not be loaded.",
  csp: "The page's Content-Security-Policy forbids WebAssembly ('wasm-unsafe-eval') or a connection.",
  "no-webrtc": "This browser has no WebRTC.",
  "no-ice-server": "No STUN server is known, so only viewers in the same network can be reached.",
  "native-playback": "The browser plays this video by itself, where segments cannot be shared.",
  "other-engine": "Another peer-to-peer engine already serves this player.",
  "signaling-unreachable": "The signaling server cannot be reached; playback goes on over HTTP.",
  "signaling-refused": "No signaling server may be used here: none is allowed or none accepts this page.",
  "origin-refused": "The signaling server does not accept viewers from this site.",
  "token-expired": "The signaling server refused the token.",
  "video-unknown": "The signaling server does not know this video.",
  "udp-blocked": "The network lets no peer connection through.",
  "no-range": "The server does not answer byte ranges, so segments are loaded whole.",
  "origin-hash-mismatch": "The server's bytes differ from the playlist's hashes and are not shared.",
  "signature-invalid": "A playlist or an edge is not signed with the key that the page demands.",
  "playlist-version": "The playlist's tags need a newer version of this script.",
  killed: "The site has withdrawn this video from sharing.",
};

/** What it does to `state`. */
export function effect(reason: Reason): Effect {
  return EFFECTS[reason];
}

/** One sentence for people. */
export function explain(reason: Reason): string {
  return TEXTS[reason];
}
