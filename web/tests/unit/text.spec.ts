import { execFileSync } from "node:child_process";
import { expect, test } from "@playwright/test";
import { errorOf } from "../../src/api/error";
import { curl } from "../../src/text/curl";
import { excerpt } from "../../src/text/excerpt";
import { bytes } from "../../src/text/format";
import { utf8Length } from "../../src/text/utf8";

test("an excerpt shows the marked sentence whole, and some of what stands around it", () => {
  const before = "word ".repeat(200);
  const sentence = "This is the séntence. ";
  const start = utf8Length(before);
  const { pieces, cut } = excerpt(before + sentence + "after ".repeat(200), { start, end: start + utf8Length(sentence) });
  expect(cut).toBe(true);
  expect(pieces.map((piece) => piece.marked)).toEqual([false, true, false]);
  expect(pieces[1]?.text).toBe(sentence);
  expect(pieces[0]?.text).toMatch(/^… word/);
  expect(pieces[2]?.text).toMatch(/after …$/);
});

test("a short passage is shown whole", () => {
  expect(excerpt("Few words.", undefined)).toEqual({ pieces: [{ text: "Few words.", marked: false }], cut: false });
});

test("an excerpt never cuts a character", () => {
  const { pieces } = excerpt("𝄞".repeat(2000), { start: 2000, end: 2004 });
  for (const piece of pieces) expect(piece.text.isWellFormed()).toBe(true);
});

test("a shell gives back what curl was given, whatever is in it", () => {
  const body = { query: { text: `it's "$HOME" \`id\` $(id) \\ \n é` } };
  const command = curl("http://127.0.0.1/a?b='c'", body, false);
  const printed = execFileSync("sh", ["-c", command.replace(/^curl/, "printf '%s\\0'")], { encoding: "utf8" });
  const parts = printed.split("\0");
  expect(parts[0]).toBe("http://127.0.0.1/a?b='c'");
  expect(JSON.parse(parts[parts.indexOf("-d") + 1] ?? "")).toEqual(body);
});

test("a command names the key, and does not hold it", () => {
  expect(curl("http://x", {}, true)).toContain('"Authorization: Bearer $TROVE_API_KEY"');
});

test("errors of the server are told in its words, others by their status", () => {
  const told = errorOf(404, '{"error":{"code":"UNKNOWN_COLLECTION","message":"there is no collection"}}', null);
  expect([told.code, told.message]).toEqual(["UNKNOWN_COLLECTION", "there is no collection"]);
  expect(errorOf(502, "<html>Bad gateway</html>", "7")).toMatchObject({ code: "HTTP_502", retryAfter: 7 });
  expect(errorOf(500, "null", "soon")).toMatchObject({ code: "HTTP_500", retryAfter: 0 });
});

test("sizes", () => {
  expect([bytes(0), bytes(1023), bytes(1024), bytes(1536), bytes(268435456)]).toEqual(["0 bytes", "1023 bytes", "1 KiB", "1.5 KiB", "256 MiB"]);
});
