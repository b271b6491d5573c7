// What runs in Chromium for `cargo xtask bench webrtc`; each function is sent into a page, so none may use anything outside of it.

/** A page that sends: answers offers with as many 16 KiB messages as the channel takes. */
export function sendingPage() {
  const [message, high, low] = [new Uint8Array(16 * 1024).fill(0x5a), 256 * 1024, 64 * 1024];
  /** @type {RTCPeerConnection[]} */
  const connections = [];
  const page = /** @type {any} */ (globalThis);
  page.answer = async (/** @type {string} */ offer) => {
    const connection = new RTCPeerConnection();
    connections.push(connection);
    connection.ondatachannel = ({ channel }) => {
      const fill = () => {
        while (channel.readyState === "open" && channel.bufferedAmount < high) channel.send(message);
      };
      channel.bufferedAmountLowThreshold = low;
      channel.onbufferedamountlow = fill;
      channel.onmessage = fill;
    };
    await connection.setRemoteDescription({ type: "offer", sdp: offer });
    await connection.setLocalDescription();
    while (connection.iceGatheringState !== "complete") await new Promise((resolve) => setTimeout(resolve, 10));
    return connection.localDescription?.sdp;
  };
}

/** A page that receives, raw messages or pieces of a Marea peer (`docs/protocol.md` §6). */
export function receivingPage() {
  const page = /** @type {any} */ (globalThis);
  const REQUESTS = 2;
  const connection = new RTCPeerConnection();
  /** @type {RTCDataChannel[]} */
  let channels = [];
  let pieces = 0;
  page.bytes = 0;
  page.open = false;

  const marea = () => {
    /** @type {Uint8Array[]} */
    const objects = [];
    let [proven, going, made] = [false, false, 0];
    /** Bytes that open requests miss. @type {Map<number, number>} */
    const open = new Map();
    const [control, data] = channels;
    const ask = () => {
      while (proven && going && objects.length > 0 && open.size < REQUESTS) {
        const request = new DataView(new ArrayBuffer(28));
        made += 1;
        request.setUint32(0, (9 << 24) | 24);
        request.setUint32(4, made);
        new Uint8Array(request.buffer).set(objects[made % objects.length], 8);
        request.setUint32(16, 0);
        request.setUint32(20, pieces);
        request.setUint32(24, 600_000);
        open.set(made, pieces * 65_536);
        control.send(request);
      }
    };
    control.onmessage = ({ data: bytes }) => {
      const message = new Uint8Array(bytes);
      if (message[0] === 1) page.open = proven = true;
      if (message[0] === 3) objects.push(message.slice(4, 12));
      if (message[0] === 14 && message[8] === 0) {
        message[8] = 1;
        control.send(message);
      }
      ask();
    };
    data.onmessage = ({ data: bytes }) => {
      const id = new DataView(bytes).getUint32(4);
      const left = (open.get(id) ?? 0) - (bytes.byteLength - 24);
      if (left > 0) open.set(id, left);
      else open.delete(id);
      page.bytes += bytes.byteLength - 24;
      ask();
    };
    page.go = () => {
      going = true;
      ask();
    };
    page.hello = async (/** @type {number[]} */ hello) => {
      while (channels.some(({ readyState }) => readyState !== "open")) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      control.send(new Uint8Array(hello));
    };
  };

  const raw = () => {
    const [channel] = channels;
    channel.onopen = () => (page.open = true);
    channel.onmessage = ({ data }) => (page.bytes += data.byteLength);
    page.go = () => channel.send("go");
  };

  page.offer = async (/** @type {number | null} */ objectPieces) => {
    if (objectPieces !== null) {
      pieces = objectPieces;
      const [control, data] = [
        { id: 0, ordered: true },
        { id: 1, ordered: false },
      ];
      channels = [
        connection.createDataChannel("control", { negotiated: true, ...control }),
        connection.createDataChannel("data", { negotiated: true, ...data }),
      ];
      marea();
    } else {
      channels = [connection.createDataChannel("data", { ordered: false })];
      raw();
    }
    for (const channel of channels) channel.binaryType = "arraybuffer";
    await connection.setLocalDescription();
    while (connection.iceGatheringState !== "complete") await new Promise((resolve) => setTimeout(resolve, 10));
    return connection.localDescription?.sdp;
  };
  page.answered = (/** @type {string} */ sdp) => connection.setRemoteDescription({ type: "answer", sdp });
}
