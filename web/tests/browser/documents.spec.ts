import { at, expect, REFUSED, settled, test } from "./page";
import { api, collection, hostile, made, post } from "./server";

test("a span of bytes is marked, whatever characters stand before it", async ({ page }) => {
  const sentence = "The walrus danced in Zürich on Tuesday.";
  const start = Buffer.byteLength(hostile.text.slice(0, hostile.text.indexOf(sentence)));
  const end = start + Buffer.byteLength(sentence);
  await page.goto(at("document", { collection, id: hostile.id, start: String(start), end: String(end) }));
  await expect(page.locator(".text mark")).toHaveText(sentence);
  await expect(page.locator(".text mark")).toBeInViewport();
});

test("spans that lie nowhere mark nothing and break nothing", async ({ page }) => {
  for (const [start, end] of [["99999999", "99999999999"], ["-4", "x"], ["50", "10"], ["", ""]]) {
    await page.goto(at("document", { collection, id: hostile.id, start: start ?? "", end: end ?? "" }));
    await expect(page.locator(".text")).toContainText("walrus");
    await expect(page.locator(".text mark")).toHaveCount(0);
  }
});

test("a document has its headings, pages and metadata", async ({ page }) => {
  await page.goto(at("document", { collection, id: "text/gitfaq.txt" }));
  await expect(page.locator(".text h3", { hasText: "Credentials" })).toBeVisible();
  const contents = page.getByRole("navigation", { name: "Headings" });
  for (let times = 0; times < 2; times += 1) {
    await contents.getByRole("link", { name: "Hooks" }).click();
    await expect(page.locator(".text h3", { hasText: "Hooks" })).toBeInViewport();
    await page.evaluate(() => scrollTo(0, 0));
  }
  await page.locator(".facts summary").click();
  await expect(page.locator(".facts dl")).toContainText("text/plain");

  await page.goto(at("document", { collection, id: "pdf/project-history.en.pdf" }));
  await expect(page.locator(".page-break").nth(1)).toHaveText("Page 2");
});

test("the whole text is shown, each part once", async ({ page }) => {
  const id = "text/gitfaq.txt";
  const { document } = await (await api(`collections/${collection}/documents/${encodeURIComponent(id)}`)).json();
  await page.goto(at("document", { collection, id }));
  await settled(page);
  const shown = (await page.locator(".text > :not(.page-break)").allTextContents()).join("\n");
  const bare = (text: string) => text.replace(/^[-=~^]+$/gm, "").replace(/\s+/g, "");
  expect(bare(shown)).toBe(bare(document.text));
});

test("a document is deleted after a question", async ({ page }) => {
  await post(`collections/${collection}/documents`, { documents: [{ id: "gone", title: "To go", text: "A kestrel hovers." }] });
  await page.goto(at("document", { collection, id: "gone" }));
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("button", { name: "Keep it" }).click();
  await expect(page.getByRole("dialog")).toHaveCount(0);
  await expect(page.getByRole("button", { name: "Delete" })).toBeFocused();
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await expect(page).toHaveURL(/\/ui\/collection\?/);
  expect((await api(`collections/${collection}/documents/gone`)).status).toBe(404);
});

test("collections are listed with their counts, opened, and their documents read", async ({ page }) => {
  await page.goto(at("collections"));
  const card = page.locator(".card", { hasText: collection });
  await expect(card.locator("dd").first()).toHaveText(/^\d+$/);
  await card.getByRole("heading").getByRole("link").click();
  await expect(page.getByRole("heading", { level: 1 })).toHaveText(collection);
  await page.getByRole("link", { name: /Appetite|Whetting/ }).click();
  await expect(page.locator(".text")).toContainText("Python");
});

test.describe("made and deleted", () => {
  test.use({ allowed: REFUSED });

  test("a collection is made, told to be empty, and deleted by its name", async ({ page }) => {
    await page.goto(at("collections"));
    await page.getByRole("button", { name: "New collection" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Name").fill(collection);
    await dialog.getByRole("button", { name: "Create" }).click();
    await expect(dialog.getByRole("alert")).toContainText("exists", { ignoreCase: true });
    await dialog.getByLabel("Name").fill(made);
    await dialog.getByLabel("Description").fill("Made by a test");
    await dialog.getByLabel("Language of the documents").selectOption("german");
    await dialog.getByRole("button", { name: "Create" }).click();
    await expect(page).toHaveURL(new RegExp(`/ui/add\\?collection=${made}$`));

    await page.goto(at("search", { collection: made }));
    await expect(page.locator(".empty")).toContainText(`trove index ~/notes --collection ${made}`);

    await page.goto(at("collections"));
    const card = page.locator(".card", { has: page.getByRole("link", { name: made, exact: true }) });
    await expect(card).toContainText("german");
    await card.getByRole("button", { name: `Delete ${made}` }).click();
    const last = dialog.getByRole("button", { name: "Delete" });
    await expect(last).toBeDisabled();
    await dialog.getByLabel("Type its name to confirm").fill("something else");
    await expect(last).toBeDisabled();
    await dialog.getByLabel("Type its name to confirm").fill(made);
    await last.click();
    await expect(card).toHaveCount(0);
    expect((await api(`collections/${made}`)).status).toBe(404);
  });

  test("a document that is not there", async ({ page }) => {
    await page.goto(at("document", { collection, id: "no/such document" }));
    await expect(page.getByRole("alert")).toContainText("no/such document");
  });

  test("a server without collections says what to do next", async ({ page }) => {
    await page.route(/\/api\/v1\/collections\?/, (route) => route.fulfill({ json: { collections: [], damaged: [], next_page_token: "" } }));
    for (const screen of ["search", "ask", "collections"]) {
      await page.goto(at(screen));
      await expect(page.locator(".empty")).toContainText("trove index ~/notes");
      await expect(page.locator(".empty").getByRole("link", { name: "add files here" })).toBeVisible();
    }
    await page.goto(at("add"));
    await page.getByRole("button", { name: "New collection" }).click();
    await expect(page.getByRole("dialog")).toBeVisible();
  });
});
