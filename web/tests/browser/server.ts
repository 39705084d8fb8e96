// What the tests put onto the server beforehand, and take away.
import { readFile } from "node:fs/promises";

export const base = process.env.TROVE_URL ?? "http://127.0.0.1:7700";
export const collection = "page-tests";
export const made = "page-tests-made";

const demo = new URL("../../../demo/", import.meta.url);

/** Documents of the tests: id, and file of demo/ or text. */
const FILES = ["text/gitfaq.txt", "pdf/project-history.en.pdf", "html/appetite.html", "markdown/node-path.md"];

export const hostile = {
  id: "odd/<b>&\"'?#%2F é.txt",
  title: "<img src=x onerror=alert(1)> “Title”",
  text: "Zürich’s ferry \u{1D11E} sings.\n\n<script>alert('the walrus danced')</script> The walrus danced in Zürich on Tuesday.\n\nNothing else happened — naïve café.",
};

export async function api(path: string, init: RequestInit = {}): Promise<Response> {
  const key = process.env.TROVE_API_KEY;
  const headers = new Headers(init.headers);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  return fetch(`${base}/api/v1/${path}`, { ...init, headers });
}

export async function post(path: string, body: unknown): Promise<Response> {
  return api(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

export async function prepare() {
  await clean();
  await ok(await post("collections", { collection: { name: collection, description: "Documents of the page's tests" } }));
  for (const name of FILES) {
    const form = new FormData();
    form.append("file", new Blob([await readFile(new URL(name, demo))]), name);
    await ok(await api(`collections/${collection}/files`, { method: "POST", body: form }));
  }
  const { id, title, text } = hostile;
  await ok(await post(`collections/${collection}/documents`, { documents: [{ id, title, text }] }));
}

export async function clean() {
  for (const name of [collection, made]) await api(`collections/${name}?force=true`, { method: "DELETE" });
}

async function ok(response: Response) {
  const body = await response.text();
  if (!response.ok || body.includes("DOCUMENT_STATUS_FAILED")) throw new Error(`${response.url}: ${response.status} ${body}`);
}
