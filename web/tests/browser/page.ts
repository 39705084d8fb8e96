// A page whose console must stay empty, and what tests do with it.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test as base, expect, type Page } from "@playwright/test";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** The browser itself reports requests that were refused; tests of refusals allow that. */
export const REFUSED = /Failed to load resource/;

interface Options {
  /** Messages that may come. */
  allowed: RegExp | undefined;
  /** Whether the session has the server's key from the start, where it wants one. */
  withKey: boolean;
}

export const test = base.extend<Options>({
  allowed: [undefined, { option: true }],
  withKey: [true, { option: true }],
  page: async ({ page, allowed, withKey }, use) => {
    const messages: string[] = [];
    page.on("console", (message) => messages.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => messages.push(`error: ${error.message}`));
    page.on("dialog", (dialog) => {
      messages.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    const key = process.env.TROVE_API_KEY;
    if (key && withKey) await page.context().addInitScript((value) => sessionStorage.setItem("trove-api-key", value), key);
    await use(page);
    expect(messages.filter((message) => !allowed?.test(message))).toEqual([]);
  },
});

export { expect };

/** The address of a screen. */
export function at(screen: string, params: Record<string, string> = {}): string {
  return `/ui/${screen}?${new URLSearchParams(params)}`;
}

/** Waits until nothing is being loaded. */
export async function settled(page: Page) {
  await expect(page.locator("main > *").first()).toBeAttached();
  await expect(page.locator(".busy, [aria-busy=true]")).toHaveCount(0, { timeout: 60_000 });
}

/** What axe-core finds, a line each. */
export async function findings(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  return page.evaluate(async () => {
    const { violations } = await (window as unknown as { axe: typeof import("axe-core") }).axe.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    });
    return violations.flatMap((one) => one.nodes.map((node) => `${one.id}: ${node.target.join(" ")}: ${node.failureSummary}`));
  });
}
