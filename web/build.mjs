// Builds the page: one script, one style sheet, the document and its icon.
import { copyFile, mkdir, readFile, rm } from "node:fs/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const here = new URL("./", import.meta.url);
const path = (name) => fileURLToPath(new URL(name, here));

/** Writes the page into a folder, which is emptied first. */
export async function buildInto(folder) {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const licence = await readFile(path("node_modules/preact/LICENSE"), "utf8");
  await build({
    absWorkingDir: path("./"),
    entryPoints: { app: "src/main.tsx" },
    outdir: folder,
    bundle: true,
    format: "esm",
    target: ["es2022"],
    jsx: "automatic",
    jsxImportSource: "preact",
    minify: true,
    banner: { js: `/*\nPreact, which is part of this file:\n${licence.trim()}\n*/` },
    legalComments: "none",
    charset: "utf8",
    logLevel: "warning",
  });
  for (const name of ["index.html", "icon.svg"]) await copyFile(path(`src/${name}`), `${folder}/${name}`);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await buildInto(path("dist"));
