import { at, expect, REFUSED, settled, test } from "./page";
import { collection, hostile, post } from "./server";

const QUESTION = "who founded the Debian project?";

test("a search begins in its field, and its address finds the same again", async ({ page, context }) => {
  await page.goto(at("search", { collection }));
  await expect(page.getByRole("searchbox", { name: "Search" })).toBeFocused();
  await page.keyboard.type(QUESTION);
  await page.keyboard.press("Enter");
  await expect(page.locator(".hit").first()).toBeVisible();
  await settled(page);
  expect(new URL(page.url()).searchParams.get("q")).toBe(QUESTION);
  await expect(page.getByRole("status")).toHaveText(/result/);

  const titles = await page.locator(".hit h2").allTextContents();
  const other = await context.newPage();
  await other.goto(page.url());
  await expect(other.locator(".hit h2")).toHaveText(titles);
  await expect(other.getByRole("searchbox")).toHaveValue(QUESTION);
});

test("the marked sentence is the server's best, and its link opens the document there", async ({ page }) => {
  const request = { query: { text: QUESTION }, include_highlights: true, limit: 10 };
  const found = await (await post(`collections/${collection}/search`, request)).json();
  const { passage, highlights } = found.hits[0];
  const bytes = Buffer.from(passage.text);
  const sentence = bytes.subarray(highlights[0].span.start, highlights[0].span.end).toString();

  await page.goto(at("search", { collection, q: QUESTION }));
  const hit = page.locator(".hit").first();
  await expect(hit.locator("mark")).toHaveText(sentence);
  await hit.getByRole("heading").getByRole("link").click();
  await expect(page).toHaveURL(/\/ui\/document\?/);
  await expect(page.locator(".text mark").first()).toBeInViewport();
  const marked = await page.locator(".text mark").allTextContents();
  expect(marked.join("").replace(/\s+/g, " ")).toBe(sentence.replace(/\s+/g, " "));
});

test("the way back leads to the results that were there", async ({ page }) => {
  await page.goto(at("search", { collection, q: QUESTION }));
  await settled(page);
  const link = page.locator(".hit h2 a").nth(6);
  await link.scrollIntoViewIfNeeded();
  const before = await page.evaluate(() => scrollY);
  expect(before).toBeGreaterThan(0);
  await link.click();
  await expect(page.locator(".text")).toBeVisible();
  await page.goBack();
  await settled(page);
  await expect.poll(() => page.evaluate(() => scrollY)).toBe(before);
});

test("units and modes are chosen, kept in the address and sent", async ({ page }) => {
  await page.goto(at("search", { collection, q: QUESTION }));
  await settled(page);
  const sent = page.waitForRequest(/\/search$/);
  await page.getByText("Sentences", { exact: true }).click();
  expect((await sent).postDataJSON()).toMatchObject({ unit: "SEARCH_UNIT_SENTENCE", mode: "SEARCH_MODE_VECTOR" });
  await settled(page);
  await expect(page.getByRole("radio", { name: "Words" })).toBeDisabled();
  await expect(page).toHaveURL(/unit=sentence/);

  await page.getByText("Documents", { exact: true }).click();
  await page.getByText("Words", { exact: true }).click();
  await settled(page);
  await expect(page).toHaveURL(/unit=document&mode=keyword/);
  const ids = await page.locator(".hit .id").allTextContents();
  expect(new Set(ids).size).toBe(ids.length);
});

test("more results, more like this, and conditions on metadata", async ({ page }) => {
  await page.goto(at("search", { collection, q: "git" }));
  await settled(page);
  await expect(page.locator(".hit")).toHaveCount(10);
  await page.getByRole("button", { name: "More results" }).click();
  await expect(page.locator(".hit")).toHaveCount(20);

  await page.locator(".hit").first().getByRole("link", { name: "More like this" }).click();
  await settled(page);
  await expect(page.locator(".conditions")).toContainText("like passage");
  await expect(page.locator(".hit").first()).toBeVisible();
  await page.getByRole("link", { name: /No longer like/ }).click();
  await expect(page.locator(".conditions")).toHaveCount(0);

  const facet = { documents: [{ id: "facet", text: "A heron waits by the weir.", metadata: { colour: { string_value: "grey=blue" } } }] };
  await post(`collections/${collection}/documents`, facet);
  await page.goto(at("search", { collection, q: "heron" }));
  await page.getByRole("link", { name: "colour: grey=blue" }).click();
  await settled(page);
  await expect(page.locator(".hit")).toHaveCount(1);
  await expect(page.locator(".conditions")).toContainText("colour: grey=blue");
});

test("a document's own results are like the whole document", async ({ page }) => {
  const sent = page.waitForRequest(/\/search$/);
  await page.goto(at("search", { collection, like: "text/gitfaq.txt" }));
  expect((await sent).postDataJSON().query).toEqual({ document_id: "text/gitfaq.txt" });
  await expect(page.locator(".hit").first()).toBeVisible();
});

test("the search as curl gives what the page shows", async ({ page, context }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.goto(at("search", { collection, q: "it's a \"test\"" }));
  await settled(page);
  await page.getByRole("button", { name: "Copy as curl" }).click();
  await expect(page.getByRole("button", { name: "Copied" })).toBeVisible();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  expect(copied).toContain(`/api/v1/collections/${collection}/search'`);
  expect(copied).toContain(`"query":{"text":"it'\\''s a \\"test\\""}`);
});

test("without a clipboard the text is shown to be copied", async ({ page }) => {
  await page.addInitScript(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
  await page.goto(at("search", { collection, q: "git" }));
  await settled(page);
  await page.getByRole("button", { name: "Copy as curl" }).click();
  await expect(page.getByRole("dialog").getByRole("textbox")).toHaveValue(/^curl/);
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog")).toHaveCount(0);
});

test("markup in texts, titles and ids is shown as text", async ({ page }) => {
  await page.goto(at("search", { collection, q: "when did the walrus dance?" }));
  const hit = page.locator(".hit").first();
  await expect(hit.getByRole("heading")).toHaveText(hostile.title);
  await expect(hit).toContainText("<script>alert('the walrus danced')</script>");
  await expect(hit.locator(".id")).toHaveText(hostile.id);
  await hit.getByRole("heading").getByRole("link").click();
  await expect(page.getByRole("heading", { level: 1 })).toHaveText(hostile.title);
  await expect(page.locator(".text")).toContainText("<script>alert('the walrus danced')</script>");
  await expect(page.locator("main :is(script, img, b)")).toHaveCount(0);
});

test("nothing found, and a collection that is not there", async ({ page }) => {
  await page.goto(at("search", { collection, q: "qqqzzzxxy", mode: "keyword" }));
  await expect(page.locator(".results-head")).toContainText("Nothing found");
  await page.goto(at("search", { collection: "not-there" }));
  await expect(page.locator("main")).toContainText("There is no collection “not-there”");
});

test.describe("refused", () => {
  test.use({ allowed: REFUSED });

  test("an error is shown with its message and reason", async ({ page }) => {
    await page.goto(at("search", { collection: "not-there", q: "anything" }));
    await expect(page.getByRole("alert")).toContainText("UNKNOWN_COLLECTION");
    await expect(page.getByRole("alert")).toContainText("not-there");
  });

  test("a server that is gone is told", async ({ page }) => {
    await page.goto(at("search", { collection }));
    await page.route(/\/search$/, (route) => route.abort());
    await page.getByRole("searchbox").fill("anything");
    await page.keyboard.press("Enter");
    await expect(page.getByRole("alert")).toContainText("cannot be reached");
  });
});
