/** Why a video is not shared, or not fully: every code of `session.reasons` with one sentence for people. */

/**
 * What a reason does to `state` while nobody is connected: `off` lasts until the source, the page or the viewer's word
 * changes; `waiting` passes by itself; a `note` changes nothing.
 */
export type Effect = "off" | "waiting" | "note";

type Explanation = [effect: Effect, text: string];

const lasting = (text: string): Explanation => ["off", text];
const passing = (text: string): Explanation => ["waiting", text];
const note = (text: string): Explanation => ["note", text];

const EXPLANATIONS = {
  off: lasting("The page has switched sharing off."),
  "consent-pending": passing("The viewer has not yet agreed to share."),
  "consent-refused": lasting("The viewer has switched sharing off."),
  metered: passing("The connection is metered or saves data, so nothing is shared."),
  hidden: note("The video is hidden or paused, so nothing is uploaded."),
  gate: passing("Too few viewers are here to share with."),
  "no-hash": lasting("The playlist has no verification tags, so there is nothing that could be shared safely."),
  "bad-tags": lasting("The verification tags of the playlist are wrong."),
  private: lasting("The video needs credentials and is not marked for sharing."),
  "insecure-page": lasting("The page is not secure (https), which checking this video needs."),
  "no-wasm": lasting("WebAssembly is missing, or marea.wasm could not be loaded."),
  csp: lasting("The page's Content-Security-Policy forbids WebAssembly ('wasm-unsafe-eval') or a connection."),
  "no-webrtc": lasting("This browser has no WebRTC."),
  "no-ice-server": note("No STUN server is known, so only viewers in the same network can be reached."),
  "native-playback": lasting("The browser plays this video by itself, where segments cannot be shared."),
  "other-engine": lasting("Another peer-to-peer engine already serves this player."),
  "signaling-unreachable": passing("The signaling server cannot be reached; playback goes on over HTTP."),
  "signaling-refused": lasting("No signaling server may be used here: none is allowed or none accepts this page."),
  "origin-refused": lasting("The signaling server does not accept viewers from this site."),
  "token-expired": lasting("The signaling server refused the token."),
  "video-unknown": lasting("The signaling server does not know this video."),
  "udp-blocked": passing("The network lets no peer connection through."),
  "no-range": note("The server does not answer byte ranges, so segments are loaded whole."),
  "origin-hash-mismatch": note(
    "The server's bytes differ from the playlist's hashes: they are played, but not shared.",
  ),
  "signature-invalid": lasting("The playlist is not signed with the key that the page demands."),
  "playlist-version": lasting("The playlist's tags need a newer version of this script."),
  killed: lasting("The site has withdrawn this video from sharing."),
} satisfies Record<string, Explanation>;

/** A code of `session.reasons`. */
export type Reason = keyof typeof EXPLANATIONS;

/** All codes, in the order in which they are worth telling. */
export const REASONS = Object.keys(EXPLANATIONS) as Reason[];

/** One sentence for people. */
export function explain(reason: Reason): string {
  return EXPLANATIONS[reason][1];
}

/** What it does to `state`. */
export function effect(reason: Reason): Effect {
  return EXPLANATIONS[reason][0];
}
