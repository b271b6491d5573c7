// The demo's page: adds viewers, asks everybody's session what happened, and shows it.

import { Film } from "./film.js";
import { Flow } from "./flow.js";
import { SERVER, Watcher, Watchers } from "./watchers.js";

/** How often sessions are asked, in ms. */
const POLL_MS = 500;

/** Viewers that are there from the start, so that there is something to see. */
const FIRST_VIEWERS = 2;

/** Players that one machine decodes without trouble. */
const MOST_VIEWERS = 6;

/** Colours of viewers, by their order. */
const COLORS = 6;

/** @param {string} id @returns {HTMLElement} */
function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html lacks #${id}`);
  return element;
}

const video = /** @type {HTMLVideoElement} */ (byId("video"));
const film = new Film(byId("film"), video);
const watchers = new Watchers();
const flow = new Flow(/** @type {HTMLCanvasElement} */ (byId("flow")), watchers);
const addButton = /** @type {HTMLButtonElement} */ (byId("add"));
const me = new Watcher("you", "You", "--you", () => window);
let added = 0;

/** @param {() => Window | null} view */
function newWatcher(view) {
  added += 1;
  const watcher = new Watcher(`viewer-${added}`, `Viewer ${added}`, `--viewer-${((added - 1) % COLORS) + 1}`, view);
  watchers.add(watcher);
  return watcher;
}

/** A small viewer in this page. */
function addViewer() {
  const tile = document.createElement("li");
  tile.className = "tile";
  const frame = document.createElement("iframe");
  frame.src = "/viewer.html";
  frame.allow = "autoplay";
  const watcher = newWatcher(() => frame.contentWindow);
  frame.title = watcher.label;
  tile.style.setProperty("--color", `var(${watcher.color})`);
  const name = document.createElement("span");
  name.className = "name";
  name.textContent = watcher.label;
  const share = document.createElement("span");
  share.className = "share";
  const leave = document.createElement("button");
  leave.type = "button";
  leave.className = "leave";
  leave.textContent = "leave";
  leave.setAttribute("aria-label", `${watcher.label} leaves`);
  leave.addEventListener("click", () => {
    watchers.remove(watcher);
    shares.delete(watcher);
    tile.remove();
    update();
  });
  tile.append(frame, name, share, leave);
  byId("tiles").insertBefore(tile, addButton.parentElement);
  shares.set(watcher, share);
  update();
}

/** Texts that show a viewer's own share. @type {Map<Watcher, HTMLElement>} */
const shares = new Map();

/** A viewer in a window of its own. */
function openWindow() {
  const opened = window.open("/viewer.html", "_blank", "popup,width=560,height=340");
  if (!opened) return;
  const watcher = newWatcher(() => (opened.closed ? null : opened));
  const timer = setInterval(() => {
    if (!opened.closed) return;
    clearInterval(timer);
    watchers.remove(watcher);
  }, 1000);
}

/** @param {Watcher} watcher */
function percent(watcher) {
  return watcher.total > 0 ? Math.round((100 * watcher.shared) / watcher.total) : 0;
}

/** Who sent my video, as one bar and a list of names. */
function showSources() {
  const total = [...me.from.values()].reduce((sum, bytes) => sum + bytes, 0);
  const parts = [{ label: "Server", color: "--server", bytes: me.from.get(SERVER) ?? 0 }];
  let others = 0;
  for (const [peer, bytes] of me.from) {
    if (peer === SERVER) continue;
    const watcher = watchers.byPeer(peer) ?? former.get(peer);
    if (!watcher) others += bytes;
    else {
      former.set(peer, watcher);
      parts.push({ label: watcher.label, color: watcher.color, bytes });
    }
  }
  if (others > 0) parts.push({ label: "Other viewers", color: "--stranger", bytes: others });
  /** @type {HTMLElement[]} */
  const bars = [];
  /** @type {HTMLElement[]} */
  const names = [];
  for (const { label, color, bytes } of parts) {
    if (bytes === 0) continue;
    const bar = document.createElement("i");
    bar.style.setProperty("--color", `var(${color})`);
    bar.style.flexGrow = String(bytes);
    bars.push(bar);
    const name = document.createElement("li");
    name.style.setProperty("--color", `var(${color})`);
    name.textContent = `${label} ${Math.round((100 * bytes) / total)} %`;
    names.push(name);
  }
  byId("sources").replaceChildren(...bars);
  byId("names").replaceChildren(...names);
}

/** Whose a peer id was, after they left. @type {Map<string, Watcher>} */
const former = new Map();

/** Says what is missing, if anything is. */
function showState() {
  const stats = me.stats;
  const trouble = stats && ["off", "asking", "waiting"].includes(stats.state);
  const text = trouble
    ? `This player is not sharing: ${stats.reasons.join(", ") || stats.state}.`
    : "Each dot is one piece of video, 64 KiB, checked on arrival.";
  const status = byId("status");
  if (status.textContent !== text) status.textContent = text;
}

/** @type {Session | null} */
let heard = null;

/** @typedef {import("./watchers.js").Session} Session */

function update() {
  const transfers = watchers.poll();
  const session = me.session;
  if (session && session !== heard) {
    heard = session;
    session.addEventListener("segment", (event) => film.arrived(/** @type {CustomEvent} */ (event).detail));
  }
  flow.moved(transfers);
  film.update();
  byId("share").textContent = String(percent(me));
  byId("saved").textContent = (watchers.saved / 1e6).toFixed(1);
  flow.level = me.total > 0 ? me.shared / me.total : 0;
  for (const [watcher, share] of shares) {
    const { state } = watcher.stats ?? { state: "joining" };
    share.textContent = watcher.total > 0 ? `${percent(watcher)} % shared` : state;
  }
  addButton.disabled = shares.size >= MOST_VIEWERS;
  showSources();
  showState();
}

watchers.add(me);
for (let number = 0; number < FIRST_VIEWERS; number += 1) addViewer();
addButton.addEventListener("click", addViewer);
byId("window").addEventListener("click", openWindow);
setInterval(update, POLL_MS);
// `autoplay` would let the browser load the playlist by itself before marea.js has taken over.
video.play().catch(() => {
  // Not allowed here: the viewer has to press play.
});
