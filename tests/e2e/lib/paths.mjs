// Where things are. All of it is made by `cargo xtask`; nothing is built here.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const repo = resolve(dirname(fileURLToPath(import.meta.url)), "../../..");

/** Where `cargo` and `cargo xtask` put what they make. */
export const target = process.env.CARGO_TARGET_DIR ? resolve(process.env.CARGO_TARGET_DIR) : join(repo, "target");

/** Path of a program of this workspace. @param {string} name */
export function program(name) {
  return mustExist(join(target, "debug", name), `cargo build -p ${packageOf(name)}`);
}

/** Folder of a test ladder. @param {string} name */
export function ladder(name) {
  return mustExist(join(target, "media", name), "cargo xtask media");
}

/** One of the three files of the engine. @param {string} name */
export function engine(name) {
  return mustExist(join(target, "engine", name), "cargo xtask build");
}

/** The Chromium to test with. */
export const chromium = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** The nginx to test with. */
export const nginx = process.env.NGINX ?? "/usr/sbin/nginx";

/** Debian's Redis. */
export const redis = process.env.REDIS_SERVER ?? "/usr/bin/redis-server";

/** hls.js as a page of its own would load it. */
export function hlsScript() {
  return join(dirname(createRequire(import.meta.url).resolve("hls.js")), "hls.min.js");
}

/** @param {string} name */
function packageOf(name) {
  return name === "marea-peer" ? "marea-tests" : name;
}

/** @param {string} path @param {string} command */
function mustExist(path, command) {
  if (!existsSync(path)) throw new Error(`${path} is missing; make it with: ${command}`);
  return path;
}
