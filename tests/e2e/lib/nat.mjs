// Two homes and a server on an internet of our own: network namespaces, each home behind a NAT as ordinary routers are
// (one outside port per inside port, and only answers are let in). The outside addresses are globally routable ones, so
// that browsers take them for what they stand for; they never leave the namespaces.

import { spawnSync } from "node:child_process";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as paths from "./paths.mjs";

/** Where the server is. */
export const SERVER = "203.0.114.10";
const HOMES = [
  { wan: "203.0.100.1", lan: "192.168.10" },
  { wan: "203.0.101.1", lan: "192.168.20" },
];

const PREFIX = "marea-test";
const name = (/** @type {string} */ part) => `${PREFIX}-${part}`;
const NAMES = ["inet", "srv", "r1", "r2", "c1", "c2"].map(name);

/** Why there can be no such network here, or false. */
export function natImpossible() {
  if (process.getuid?.() !== 0) return "network namespaces need root";
  for (const command of ["ip", "iptables"]) {
    if (spawnSync(command, ["-V"]).error) return `${command} is not installed (apt-get install iproute2 iptables)`;
  }
  const probe = name("probe");
  const made = spawnSync("ip", ["netns", "add", probe]);
  // Making one is not entering one: in a chroot the second fails.
  const entered = made.status === 0 ? spawnSync("ip", ["-n", probe, "link", "set", "lo", "up"]) : made;
  spawnSync("ip", ["netns", "del", probe]);
  return entered.status === 0 ? false : `network namespaces are not allowed here: ${entered.stderr}`.trim();
}

/** Makes the network. */
export async function startNat() {
  const remove = () => NAMES.forEach((one) => spawnSync("ip", ["netns", "del", one]));
  remove();
  const ip = (/** @type {string} */ words) => command("ip", words.split(" "));
  const within = (/** @type {string} */ where, /** @type {string} */ words) =>
    command("ip", ["netns", "exec", name(where), ...words.split(" ")]);
  for (const one of NAMES) {
    ip(`netns add ${one}`);
    ip(`-n ${one} link set lo up`);
  }
  const inet = name("inet");
  ip(`-n ${inet} link add br0 type bridge`);
  ip(`-n ${inet} link set br0 up`);
  // Else bridged frames pass through the host's firewall rules too.
  spawnSync("ip", ["netns", "exec", inet, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0"]);
  const connect = (/** @type {string} */ where, /** @type {string} */ address) => {
    ip(`link add wan0 netns ${name(where)} type veth peer name p-${where} netns ${inet}`);
    ip(`-n ${inet} link set p-${where} master br0 up`);
    ip(`-n ${name(where)} addr add ${address}/16 dev wan0`);
    ip(`-n ${name(where)} link set wan0 up`);
  };
  connect("srv", SERVER);
  for (const [index, { wan, lan }] of HOMES.entries()) {
    const [router, client] = [`r${index + 1}`, `c${index + 1}`];
    connect(router, wan);
    ip(`link add lan0 netns ${name(router)} type veth peer name eth0 netns ${name(client)}`);
    ip(`-n ${name(router)} addr add ${lan}.1/24 dev lan0`);
    ip(`-n ${name(router)} link set lan0 up`);
    ip(`-n ${name(client)} addr add ${lan}.2/24 dev eth0`);
    ip(`-n ${name(client)} link set eth0 up`);
    ip(`-n ${name(client)} route add default via ${lan}.1`);
    within(router, "sysctl -qw net.ipv4.ip_forward=1");
    // Without this drop the router itself answers the other side's first packet, and that answer takes the port.
    within(router, "iptables -A INPUT -i wan0 -m conntrack ! --ctstate ESTABLISHED,RELATED -j DROP");
    within(router, "iptables -P FORWARD DROP");
    within(router, "iptables -A FORWARD -i lan0 -o wan0 -j ACCEPT");
    within(router, "iptables -A FORWARD -i wan0 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT");
    within(router, "iptables -t nat -A POSTROUTING -o wan0 -j MASQUERADE");
  }
  const dir = await mkdtemp(join(tmpdir(), "marea-nat-"));
  const chromium = [];
  for (const client of ["c1", "c2"]) {
    const script = join(dir, client);
    await writeFile(script, `#!/bin/sh\nexec ip netns exec ${name(client)} ${paths.chromium} "$@"\n`);
    await chmod(script, 0o755);
    chromium.push(script);
  }
  return {
    /** Chromium within each home. */
    chromium,
    /** `ip` arguments that run a command at the server's place. @param {string} file @param {string[]} args */
    atServer: (file, args) => ["netns", "exec", name("srv"), file, ...args],
    async close() {
      remove();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** @param {string} file @param {string[]} args */
function command(file, args) {
  const done = spawnSync(file, args, { encoding: "utf8" });
  if (done.status !== 0) throw new Error(`${file} ${args.join(" ")}: ${done.error?.message ?? done.stderr}`);
}
