/** Loads `marea.wasm`, once per page. */

import init, { Engine, announceId, hash } from "#engine";
import { HostError } from "./host-types.js";
import { scriptUrl } from "./urls.js";

/** SRI of the `marea.wasm` that was built beside this script; empty in a development build. */
declare const __MAREA_WASM_SRI__: string;

/** The exports of the core that a host uses. */
export interface Core {
  Engine: typeof Engine;
  announceId: typeof announceId;
  hash: typeof hash;
}

/** The smallest module there is: magic number and version. Only a policy can refuse it. */
const EMPTY_MODULE = new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);

let configured: string | undefined;
let loading: Promise<Core> | undefined;

/** Where `marea.wasm` is, if not beside the script. Must be called before the first host is started. */
export function setWasmUrl(url: string): void {
  configured = url;
}

/**
 * The core, ready for use.
 * @throws HostError `csp` if a policy forbids wasm or its loading, `no-wasm` if there is none, it cannot be loaded, or
 * it has trapped before.
 */
export function loadCore(): Promise<Core> {
  // A lost connection must not switch the page off for good, so only success is remembered.
  loading ??= load().catch((error: unknown) => {
    loading = undefined;
    throw error;
  });
  return loading;
}

/** A trap leaves wasm memory in an unknown state: no host of this page may use it again. */
export function condemnCore(message: string): void {
  loading = Promise.reject(new HostError("no-wasm", message));
  loading.catch(() => {});
}

async function load(): Promise<Core> {
  if (typeof WebAssembly !== "object") throw new HostError("no-wasm", "this browser has no WebAssembly");
  try {
    new WebAssembly.Module(EMPTY_MODULE);
  } catch (error) {
    throw new HostError("csp", `the page's policy forbids WebAssembly (script-src needs 'wasm-unsafe-eval'): ${error}`);
  }
  const url = configured ?? (scriptUrl && new URL("marea.wasm", scriptUrl).href);
  if (!url) throw new HostError("no-wasm", "the URL of marea.wasm is unknown: set wasmUrl");

  let blocked = false;
  const onviolation = (event: SecurityPolicyViolationEvent): void => {
    // Across origins, some browsers report only the origin.
    if (event.effectiveDirective === "connect-src" && event.blockedURI && url.startsWith(event.blockedURI)) {
      blocked = true;
    }
  };
  document.addEventListener("securitypolicyviolation", onviolation);
  try {
    const response = await fetch(url, { integrity: __MAREA_WASM_SRI__, credentials: "same-origin" });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    await init({ module_or_path: response });
  } catch (error) {
    // The violation is reported by a task of its own.
    await new Promise((resolve) => setTimeout(resolve, 0));
    if (blocked) throw new HostError("csp", `the page's policy forbids loading ${url} (connect-src)`);
    throw new HostError("no-wasm", `${url} could not be loaded: ${error}`);
  } finally {
    document.removeEventListener("securitypolicyviolation", onviolation);
  }
  return { Engine, announceId, hash };
}
