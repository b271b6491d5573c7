// Browsers gather no WebRTC candidates on a machine that has only a loopback interface (a container without network).

import { networkInterfaces } from "node:os";
import { readFileSync } from "node:fs";
import { spawnSync } from "node:child_process";

/** Whether a browser here can gather candidates: an interface beside loopback that is up, and a default route. */
export function hasRoutedInterface() {
  const outside = Object.values(networkInterfaces())
    .flat()
    .some((address) => address && !address.internal && address.family === "IPv4");
  if (!outside) return false;
  try {
    // Destination and mask 00000000: the default route.
    return readFileSync("/proc/net/route", "utf8")
      .split("\n")
      .slice(1)
      .some((line) => line.split("\t")[1] === "00000000");
  } catch {
    return false;
  }
}

/** Arguments of `unshare` for a network namespace. */
export const UNSHARE = process.getuid?.() === 0 ? ["--net"] : ["--user", "--map-root-user", "--net"];

/** Whether a namespace may be made here. */
export function mayUnshare() {
  return spawnSync("unshare", [...UNSHARE, "true"]).status === 0;
}

/** A veth pair with both ends here, an address and a default route: enough for candidates. */
const SETUP = `
ip link set lo up
ip link add marea0 type veth peer name marea1
ip addr add 10.9.9.1/24 dev marea0
ip link set marea0 up
ip link set marea1 up
ip route add default dev marea0
exec "$@"
`;

/**
 * Runs this Node program again inside a network namespace of its own that has a routed interface.
 * @param {string[]} argv Arguments of `node`.
 * @returns {number} Its exit code.
 */
export function runInNamespace(argv) {
  if (!mayUnshare()) {
    throw new Error(
      "no network interface beside loopback, and no namespace may be made here: browsers cannot connect. " +
        "Run as root, or give this machine a network interface with a default route.",
    );
  }
  const env = { ...process.env, MAREA_E2E_NAMESPACE: "1" };
  const done = spawnSync("unshare", [...UNSHARE, "sh", "-ec", SETUP, "sh", process.execPath, ...argv], {
    stdio: "inherit",
    env,
  });
  return done.status ?? 1;
}
