/** The viewer's word: what was chosen, remembered per site, and what it means together with the page's. */

import type { Options } from "./options.js";

/** `yes` and `no` were said; `seen`: the notice was shown and nothing was said against it. */
type Choice = "yes" | "no" | "seen";

const KEY = "marea-consent";

let choice: Choice | null | undefined;
const listeners = new Set<() => void>();

/** What is remembered for this site. */
export function remembered(): Choice | null {
  if (choice !== undefined) return choice;
  let stored: string | null = null;
  try {
    stored = localStorage.getItem(KEY);
  } catch {
    // Storage is forbidden: then it is asked on each page.
  }
  choice = stored === "yes" || stored === "no" || stored === "seen" ? stored : null;
  return choice;
}

/** Remembers the viewer's choice and tells every session of the page. */
export function remember(next: Choice): void {
  if (next === remembered()) return;
  choice = next;
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // It holds for this page then.
  }
  for (const listener of [...listeners]) listener();
}

/** Calls back when the choice changes. Returns what ends it. */
export function watchConsent(changed: () => void): () => void {
  listeners.add(changed);
  return () => listeners.delete(changed);
}

/** Whether this viewer may share: the strictest of page and viewer wins. */
export function consent(p2p: Options["p2p"]): "granted" | "consent-pending" | "consent-refused" | "off" {
  if (p2p === "off") return "off";
  if (remembered() === "no") return "consent-refused";
  if (remembered() === "yes") return "granted";
  const gpc = (navigator as { globalPrivacyControl?: boolean }).globalPrivacyControl === true;
  const mode = p2p ?? (inForeignFrame() ? "ask" : "on");
  return mode === "ask" || gpc ? "consent-pending" : "granted";
}

function inForeignFrame(): boolean {
  try {
    return window.top !== window && window.top?.location.origin !== location.origin;
  } catch {
    return true;
  }
}
