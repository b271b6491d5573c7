/** Options: their defaults with the reason of each, and how they are read from attributes and from JavaScript. */

import type { MareaOptions } from "./types.js";

/** Options as the engine uses them. */
export interface Options {
  signaling: string[];
  /** Undefined if the page did not say: then it is `on`, but `ask` in a cross-origin frame. */
  p2p: "on" | "ask" | "off" | undefined;
  minViewers: number;
  /** Bits per second; null: the core's own rule. */
  uploadLimit: number | null;
  maxUploadRatio: number | null;
  memoryLimit: number;
  publicKey: string[];
  mirrors: string[];
  token: (() => Promise<string | null>) | null;
  sha256Url: string | null;
  iceServers: RTCIceServer[] | null;
  p2pPeers: "all" | "edge";
  webkit: boolean;
  stats: "overlay" | null;
  videoId: string | null;
  wasmUrl: string | null;
}

/** Every default of the page's side. */
export const DEFAULTS: Readonly<Options> = {
  // None: the playlist's tag, its server or the script's server says it.
  signaling: [],
  p2p: undefined,
  // One alone has nobody to share with, and need not tell a server where the others would be reached.
  minViewers: 2,
  // The core's rule: at most 10 Mbit/s and half of the measured uplink; calls and games come first.
  uploadLimit: null,
  // The core's rule: 2 bytes for each received, so that nobody carries the swarm alone.
  maxUploadRatio: null,
  // Some minutes of HD. Phones kill pages that hold more than a few hundred MB.
  memoryLimit: isPhone() ? 96e6 : 256e6,
  publicKey: [],
  // None: only who pins a key can check what they give.
  mirrors: [],
  token: null,
  sha256Url: null,
  // Null: what signaling names, which is its own STUN. No third party learns of the viewer.
  iceServers: null,
  p2pPeers: "all",
  // WebKit's own player is better there: AirPlay, picture in picture, battery.
  webkit: false,
  stats: null,
  videoId: null,
  wasmUrl: null,
};

/** Whether this is a phone or tablet, as far as the browser says. */
export function isPhone(): boolean {
  if (typeof navigator !== "object") return false;
  const data = (navigator as { userAgentData?: { mobile: boolean } }).userAgentData;
  return data?.mobile ?? /Mobi|Android/.test(navigator.userAgent ?? "");
}

/** How one option is read. `undefined` means that the value is not allowed. */
interface Rule<T> {
  read(value: unknown): T | undefined;
  allowed: string;
}

const words = <T extends string>(...all: T[]): Rule<T> => ({
  read: (value) => all.find((word) => word === value),
  allowed: all.map((word) => `"${word}"`).join(", "),
});

const number = (allowed: string, fits: (value: number) => boolean): Rule<number> => ({
  read: (value) => {
    const read = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
    return typeof read === "number" && fits(read) ? read : undefined;
  },
  allowed,
});

/** Numbers with a unit; `scales` by lower-case suffix. */
const quantity = (allowed: string, scales: Record<string, number>): Rule<number> => ({
  read: (value) => {
    if (typeof value === "number") return value >= 0 && Number.isFinite(value) ? value : undefined;
    const [, digits, unit = ""] = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(String(value)) ?? [];
    const scale = scales[unit.toLowerCase()];
    return digits === undefined || scale === undefined ? undefined : Number(digits) * scale;
  },
  allowed,
});

const list = (allowed: string, fits: (item: string) => boolean): Rule<string[]> => ({
  read: (value) => {
    const items = (Array.isArray(value) ? value : String(value).split(/[\s,]+/)).filter((item) => item !== "");
    return items.length > 0 && items.every((item) => typeof item === "string" && fits(item)) ? items : undefined;
  },
  allowed,
});

const text = (allowed: string): Rule<string> => ({
  read: (value) => (typeof value === "string" && value !== "" ? value : undefined),
  allowed,
});

const RULES: { [Name in keyof Options]: Rule<NonNullable<Options[Name]>> } = {
  signaling: list("one or more ws: or wss: URLs", (url) => /^wss?:\/\/./.test(url)),
  p2p: words("on", "ask", "off"),
  minViewers: number("a whole number from 1", (value) => Number.isInteger(value) && value >= 1),
  uploadLimit: quantity('bits per second, such as "5mbps" or 5000000', {
    "": 1,
    bps: 1,
    kbps: 1e3,
    mbps: 1e6,
    gbps: 1e9,
  }),
  maxUploadRatio: number("a number from 0", (value) => value >= 0),
  memoryLimit: quantity('bytes, such as "256mb" or 256000000', { "": 1, b: 1, kb: 1e3, mb: 1e6, gb: 1e9 }),
  publicKey: list("ed25519:<base64url>, several by comma", (key) => /^ed25519:[\w-]{43}$/.test(key)),
  mirrors: list("one or more http: or https: URLs", (url) => /^https?:\/\/./.test(url)),
  token: {
    read: (value) => {
      if (typeof value === "string" && value !== "") return async () => value;
      return typeof value === "function"
        ? async () => (value as () => string | null | Promise<string | null>)()
        : undefined;
    },
    allowed: "a token, or in JavaScript a function that returns one",
  },
  sha256Url: text("a URL"),
  iceServers: {
    read: (value) => {
      const servers: unknown = typeof value === "string" ? parseJson(value) : value;
      const fits = (server: unknown): boolean => typeof server === "object" && server !== null && "urls" in server;
      return Array.isArray(servers) && servers.every(fits) ? (servers as RTCIceServer[]) : undefined;
    },
    allowed: 'JSON such as [{"urls":"stun:stun.example:3478"}], or [] for none',
  },
  p2pPeers: words("all", "edge"),
  webkit: {
    read: (value) =>
      value === true || value === "" || value === "true"
        ? true
        : value === false || value === "false"
          ? false
          : undefined,
    allowed: "true or false",
  },
  stats: words("overlay"),
  videoId: text("a name of the video"),
  wasmUrl: text("a URL"),
};

/** Options that a page may set only once, not per video; and the other way round. */
const NOT_ON_VIDEO = ["wasmUrl"];
const NOT_ON_SCRIPT = ["videoId"];

function parseJson(value: string): unknown {
  try {
    return JSON.parse(value) as unknown;
  } catch {
    return undefined;
  }
}

type Names = (keyof Options)[];
const NAMES = Object.keys(RULES) as Names;

/** Options in JavaScript. What is wrong is told on the console and left out. */
export function readOptions(given: MareaOptions, from = "options"): Partial<Options> {
  const read: Partial<Options> = {};
  for (const name of Object.keys(given)) {
    const value = (given as Record<string, unknown>)[name];
    if (value === undefined) continue;
    const rule = (RULES as Record<string, Rule<unknown> | undefined>)[name];
    if (!rule) console.warn(`marea: ${from}: there is no option "${name}"`);
    else assign(read, name, rule, value, `${from}: ${name}`);
  }
  return read;
}

/** Options of an element: `data-…` of the `<script>`, `data-marea-…` of a `<video>`. */
export function readAttributes(element: Element, kind: "script" | "video"): Partial<Options> {
  const read: Partial<Options> = {};
  const skip = kind === "video" ? NOT_ON_VIDEO : NOT_ON_SCRIPT;
  for (const name of NAMES) {
    const attribute = `data-${kind === "video" ? "marea-" : ""}${dashed(name)}`;
    const value = element.getAttribute(attribute);
    if (value !== null && !skip.includes(name)) assign(read, name, RULES[name], value, attribute);
  }
  return read;
}

function assign(into: Partial<Options>, name: string, rule: Rule<unknown>, value: unknown, where: string): void {
  const read = rule.read(value);
  if (read !== undefined) (into as Record<string, unknown>)[name] = read;
  else console.warn(`marea: ${where}: ${JSON.stringify(String(value))} is not allowed. Allowed: ${rule.allowed}`);
}

/** `sha256Url` is `sha256-url`, `p2pPeers` is `p2p-peers`. */
function dashed(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** What the `<script>` says; filled once, when the script runs. */
export const pageOptions: Partial<Options> = {};
