import { existsSync } from "node:fs";
import { defineConfig } from "@playwright/test";

// Tests of the page in a browser, against a server that runs already: TROVE_URL. They make a collection of their own
// and delete it. The browser is Debian's, or the one that TROVE_CHROMIUM names, or Playwright's own.
const chromium = process.env.TROVE_CHROMIUM ?? (existsSync("/usr/bin/chromium") ? "/usr/bin/chromium" : undefined);

export default defineConfig({
  testDir: "browser",
  outputDir: "../test-results/browser",
  reporter: "line",
  globalSetup: "./browser/setup.ts",
  globalTeardown: "./browser/teardown.ts",
  workers: 1,
  timeout: 90_000,
  expect: { timeout: 30_000 },
  forbidOnly: Boolean(process.env.CI),
  use: {
    baseURL: process.env.TROVE_URL ?? "http://127.0.0.1:7700",
    locale: "en-GB",
    timezoneId: "UTC",
    viewport: { width: 1440, height: 900 },
    trace: "retain-on-failure",
    launchOptions: { ...(chromium ? { executablePath: chromium } : {}), args: ["--no-sandbox"] },
  },
});
