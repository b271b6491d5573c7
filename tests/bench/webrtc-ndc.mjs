// A sender over node-datachannel (libdatachannel): as many 16 KiB messages as its channels take. Driven like `marea-webrtc send`.
// Its package's folder is the one argument.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const MESSAGE = 16 * 1024;

/** Bytes that lie in a channel before it waits, and of which it goes on; the library sets no bound. */
const HIGH = 256 * 1024;
const LOW = 64 * 1024;

const { PeerConnection } = createRequire(`${process.argv[2]}/`)("node-datachannel");

/** Connections live as long as somebody holds them. @type {any[]} */
const held = [];

/** @param {any} channel */
function serve(channel) {
  held.push(channel);
  const message = Buffer.alloc(MESSAGE, 0x5a);
  const fill = () => {
    while (channel.isOpen() && channel.bufferedAmount() < HIGH) channel.sendMessageBinary(message);
  };
  channel.setBufferedAmountLowThreshold(LOW);
  channel.onBufferedAmountLow(fill);
  channel.onMessage(fill);
}

createInterface({ input: process.stdin }).on("line", (line) => {
  const { id, address, offer } = JSON.parse(line);
  const connection = new PeerConnection(`receiver ${id}`, { iceServers: [], bindAddress: address });
  held.push(connection);
  connection.onDataChannel(serve);
  connection.onGatheringStateChange((/** @type {string} */ state) => {
    if (state !== "complete") return;
    process.stdout.write(`${JSON.stringify({ id, answer: connection.localDescription()?.sdp })}\n`);
  });
  connection.setRemoteDescription(offer, "offer");
});
