import { at, expect, REFUSED, settled, test } from "./page";
import { collection } from "./server";

const own = process.env.TROVE_API_KEY;

test.use({ allowed: REFUSED, withKey: false });

test("the server's own key opens it", async ({ page }) => {
  test.skip(!own, "the server wants no key");
  await page.goto(at("search", { collection, q: "git" }));
  await page.getByRole("dialog").getByLabel("API key").fill("trove_wrong");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("dialog")).toContainText("This key was not accepted");
  await page.getByRole("dialog").getByLabel("API key").fill(own ?? "");
  await page.keyboard.press("Enter");
  await expect(page.locator(".hit").first()).toBeVisible();
});

test("a key is asked for once, kept in the session, and asked for again when it is refused", async ({ page, context }) => {
  test.skip(Boolean(own), "the server has keys of its own");
  let accepted = "right";
  await page.route(/\/api\/v1\//, (route) => {
    if (route.request().headers()["authorization"] === `Bearer ${accepted}`) return route.continue();
    return route.fulfill({ status: 401, json: { error: { code: "API_KEY_INVALID", message: "the API key is not known" } } });
  });
  await page.goto(at("search", { collection, q: "git" }));
  const dialog = page.getByRole("dialog");
  await expect(dialog).toHaveCount(1);
  await expect(dialog.getByLabel("API key")).toBeFocused();
  await page.keyboard.type("wrong");
  await page.keyboard.press("Enter");
  await expect(dialog).toContainText("The API key is not known", { ignoreCase: true });
  await dialog.getByLabel("API key").fill("right");
  await page.keyboard.press("Enter");
  await expect(page.locator(".hit").first()).toBeVisible();
  await expect(dialog).toHaveCount(0);

  await page.reload();
  await settled(page);
  await expect(page.locator(".hit").first()).toBeVisible();
  expect(await page.evaluate(() => [localStorage.length, sessionStorage.length])).toEqual([0, 1]);
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.getByRole("button", { name: "Copy as curl" }).click();
  await expect(page.getByRole("button", { name: "Copied" })).toBeVisible();
  expect(await page.evaluate(() => navigator.clipboard.readText())).not.toContain("right");

  accepted = "newer";
  await page.getByRole("searchbox").fill("another");
  await page.keyboard.press("Enter");
  await expect(dialog).toContainText("This key was not accepted");
  await page.keyboard.press("Escape");
  await expect(page.getByRole("alert")).toContainText("API_KEY_INVALID");

  accepted = "right";
  await page.goto(at("status"));
  await page.getByRole("button", { name: "Forget the key" }).click();
  expect(await page.evaluate(() => sessionStorage.length)).toBe(0);
});

test("a file that is added asks for the key too", async ({ page }) => {
  test.skip(Boolean(own), "the server has keys of its own");
  await page.goto(at("add", { collection }));
  await settled(page);
  await page.route(/\/files$/, (route) =>
    route.request().headers()["authorization"] ? route.continue() : route.fulfill({ status: 401, json: { error: { code: "API_KEY_MISSING", message: "expected an API key" } } }),
  );
  await page.getByLabel("Files", { exact: true }).last().setInputFiles({ name: "key.txt", mimeType: "text/plain", buffer: Buffer.from("Keys open doors.") });
  await page.getByRole("dialog").getByLabel("API key").fill("any");
  await page.keyboard.press("Enter");
  await expect(page.locator(".job.indexed")).toContainText("key.txt");
});
