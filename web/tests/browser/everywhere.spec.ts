// What holds for every screen: widths, colours, accessibility, keyboard, motion, policy.
import { at, expect, findings, settled, test } from "./page";
import { collection, hostile } from "./server";

const SCREENS: Record<string, string> = {
  "search, fresh": at("search", { collection }),
  search: at("search", { collection, q: "who founded Debian?", filter: "extension=pdf" }),
  "search with odd names": at("search", { collection, q: "walrus" }),
  ask: at("ask", { collection, q: "who founded Debian?", answer: "quoted" }),
  "ask, refused": at("ask", { collection, q: "how hot is the surface of Venus?" }),
  document: at("document", { collection, id: "text/gitfaq.txt", start: "8400", end: "8440" }),
  "document with pages": at("document", { collection, id: "pdf/project-history.en.pdf" }),
  "document with odd names": at("document", { collection, id: hostile.id }),
  collections: at("collections"),
  collection: at("collection", { collection }),
  add: at("add", { collection }),
  status: at("status"),
  "no such page": at("nowhere"),
};

for (const width of [360, 1440]) {
  for (const colorScheme of ["light", "dark"] as const) {
    test.describe(`${width} pixels, ${colorScheme}`, () => {
      test.use({ viewport: { width, height: 900 }, colorScheme });
      for (const [name, address] of Object.entries(SCREENS)) {
        test(name, async ({ page }) => {
          await page.goto(address);
          await settled(page);
          expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
          expect(await findings(page)).toEqual([]);
          await expect(page.locator("[style]")).toHaveCount(0);
        });
      }
      test("dialogs", async ({ page }) => {
        await page.goto(at("collections"));
        await page.getByRole("button", { name: "New collection" }).click();
        expect(await findings(page)).toEqual([]);
        await page.keyboard.press("Escape");
        await page.getByRole("button", { name: `Delete ${collection}` }).click();
        expect(await findings(page)).toEqual([]);
        expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
      });
    });
  }
}

test("by keyboard alone: skip link, screens, options, a hit, and every stop can be seen", async ({ page }) => {
  await page.goto(at("search", { collection, q: "who founded Debian?" }));
  await settled(page);
  await page.getByRole("link", { name: "Trove" }).focus();
  await page.keyboard.press("Shift+Tab");
  await expect(page.getByRole("link", { name: "Skip to the content" })).toBeFocused();
  await expect(page.getByRole("link", { name: "Skip to the content" })).toBeInViewport();

  const stops: string[] = [];
  for (let step = 0; step < 30; step += 1) {
    await page.keyboard.press("Tab");
    const stop = await page.evaluate(() => {
      const element = document.activeElement as HTMLElement;
      if (element === document.body) return undefined;
      // A radio is drawn by the label behind it.
      const drawn = element.matches("[type=radio]") ? (element.nextElementSibling as HTMLElement) : element;
      const style = getComputedStyle(drawn);
      const text = element.getAttribute("aria-label") ?? element.innerText ?? "";
      return { name: text || (element as HTMLInputElement).value || element.tagName, seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 };
    });
    if (!stop) break;
    expect(stop.seen, `the focus on ${stop.name}`).toBe(true);
    stops.push(stop.name);
  }
  expect(stops.slice(0, 11).map((name) => name.trim())).toEqual([
    "Trove", "Search", "Ask", "Collections", "Add", "Status", "Search", "Search", "Collection", "passage", "hybrid",
  ]);

  await page.getByRole("radio", { name: "Passages" }).focus();
  await page.keyboard.press("ArrowRight");
  await expect(page.getByRole("radio", { name: "Sentences" })).toBeFocused();
  await expect(page).toHaveURL(/unit=sentence/);
  await settled(page);
  await page.locator(".hit h2 a").first().focus();
  await page.keyboard.press("Enter");
  await expect(page.locator(".text mark").first()).toBeInViewport();
  await expect(page.getByRole("heading", { level: 1 })).toBeFocused();
});

test("a link of the page opens in another tab when that is asked for", async ({ page, context }) => {
  await page.goto(at("search", { collection }));
  const opened = context.waitForEvent("page");
  await page.getByRole("link", { name: "Status" }).click({ modifiers: ["ControlOrMeta"] });
  await (await opened).waitForURL(/\/ui\/status/);
  await expect(page).toHaveURL(/\/ui\/search/);
});

test.describe("without motion", () => {
  test.use({ contextOptions: { reducedMotion: "reduce" } });
  test("nothing moves", async ({ page }) => {
    await page.route(/\/search$/, () => undefined);
    await page.goto(at("search", { collection, q: "waiting" }));
    await expect(page.locator(".busy")).toHaveText("Searching");
    expect(await page.evaluate(() => document.getAnimations().length)).toBe(0);
  });
});

test("the server's policy forbids scripts, styles and connections from elsewhere, and the page keeps to it", async ({ page }) => {
  const response = await page.goto(at("search", { collection }));
  const policy = response?.headers()["content-security-policy"] ?? "";
  for (const part of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"]) {
    expect(policy).toContain(part);
  }
  const hosts = new Set<string>();
  page.on("request", (request) => hosts.add(new URL(request.url()).host));
  await page.reload();
  await settled(page);
  expect([...hosts]).toEqual([new URL(page.url()).host]);
});

test("the status names the server, its models and its limits", async ({ page }) => {
  await page.goto(at("status"));
  await expect(page.getByRole("region", { name: "Server" })).toContainText(/\d+\.\d+\.\d+/);
  await expect(page.getByRole("region", { name: "Models" })).toContainText("encoder");
  await expect(page.getByRole("region", { name: "Limits" })).toContainText("MiB");
});
