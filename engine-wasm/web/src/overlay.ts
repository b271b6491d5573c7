/** `data-stats="overlay"`: a few figures over the player, for who sets up a site. */

import { element, Layer } from "./layer.js";
import { explain } from "./reasons.js";
import type { Session } from "./session.js";

const CSS = `
pre {
  position: absolute; left: 10px; bottom: 60px; margin: 0; padding: 8px 12px; max-width: calc(100% - 20px);
  border-radius: 8px; background: rgb(14 22 28 / .8); color: #fff; font: 11px/1.5 ui-monospace, monospace; white-space: pre-wrap;
}
`;

/** Shows figures over the session's player while its option says so. */
export function showOverlay(session: Session): void {
  let layer: Layer | undefined;
  const panel = element("pre", "");
  const look = (): void => {
    const { video, state } = session;
    const wanted = video !== null && state !== "stopped" && session.options.stats === "overlay";
    if (!wanted) {
      layer?.remove();
      layer = undefined;
      return;
    }
    if (!layer) {
      layer = new Layer(video, CSS);
      layer.root.append(panel);
    }
    layer.follow();
    panel.textContent = describe(session);
  };
  session.addEventListener("state", look);
  session.addEventListener("stats", look);
  look();
}

function describe(session: Session): string {
  const { state, reasons, bytes, peers, playback, integrity } = session.stats();
  const mb = (count: number): string => `${(count / 1e6).toFixed(1)} MB`;
  const all = bytes.http + bytes.viewers + bytes.mirrors + bytes.edge;
  const share = all > 0 ? Math.round((100 * (bytes.viewers + bytes.mirrors)) / all) : 0;
  const open = peers.filter((peer) => peer.state === "open");
  return [
    `${state}, ${open.length} connected`,
    `${share} % from viewers: ${mb(bytes.viewers)} viewers, ${mb(bytes.mirrors)} mirrors, ${mb(bytes.http + bytes.edge)} server`,
    `${mb(bytes.uploaded)} given, ${mb(bytes.wasted)} wasted, ${integrity.rejected} pieces rejected`,
    `start ${Math.round(playback.startupMs)} ms, ${playback.stalls} stalls, buffer ${(playback.bufferMs / 1000).toFixed(1)} s`,
    ...reasons.map((reason) => `${reason}: ${explain(reason)}`),
  ].join("\n");
}
