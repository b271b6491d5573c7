// Everybody whose session this page can ask: itself, its small viewers, and the windows it opened. Each is polled for
// `stats()`; the differences become transfers from one place to another.

/** Bytes of one piece. */
export const PIECE = 65_536;

/** Ticks for which a guess about a peer id has to stand before it is believed. */
const SURE = 3;

/**
 * @typedef {import("../../engine-wasm/web/src/types.js").SessionStats} Stats
 * @typedef {EventTarget & { stats(): Stats }} Session
 *
 * @typedef {object} Transfer
 * @property {string} from Name of a watcher, `SERVER`, or the peer id of somebody else.
 * @property {string} to Name of a watcher.
 * @property {number} bytes
 */

/** Where HTTP comes from. */
export const SERVER = "server";

/** One player. */
export class Watcher {
  /**
   * @param {string} name Unique, for `Transfer`.
   * @param {string} label For people.
   * @param {string} color A custom property of the style sheet.
   * @param {() => Window | null} view The window that it plays in.
   */
  constructor(name, label, color, view) {
    this.name = name;
    this.label = label;
    this.color = color;
    this.view = view;
    /** Its peer id, once known. @type {string | null} */
    this.peer = null;
    /** @type {Stats | null} */
    this.stats = null;
    /** Bytes by sender: `SERVER` or a peer id. @type {Map<string, number>} */
    this.from = new Map();
    /** @type {{ id: string, ticks: number } | null} */
    this.guess = null;
  }

  /** @returns {Session | null} */
  get session() {
    try {
      const marea = /** @type {{ Marea?: { sessions: Iterable<Session> } } | null} */ (
        /** @type {unknown} */ (this.view())
      )?.Marea;
      for (const session of marea?.sessions ?? []) return session;
      return null;
    } catch {
      return null; // a window that went elsewhere
    }
  }

  /** Bytes that came from everybody. */
  get total() {
    const bytes = this.stats?.bytes;
    return bytes ? bytes.http + bytes.viewers + bytes.mirrors + bytes.edge : 0;
  }

  /** Bytes that no server sent. */
  get shared() {
    const bytes = this.stats?.bytes;
    return bytes ? bytes.viewers + bytes.mirrors : 0;
  }

  /** Peer ids that it is connected to. */
  get open() {
    return new Set((this.stats?.peers ?? []).filter((peer) => peer.state === "open").map((peer) => peer.id));
  }
}

/** All watchers, and what moved between them. */
export class Watchers {
  constructor() {
    /** @type {Watcher[]} */
    this.all = [];
    /** Bytes that viewers who have left were spared the server. */
    this.savedBefore = 0;
  }

  /** @param {Watcher} watcher */
  add(watcher) {
    this.all.push(watcher);
  }

  /** @param {Watcher} watcher */
  remove(watcher) {
    this.savedBefore += watcher.shared;
    this.all = this.all.filter((other) => other !== watcher);
  }

  /** Bytes that the server did not have to send to anybody. */
  get saved() {
    return this.all.reduce((sum, watcher) => sum + watcher.shared, this.savedBefore);
  }

  /** Asks everybody. @returns {Transfer[]} What moved since the last time. */
  poll() {
    /** @type {Transfer[]} */
    const transfers = [];
    for (const watcher of this.all) {
      const stats = watcher.session?.stats();
      if (!stats) continue;
      watcher.stats = stats;
      const server = stats.bytes.http + stats.bytes.edge;
      move(watcher, SERVER, server, transfers);
      for (const peer of stats.peers) move(watcher, peer.id, peer.pieces * PIECE, transfers);
    }
    this.identify();
    return transfers.map((transfer) => ({ ...transfer, from: this.byPeer(transfer.from)?.name ?? transfer.from }));
  }

  /** @param {string} peer */
  byPeer(peer) {
    return this.all.find((watcher) => watcher.peer === peer);
  }

  /** Peer ids that are none of ours: viewers in windows that this page did not open. */
  get strangers() {
    const ids = new Set(this.all.flatMap((watcher) => [...watcher.open]));
    const unknown = [...ids].filter((id) => !this.byPeer(id));
    // Somebody of ours who is not identified yet must not be shown twice.
    const unnamed = this.all.filter((watcher) => watcher.open.size > 0 && !watcher.peer).length;
    return unknown.slice(unnamed);
  }

  /** A session does not say its own peer id. In a mesh it is the one that others see and it does not. */
  identify() {
    const seen = new Set(this.all.flatMap((watcher) => [...watcher.open]));
    for (const watcher of this.all) {
      const open = watcher.open;
      if (watcher.peer && (open.has(watcher.peer) || !seen.has(watcher.peer))) watcher.peer = null;
      if (watcher.peer || open.size === 0) continue;
      const others = this.all.filter((other) => other !== watcher);
      const candidates = [...seen].filter(
        (id) => !open.has(id) && !this.byPeer(id) && others.some((other) => other.open.has(id)),
      );
      const id = candidates.length === 1 ? candidates[0] : undefined;
      if (id === undefined) watcher.guess = null;
      else if (watcher.guess?.id !== id) watcher.guess = { id, ticks: 1 };
      else if (++watcher.guess.ticks >= SURE) watcher.peer = id;
    }
  }
}

/**
 * @param {Watcher} watcher
 * @param {string} from
 * @param {number} bytes So far.
 * @param {Transfer[]} transfers
 */
function move(watcher, from, bytes, transfers) {
  const before = watcher.from.get(from) ?? 0;
  if (bytes > before) {
    transfers.push({ from, to: watcher.name, bytes: bytes - before });
    watcher.from.set(from, bytes);
  }
}
