// Checks the core's golden vectors in Chromium: `node xtask/vectors.mjs FOLDER`, where FOLDER holds an engine that was
// built with `self-test`.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const folder = process.argv[2];
if (!folder) throw new Error("usage: node xtask/vectors.mjs FOLDER");

const types = { ".js": "text/javascript", ".wasm": "application/wasm" };
const server = createServer(async (request, response) => {
  const name = new URL(request.url, "http://localhost").pathname.slice(1);
  const type = Object.entries(types).find(([ending]) => name.endsWith(ending))?.[1];
  if (!type) return response.setHeader("Content-Type", "text/html").end("<!doctype html><title>vectors</title>");
  try {
    response.setHeader("Content-Type", type).end(await readFile(join(folder, name)));
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  pipe: true,
  headless: true,
  args: ["--no-sandbox"],
});
try {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  const difference = await page.evaluate(async () => {
    const engine = await import("/marea_engine.js");
    await engine.default("/marea_engine_bg.wasm");
    return engine.selfTest();
  });
  if (difference !== "") throw new Error(`the wasm core differs from its golden vectors: ${difference}`);
  console.log("golden vectors hold on wasm32 in", await browser.version());
} finally {
  await browser.close();
  server.close();
}
