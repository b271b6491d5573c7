// A test and everything it starts: taken down in reverse order whatever happens, reported on when something fails.

import { copyFile } from "node:fs/promises";
import { after, describe, test } from "node:test";
import { join } from "node:path";
import { launch, openViewer } from "./browser.mjs";
import { WrongBytes } from "./expect.mjs";
import { copyLadder } from "./media.mjs";
import { startNginx } from "./nginx.mjs";
import { startPageServer } from "./page-server.mjs";
import * as paths from "./paths.mjs";
import { run, start } from "./process.mjs";
import { cuttableProxy } from "./proxy.mjs";

/** @type {Promise<import("puppeteer-core").Browser> | null} */
let browser = null;
after(async () => {
  await (await browser)?.close();
  browser = null;
});

/**
 * A test with a bed. A browser on a busy machine misses a beat now and then, so a scenario that fails gets one more
 * attempt from scratch, said aloud; one that saw a wrong byte does not.
 * @param {string} name
 * @param {(bed: Bed) => Promise<void>} body
 * @param {{ timeout?: number, skip?: string | false }} [options]
 */
export function scenario(name, body, { timeout = 180_000, skip = false } = {}) {
  test(name, { timeout: 2 * timeout, skip }, async (t) => {
    /** @param {AbortSignal} signal */
    const attempt = async (signal) => {
      const bed = new Bed(t);
      try {
        await Promise.race([body(bed), late(signal)]);
      } catch (error) {
        console.log(await bed.report());
        throw error;
      } finally {
        await bed.close();
      }
    };
    try {
      await attempt(AbortSignal.timeout(timeout));
    } catch (error) {
      if (error instanceof WrongBytes) throw error;
      // Not silence: whoever reads the run sees it, the run's last line counts it, and it is a defect to be looked into.
      console.log(`SECOND ATTEMPT: ${name}: ${error instanceof Error ? error.stack : error}`);
      await attempt(AbortSignal.timeout(timeout));
    }
  });
}

/** @param {AbortSignal} signal @returns {Promise<never>} */
function late(signal) {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(new Error("the scenario took longer than its time")), { once: true });
  });
}

/**
 * Tests that run two at a time: one or two viewers each leave room for as many more on two cores.
 * @param {string} name
 * @param {() => void} body Declares scenarios.
 */
export function inPairs(name, body) {
  describe(name, { concurrency: 2 }, body);
}

export class Bed {
  /** @type {import("./browser.mjs").Viewer[]} */
  viewers = [];
  /** @type {import("./process.mjs").Program[]} */
  programs = [];
  /** @type {(() => unknown)[]} */
  #undo = [];
  /** @type {Awaited<ReturnType<typeof startPageServer>> | null} */
  #pages = null;

  /** @param {import("node:test").TestContext} t */
  constructor(t) {
    this.t = t;
  }

  /** Registers something to take down. @template T @param {T} thing @param {() => unknown} undo @returns {T} */
  keep(thing, undo) {
    this.#undo.push(undo);
    return thing;
  }

  /** A line of results below the test's name. @param {string} line */
  say(line) {
    this.t.diagnostic(line);
  }

  /** A copy of a ladder. @param {Parameters<typeof copyLadder>[0]} [options] */
  async media(options) {
    const media = await copyLadder(options);
    return this.keep(media, media.close);
  }

  /**
   * Starts a program.
   * @param {string} file
   * @param {string[]} args
   * @param {Parameters<typeof start>[2]} [options]
   */
  async program(file, args, options) {
    const program = await start(file, args, options);
    this.programs.push(program);
    return this.keep(program, () => program.stop());
  }

  /**
   * A seeder that serves these media.
   * @param {import("./media.mjs").Media} media
   * @param {{ listen?: string, args?: string[] }} [options]
   */
  async seeder(media, { listen = "127.0.0.1:0", args = [] } = {}) {
    const program = await this.program(paths.program("marea-seeder"), [
      "serve",
      "--root",
      media.root,
      "--listen",
      listen,
      ...args,
    ]);
    const origin = originOf(program);
    return { program, origin, video: `${origin}/videos/${media.name}/master.m3u8`, script: `${origin}/marea.js` };
  }

  /** Signaling by itself. @param {{ listen?: string, args?: string[] }} [options] */
  async signaling({ listen = "127.0.0.1:0", args = [] } = {}) {
    const program = await this.program(paths.program("marea-signaling"), ["--listen", listen, ...args]);
    const origin = originOf(program);
    return { program, origin, url: `${origin.replace("http", "ws")}/signal` };
  }

  /** Plain nginx over a folder. @param {string} root @param {string} [locations] */
  async nginx(root, locations) {
    const server = await startNginx(root, locations);
    this.programs.push(server.program);
    return this.keep(server, server.close);
  }

  /** Puts the engine's files beside the media, as a site that hosts them itself. @param {string} root @returns {Promise<string>} URL path of the script. */
  async engineInto(root) {
    for (const name of ["marea.js", "marea.wasm", "marea-hls.js"]) await copyFile(paths.engine(name), join(root, name));
    return "/marea.js";
  }

  /** Tags a folder for static hosts. @param {string} dir @param {string[]} [args] */
  async annotate(dir, args = []) {
    const { code, output } = await run(paths.program("marea-seeder"), ["annotate", dir, ...args]);
    if (code !== 0) throw new Error(`annotate ended with ${code}:\n${output}`);
    return output;
  }

  /** A line to a server that can be cut. @param {string} target */
  async proxy(target) {
    const proxy = await cuttableProxy(target);
    return this.keep(proxy, proxy.close);
  }

  async pages() {
    if (!this.#pages) {
      const pages = await startPageServer();
      this.#pages = this.keep(pages, pages.close);
    }
    return this.#pages;
  }

  /**
   * Opens a page as a new viewer.
   * @param {import("./page-server.mjs").Page} page
   * @param {Parameters<typeof openViewer>[2] & { browser?: import("puppeteer-core").Browser }} [options]
   */
  async viewer(page, { name = `viewer ${this.viewers.length + 1}`, ...options } = {}) {
    const url = (await this.pages()).add(page);
    const shared = options.browser ?? (await (browser ??= launch()));
    const viewer = await openViewer(shared, url, { ...options, name });
    this.viewers.push(viewer);
    return this.keep(viewer, () => viewer.close());
  }

  async report() {
    const parts = [];
    for (const viewer of this.viewers) parts.push(await viewer.report());
    for (const { name, lines } of this.programs)
      parts.push(`--- ${name}`, ...lines.slice(-40).map((line) => `    ${line}`));
    return parts.join("\n");
  }

  async close() {
    for (const undo of this.#undo.reverse()) {
      try {
        await undo();
      } catch (error) {
        console.log(`clean-up: ${error}`);
      }
    }
  }
}

/** @param {import("./process.mjs").Program} program */
export function originOf(program) {
  const found = /http:\/\/\S+/.exec(program.ready);
  if (!found) throw new Error(`${program.name} said no address: ${program.ready}`);
  return found[0].replace(/\/$/, "");
}
