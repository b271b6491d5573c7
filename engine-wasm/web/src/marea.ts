/**
 * Marea: viewers of an HLS video carry it to each other. The script tag `<script src="…/marea.js" defer>` takes over
 * plain `<video>` elements and every hls.js of the page; `import { attach } from "marea"` does so for one player.
 * Importing it outside of a browser does nothing.
 */

import { remember } from "./consent.js";
import { loadBundle } from "./bundle.js";
import { attachHls, isHls, watchGlobal } from "./hlsjs.js";
import { showNotice } from "./notice.js";
import { pageOptions, readAttributes, readOptions } from "./options.js";
import { onsession, Session, sessions as allSessions } from "./session.js";
import { attachVideo, installTakeover } from "./takeover.js";
import type { MareaOptions } from "./types.js";
import { setWasmUrl } from "./wasm.js";

export type { Session } from "./session.js";
export type * from "./types.js";
export type { Reason } from "./reasons.js";

declare const __MAREA_VERSION__: string;

/** The version of this script. */
export const version: string = __MAREA_VERSION__;

/** Sessions of this page, oldest first. */
export const sessions: readonly Session[] = allSessions;

/**
 * Shares what a player plays: a `<video>` or an hls.js instance, before or after it has its source. The same player gives
 * the same session, with the options added. Never throws for a stream it cannot help: `session.reasons` says why.
 */
export function attach(player: HTMLVideoElement | object, options: MareaOptions = {}): Session {
  const read = readOptions(options);
  usePageWide(read);
  if (isHls(player)) return attachHls(player, read);
  if (typeof HTMLVideoElement === "function" && player instanceof HTMLVideoElement) return attachVideo(player, read);
  console.warn("marea: attach() takes a <video> or an hls.js instance, not", player);
  return new Session({ ...read, p2p: "off" });
}

/** The viewer's word, remembered for this site, for pages with a switch of their own. */
export function setConsent(share: boolean): void {
  remember(share ? "yes" : "no");
}

function usePageWide({ wasmUrl }: { wasmUrl?: string | null }): void {
  if (wasmUrl) setWasmUrl(new URL(wasmUrl, document.baseURI).href);
}

/** The figures over the player are for who sets up a site: nobody else loads them. */
function overlayIfWanted(session: Session): void {
  const look = (): void => {
    if (session.options.stats !== "overlay" || !session.video) return;
    session.removeEventListener("state", look);
    loadBundle().then(
      ({ showOverlay }) => showOverlay(session),
      (error: unknown) => console.warn("marea: no figures over the player:", error),
    );
  };
  session.addEventListener("state", look);
}

/** The script tag's start; an import does nothing before `attach`. */
function run(script: HTMLScriptElement): void {
  if ("Marea" in window) return console.warn("marea: the script is on this page twice; the first one serves");
  Object.assign(pageOptions, readAttributes(script, "script"));
  usePageWide(pageOptions);
  (window as unknown as Record<string, unknown>).Marea = { attach, sessions, setConsent, version };
  watchGlobal();
  installTakeover();
}

if (typeof document === "object") {
  onsession.push(showNotice, overlayIfWanted);
  addEventListener("pagehide", () => allSessions.forEach((session) => session.suspend()));
  addEventListener("pageshow", ({ persisted }) => persisted && allSessions.forEach((session) => session.resume()));
  const script = document.currentScript;
  // Only the script tag's build has no `import.meta`.
  if (import.meta.url === undefined && script instanceof HTMLScriptElement) run(script);
}
