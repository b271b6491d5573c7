/** When the viewer's device or connection is not to be used: for anything at all, or for upload. */

import { isPhone } from "./options.js";

/** A viewer who has not looked or played for this long gives nothing any more, in ms. */
const AWAY_MS = 60_000;

/** Below this charge, and not plugged in, nothing is uploaded. */
const LOW_BATTERY = 0.3;

interface Connection extends EventTarget {
  saveData?: boolean;
  type?: string;
}

interface Battery {
  level: number;
  charging: boolean;
}

let battery: Battery | null = null;
let asked = false;

function connection(): Connection | undefined {
  return (navigator as { connection?: Connection }).connection;
}

/** The viewer saves data, or pays for it, or may on a phone: plain HTTP only. */
export function isMetered(): boolean {
  const network = connection();
  if (network?.saveData) return true;
  if (!isPhone()) return false;
  // An unknown network on a phone is taken for a metered one.
  return network?.type !== "wifi" && network?.type !== "ethernet";
}

/** Calls back when the connection changes. Returns what ends it. */
export function watchConnection(changed: () => void): () => void {
  const network = connection();
  network?.addEventListener?.("change", changed);
  return () => network?.removeEventListener?.("change", changed);
}

/** Whether the battery is too low for uploads; false until the browser has said it, or if it never does. */
export function isBatteryLow(): boolean {
  if (!asked) {
    asked = true;
    const ask = (navigator as { getBattery?: () => Promise<Battery> }).getBattery;
    // Some policies let it throw at once.
    void Promise.resolve()
      .then(() => ask?.call(navigator))
      .then((given) => (battery = given ?? null))
      .catch(() => {});
  }
  return battery !== null && !battery.charging && battery.level < LOW_BATTERY;
}

/** Tells when a viewer has been away (hidden or paused) for long. */
export class Presence {
  private awaySince = 0;

  /** Ask at least every few seconds. */
  isAway(video: HTMLVideoElement, now: number): boolean {
    const away = document.visibilityState === "hidden" || video.paused;
    if (!away) this.awaySince = 0;
    else this.awaySince ||= now;
    return away && now - this.awaySince >= AWAY_MS;
  }
}
