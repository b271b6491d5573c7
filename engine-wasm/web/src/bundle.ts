/** Loads `marea-hls.js`, once, when something needs it. */

import type Hls from "hls.js";
import type { Session } from "./session.js";
import { scriptUrl } from "./urls.js";

/** What is in it. */
export interface Bundle {
  /** The pinned hls.js, for plain `<video>` elements. */
  Hls: typeof Hls;
  /** `data-stats="overlay"`. */
  showOverlay(session: Session): void;
}

/** Where it leaves its contents: the global `Hls` is the page's. */
const PLACE = Symbol.for("marea.hls");

const globals = globalThis as unknown as Record<symbol, Bundle | undefined>;

/** Called by the bundle itself. */
export function publish(bundle: Bundle): void {
  globals[PLACE] = bundle;
}

let loading: Promise<Bundle> | undefined;

/** Its contents. Rejects if the script cannot be loaded; the next call tries again. */
export function loadBundle(): Promise<Bundle> {
  loading ??= load().catch((error: unknown) => {
    loading = undefined;
    throw error;
  });
  return loading;
}

const own = (typeof document === "object" && document.currentScript) || null;

function load(): Promise<Bundle> {
  return new Promise((resolve, reject) => {
    const present = globals[PLACE];
    if (present) return resolve(present);
    if (!scriptUrl) return reject(new Error("the URL of marea-hls.js is unknown"));
    const url = new URL("marea-hls.js", scriptUrl).href;
    const script = document.createElement("script");
    if (own instanceof HTMLScriptElement) {
      script.nonce = own.nonce;
      if (own.crossOrigin !== null) script.crossOrigin = own.crossOrigin;
    }
    script.onload = () => {
      const bundle = globals[PLACE];
      if (bundle) resolve(bundle);
      else reject(new Error(`${url} is not what it should be`));
    };
    script.onerror = () => reject(new Error(`${url} could not be loaded`));
    script.src = trusted(url);
    document.head.append(script);
  });
}

type Policy = { createScriptURL(url: string): string };
let policy: Policy | undefined;

/** Under Trusted Types a script's URL needs a policy: ours allows this one URL. */
function trusted(url: string): string {
  type Factory = { createPolicy(name: string, rules: Policy): Policy };
  const factory = (window as { trustedTypes?: Factory }).trustedTypes;
  try {
    // A policy's name can be used once.
    policy ??= factory?.createPolicy("marea", { createScriptURL: () => url });
    return policy?.createScriptURL(url) ?? url;
  } catch {
    // The page does not list the policy: it may have a default one.
    return url;
  }
}
