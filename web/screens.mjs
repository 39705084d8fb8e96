// Takes the pictures of docs/screens from a server (TROVE_URL) that has demo/ as its collection "demo".
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { chromium } from "@playwright/test";

const base = process.env.TROVE_URL ?? "http://127.0.0.1:7700";
const folder = fileURLToPath(new URL("../docs/screens/", import.meta.url));
const executablePath = process.env.TROVE_CHROMIUM ?? (existsSync("/usr/bin/chromium") ? "/usr/bin/chromium" : undefined);

const at = (screen, params = {}) => `${base}/ui/${screen}?${new URLSearchParams({ collection: "demo", ...params })}`;
const SCREENS = {
  search: at("search", { q: "how do I undo the last commit?" }),
  ask: at("ask", { q: "who founded Debian, and when?", answer: "quoted" }),
  refused: at("ask", { q: "how hot is the surface of Venus?" }),
  document: at("document", { id: "demo/html/controlflow.html" }),
  collections: at("collections"),
  collection: at("collection"),
  add: at("add"),
  status: at("status"),
};
const SIZES = [
  { suffix: "", width: 1440, height: 800, colorScheme: "light" },
  { suffix: "-phone-dark", width: 360, height: 720, colorScheme: "dark" },
];

await mkdir(folder, { recursive: true });
const browser = await chromium.launch({ ...(executablePath ? { executablePath } : {}), args: ["--no-sandbox"] });
for (const { suffix, width, height, colorScheme } of SIZES) {
  const page = await browser.newPage({ viewport: { width, height }, colorScheme, locale: "en-GB", timezoneId: "UTC" });
  for (const [name, address] of Object.entries(SCREENS)) {
    await page.goto(address);
    await page.waitForFunction(() => document.querySelector("main > *") && !document.querySelector(".busy, [aria-busy=true]"));
    await page.screenshot({ path: `${folder}${name}${suffix}.png` });
  }
  await page.close();
}
await browser.close();
