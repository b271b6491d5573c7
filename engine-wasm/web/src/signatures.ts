/** Signed playlists (design C4, `docs/signing.md`): whether a text is what a key that the page pins has signed. */

import { attributesOf } from "./playlists.js";
import type { Reason } from "./reasons.js";

/** What a playlist must be. */
export interface Expected {
  /** Pinned keys, `ed25519:<base64url>`. */
  keys: readonly string[];
  /** The video id as written. */
  video: string;
  /** The place in it, by `nameOf`; null where it has none. */
  name: string | null;
}

/** NAME of the playlist at `url`: its path relative to the multivariant one at `main`; null if it is on another host. */
export function nameOf(main: string, url: string): string | null {
  try {
    const [from, to] = [new URL(main), new URL(url)];
    if (from.origin !== to.origin) return null;
    const [folders, parts] = [from, to].map(({ pathname }) => decodeURIComponent(pathname).split("/")) as [
      string[],
      string[],
    ];
    if (folders.join("/") === parts.join("/")) return "";
    folders.pop();
    let shared = 0;
    while (shared < parts.length - 1 && folders[shared] === parts[shared]) shared++;
    return [...folders.slice(shared).map(() => ".."), ...parts.slice(shared)].join("/");
  } catch {
    return null;
  }
}

/** The highest SEQ that this page has seen, by KEY, VIDEO and NAME. */
const highest = new Map<string, number>();

/**
 * Checks the signature in the last line.
 * @param hash BLAKE3 of a text's UTF-8.
 * @param own It comes from the playlist's own origin, where neither EXPIRES nor SEQ counts.
 * @returns Null if it fits; else nothing of the text may be shared, and why.
 */
export async function checkSignature(
  text: string,
  { keys, video, name }: Expected,
  hash: (text: string) => Uint8Array,
  own = true,
): Promise<Reason | null> {
  const start = text.lastIndexOf("\n", text.length - 2) + 1;
  const [, list] = /^#EXT-X-MAREA-SIGNATURE:(.*)\r?\n?$/.exec(text.slice(start)) ?? [];
  const attributes = attributesOf(list ?? "");
  const [key = "", seq, expires, signature = ""] = ["KEY", "SEQ", "EXPIRES", "SIG"].map((item) => attributes.get(item));
  if (name === null || !keys.includes(`ed25519:${key}`)) return "signature-invalid";
  const signed = text.slice(0, start);
  const head = new TextEncoder().encode(`marea-playlist-1\n${video}\n${name}\n${seq}\n${expires}\n`);
  const message = new Uint8Array(head.length + 32);
  message.set(head);
  message.set(hash(signed), head.length);
  const problem = await verify(key, signature, message);
  if (problem) return problem;
  const place = [key, video, name].join("\n");
  const seen = highest.get(place) ?? 0;
  if (!own && (Number(expires) <= Date.now() || Number(seq) < seen)) return "signature-invalid";
  highest.set(place, Math.max(seen, Number(seq)));
  return null;
}

/**
 * Checks the signature in the last line of an edge's answer (`docs/protocol.md` §5.1).
 * @param viewer Our description: its certificate is the one that the edge has signed for.
 * @returns Null if it fits; else nothing may be sent to whoever answered.
 */
export async function checkEdge(
  answer: string,
  viewer: string,
  { keys, video }: Pick<Expected, "keys" | "video">,
): Promise<Reason | null> {
  const [line = "", key = "", signature = ""] = /a=marea-edge:([\w-]+)\.([\w-]+)\r\n$/.exec(answer) ?? [];
  const [, hex = ""] = /^a=fingerprint:sha-256 ([\dA-F:]+)/im.exec(viewer) ?? [];
  if (!keys.includes(`ed25519:${key}`)) return "signature-invalid";
  const head = new TextEncoder().encode(`marea-edge-1\n${video}\n`);
  const rest = new TextEncoder().encode(answer.slice(0, -line.length));
  const fingerprint = hex.split(":").map((byte) => parseInt(byte, 16));
  return verify(key, signature, new Uint8Array([...head, ...fingerprint, ...rest]));
}

/** Null if `signature` is the one of `message` by `key`. */
async function verify(key: string, signature: string, message: Uint8Array<ArrayBuffer>): Promise<Reason | null> {
  let imported: CryptoKey;
  try {
    imported = await crypto.subtle.importKey("raw", bytes(key), "Ed25519", false, ["verify"]);
  } catch {
    // This browser has no Ed25519.
    return "insecure-page";
  }
  try {
    if (await crypto.subtle.verify("Ed25519", imported, bytes(signature), message)) return null;
  } catch {
    // It is no base64url.
  }
  return "signature-invalid";
}

/** @throws If it is no base64url. */
function bytes(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (char) => char.charCodeAt(0));
}
