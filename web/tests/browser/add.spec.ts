import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { at, expect, settled, test } from "./page";
import { api, collection } from "./server";

const passages = async (id: string) => {
  const response = await api(`collections/${collection}/documents/${encodeURIComponent(id)}`);
  return response.ok ? (await response.json()).document.passages.length : 0;
};

test("files are added; one that cannot be read fails with its reason", async ({ page }) => {
  await page.goto(at("add", { collection }));
  await page.getByLabel("Files", { exact: true }).last().setInputFiles([
    { name: "otter.md", mimeType: "", buffer: Buffer.from("# Otters\n\nOtters sleep holding hands.") },
    { name: "broken.pdf", mimeType: "application/pdf", buffer: Buffer.from("%PDF-1.7 this is not one") },
    { name: "naïve “file”.txt", mimeType: "text/plain", buffer: Buffer.from("The lighthouse blinks twice.") },
  ]);
  await expect(page.locator(".jobs-head")).toContainText("3 of 3 files done, 1 failed");
  const failed = page.locator(".job.failed");
  await expect(failed).toContainText("broken.pdf");
  await expect(failed.locator(".reason")).toHaveText(/^[A-Z_]+$/);
  await expect(page.getByRole("status")).toHaveText("All files are done, 1 failed");
  expect(await passages("naïve “file”.txt")).toBe(1);

  await page.getByRole("link", { name: "otter.md" }).click();
  await expect(page.locator(".text")).toContainText("Otters sleep holding hands.");
  await page.goto(at("search", { collection, q: "how do otters sleep?" }));
  await settled(page);
  await expect(page.locator(".hit").first()).toContainText("Otters sleep holding hands.");
});

test("what is added again is unchanged, and the list can be cleared", async ({ page }) => {
  const file = { name: "same.txt", mimeType: "text/plain", buffer: Buffer.from("The same words.") };
  await page.goto(at("add", { collection }));
  const field = page.getByLabel("Files", { exact: true }).last();
  await field.setInputFiles(file);
  await expect(page.locator(".jobs-head")).toContainText("1 of 1 file done");
  await field.setInputFiles(file);
  await expect(page.locator(".job.unchanged")).toContainText("unchanged, 1 passage");
  await page.getByRole("button", { name: "Clear the list" }).click();
  await expect(page.locator(".job")).toHaveCount(0);
});

test("files are dropped", async ({ page }) => {
  await page.goto(at("add", { collection }));
  const transfer = await page.evaluateHandle(() => {
    const data = new DataTransfer();
    data.items.add(new File(["A badger digs at dusk."], "badger.txt", { type: "text/plain" }));
    data.items.add(new File(["hidden"], ".secret", { type: "text/plain" }));
    return data;
  });
  const place = page.getByRole("region", { name: "Files" });
  await place.dispatchEvent("dragover", { dataTransfer: transfer });
  await expect(place).toHaveClass(/over/);
  await place.dispatchEvent("drop", { dataTransfer: transfer });
  await expect(page.locator(".job.indexed")).toContainText("badger.txt");
  await expect(place).toContainText("1 hidden file or folder left out");
  expect(await passages("badger.txt")).toBe(1);
});

/** A folder "notes" with two files, one of them deeper, and a hidden one. */
async function withFolder(use: (folder: string) => Promise<void>) {
  const folder = await mkdtemp(join(tmpdir(), "trove-page-"));
  try {
    await mkdir(join(folder, "notes/deep"), { recursive: true });
    await mkdir(join(folder, "notes/.git"));
    await writeFile(join(folder, "notes/one.txt"), "Swifts sleep on the wing.");
    await writeFile(join(folder, "notes/deep/two.md"), "Newts grow their legs again.");
    await writeFile(join(folder, "notes/.git/config"), "hidden");
    await use(join(folder, "notes"));
  } finally {
    await rm(folder, { recursive: true });
  }
}

test("a folder is chosen and added with the paths in it", async ({ page }) => {
  await withFolder(async (folder) => {
    await page.goto(at("add", { collection }));
    await page.getByLabel("Folder").setInputFiles(folder);
    await expect(page.locator(".jobs-head")).toContainText("2 of 2 files done");
    await expect(page.locator(".drop")).toContainText("left out");
    expect(await passages("notes/deep/two.md")).toBe(1);
    expect(await passages("notes/.git/config")).toBe(0);
  });
});

test("a folder is dragged from the desktop", async ({ page }) => {
  await withFolder(async (folder) => {
    await page.goto(at("add", { collection }));
    const box = await page.getByRole("region", { name: "Files" }).boundingBox();
    const place = { x: (box?.x ?? 0) + 40, y: (box?.y ?? 0) + 40 };
    const data = { items: [], files: [folder], dragOperationsMask: 1 };
    const browser = await page.context().newCDPSession(page);
    for (const type of ["dragEnter", "dragOver", "drop"] as const) await browser.send("Input.dispatchDragEvent", { type, ...place, data });
    await expect(page.locator(".jobs-head")).toContainText("2 of 2 files done");
    await expect(page.locator(".job")).toContainText(["notes/deep/two.md", "notes/one.txt"]);
    await expect(page.locator(".drop")).toContainText("1 hidden file or folder left out");
  });
});

test("text is pasted, and opened", async ({ page }) => {
  await page.goto(at("add", { collection }));
  await page.getByLabel("Title").fill("Hares");
  await page.getByLabel("Text", { exact: true }).fill("Hares box in March.\n\nThey do not burrow.");
  await page.getByRole("button", { name: "Add text" }).click();
  await page.getByRole("link", { name: "Open it" }).click();
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("Hares");
  await expect(page.locator(".text")).toContainText("They do not burrow.");
});

test("files go on while another screen is shown", async ({ page }) => {
  let letGo = () => {};
  const held = new Promise<void>((resolve) => (letGo = resolve));
  await page.route(/\/files$/, async (route) => {
    await held;
    await route.continue();
  });
  await page.goto(at("add", { collection }));
  await page.getByLabel("Files", { exact: true }).last().setInputFiles({ name: "slow.txt", mimeType: "text/plain", buffer: Buffer.from("Slow worms are lizards.") });
  const screens = page.getByRole("navigation", { name: "Screens" });
  await screens.getByRole("link", { name: "Status" }).click();
  await expect(screens.getByRole("link", { name: /Add/ })).toContainText("1 files left");
  letGo();
  await expect(screens.getByRole("link", { name: "Add", exact: true })).toBeVisible();
  expect(await passages("slow.txt")).toBe(1);
});

test("a file beyond the server's limit is refused before it is sent, and a stop leaves the rest", async ({ page }) => {
  await page.route(/\/info$/, async (route) => {
    const info = await (await route.fetch()).json();
    info.limits.max_document_bytes = 10;
    await route.fulfill({ json: info });
  });
  await page.route(/\/files$/, () => undefined);
  await page.goto(at("add", { collection }));
  await expect(page.locator(".drop")).toContainText("At most 10 bytes each");
  const small = Array.from({ length: 5 }, (_, index) => ({ name: `${index}.txt`, mimeType: "text/plain", buffer: Buffer.from("small") }));
  await page.getByLabel("Files", { exact: true }).last().setInputFiles([...small, { name: "large.txt", mimeType: "text/plain", buffer: Buffer.alloc(11, "x") }]);
  await expect(page.locator(".job.failed")).toContainText("expected at most 10 bytes, got 11 bytes");
  await page.getByRole("button", { name: "Stop" }).click();
  await expect(page.locator(".job.stopped")).toHaveCount(5);
});
