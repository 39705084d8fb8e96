// Checks that web/dist is what the sources give, and within its budget.
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { buildInto } from "./build.mjs";

/** Most bytes of all files together, each compressed by gzip. */
const BUDGET = 100 * 1024;

const dist = fileURLToPath(new URL("dist", import.meta.url));
const fresh = await mkdtemp(join(tmpdir(), "trove-web-"));
try {
  await buildInto(fresh);
  const [committed, built] = await Promise.all([contents(dist), contents(fresh)]);
  const names = [...new Set([...committed.keys(), ...built.keys()])].sort();
  const stale = names.filter((name) => !committed.get(name)?.equals(built.get(name) ?? Buffer.alloc(0)));
  if (stale.length > 0) fail(`web/dist is not what the sources give: ${stale.join(", ")}; run "npm run build" and commit it`);

  const bytes = [...built.values()].reduce((sum, content) => sum + gzipSync(content, { level: 9 }).length, 0);
  if (bytes > BUDGET) fail(`expected at most ${BUDGET} bytes compressed, got ${bytes}`);
  console.log(`web/dist is what the sources give: ${names.length} files, ${bytes} bytes compressed`);
} finally {
  await rm(fresh, { recursive: true, force: true });
}

async function contents(folder) {
  const names = await readdir(folder).catch(() => []);
  return new Map(await Promise.all(names.map(async (name) => [name, await readFile(join(folder, name))])));
}

function fail(message) {
  console.error(message);
  process.exitCode = 1;
}
