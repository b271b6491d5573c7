/** Loads `marea-hls.js`, once, when the first plain `<video>` needs it. */

import type Hls from "hls.js";
import { scriptUrl } from "./urls.js";

/** Where `marea-hls.js` leaves its class: not at `window.Hls`, which is the page's. */
export const BUNDLED_HLS = Symbol.for("marea.hls");

type HlsClass = typeof Hls;

let loading: Promise<HlsClass> | undefined;

/** The class of our own hls.js. Rejects if the script cannot be loaded; the next call tries again. */
export function loadHls(): Promise<HlsClass> {
  loading ??= load().catch((error: unknown) => {
    loading = undefined;
    throw error;
  });
  return loading;
}

const own = (typeof document === "object" && document.currentScript) || null;

function load(): Promise<HlsClass> {
  const bundled = (): HlsClass | undefined => (globalThis as unknown as Record<symbol, HlsClass>)[BUNDLED_HLS];
  return new Promise((resolve, reject) => {
    const present = bundled();
    if (present) return resolve(present);
    if (!scriptUrl) return reject(new Error("the URL of marea-hls.js is unknown"));
    const url = new URL("marea-hls.js", scriptUrl).href;
    const script = document.createElement("script");
    if (own instanceof HTMLScriptElement) {
      script.nonce = own.nonce;
      if (own.crossOrigin !== null) script.crossOrigin = own.crossOrigin;
    }
    script.onload = () => {
      const hls = bundled();
      if (hls) resolve(hls);
      else reject(new Error(`${url} is not what it should be`));
    };
    script.onerror = () => reject(new Error(`${url} could not be loaded`));
    script.src = trusted(url);
    document.head.append(script);
  });
}

/** Under Trusted Types a script's URL needs a policy: ours allows this one URL. */
function trusted(url: string): string {
  type Policy = { createScriptURL(url: string): string };
  type Factory = { createPolicy(name: string, rules: Policy): Policy };
  const factory = (window as { trustedTypes?: Factory }).trustedTypes;
  try {
    return factory ? factory.createPolicy("marea", { createScriptURL: () => url }).createScriptURL(url) : url;
  } catch {
    // The page does not list the policy: it may have a default one.
    return url;
  }
}
