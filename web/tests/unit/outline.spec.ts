import { expect, test } from "@playwright/test";
import type { Passage } from "../../src/api/types";
import { type Block, outline } from "../../src/text/outline";
import { Utf8Text, utf8Length } from "../../src/text/utf8";

function passage(text: string, part: string, headings: string[], page?: number): Passage {
  const start = utf8Length(text.slice(0, text.indexOf(part)));
  const span = { start, end: start + utf8Length(part) };
  return { document_id: "d", passage_index: 0, span, text: part, headings, ...(page ? { page_number: page } : {}) };
}

const shown = (text: string, block: Block) =>
  block.kind === "page" ? `page ${block.page}` : `${block.kind}: ${new Utf8Text(text).slice(block.start, block.end).trim()}`;

test("headings are taken from the text, with the lines below them", () => {
  const text = "Título\n======\n\nFirst words.\n\nSub\n\nSecond words.";
  const blocks = outline(new Utf8Text(text), [
    passage(text, "Título", ["Título"]),
    passage(text, "First words.", ["Título"]),
    passage(text, "Sub\n\nSecond words.", ["Título", "Sub"]),
  ]);
  expect(blocks.map((block) => shown(text, block))).toEqual(["heading: Título", "prose: First words.", "heading: Sub", "prose: Second words."]);
  expect(blocks.flatMap((block) => (block.kind === "heading" ? [block.level] : []))).toEqual([1, 2]);
});

test("a heading that the text does not have is shown without bytes", () => {
  const text = "Words.";
  const [heading, words] = outline(new Utf8Text(text), [passage(text, "Words.", ["Elsewhere"])]);
  expect(heading).toEqual({ kind: "heading", start: 0, end: 0, level: 1, text: "Elsewhere" });
  expect(words).toMatchObject({ kind: "prose", start: 0, end: 6 });
});

test("pages begin where their first passage does", () => {
  const text = "On one.\n\nOn two.";
  const blocks = outline(new Utf8Text(text), [passage(text, "On one.", [], 1), passage(text, "On two.", [], 2)]);
  expect(blocks.map((block) => shown(text, block))).toEqual(["page 1", "prose: On one.", "page 2", "prose: On two."]);
});

test("every byte is shown once, where passages overlap and where gaps lie between them", () => {
  const text = "Head\n\nAlpha béta gamma.\n+\ndelta épsilon zeta.\n\nTail words";
  const passages = [
    passage(text, "Head\n\nAlpha béta gamma.", ["Head"]),
    passage(text, "gamma.\n+\ndelta", ["Head"], 3),
    passage(text, "delta épsilon zeta.", ["Head", "None"], 3),
  ];
  const blocks = outline(new Utf8Text(text), passages).filter((block) => block.kind !== "page");
  const spans = blocks.filter((block) => block.end > block.start);
  for (const [index, block] of spans.entries()) expect(block.start).toBeGreaterThanOrEqual(spans[index - 1]?.end ?? 0);
  const all = spans.map((block) => new Utf8Text(text).slice(block.start, block.end)).join("");
  expect(all.replace(/\s/g, "")).toBe(text.replace(/\s/g, ""));
});

test("prose flows, short lines stay, programs are set apart", () => {
  const text = [
    "A paragraph whose lines are as wide as a page was when it\nwas written, and which flows.",
    "First line\nSecond line",
    "function twice(x) {\n  return 2 * x;\n}",
  ].join("\n\n");
  const kinds = outline(new Utf8Text(text), []).map((block) => block.kind);
  expect(kinds).toEqual(["prose", "lines", "code"]);
});

test("a text without passages and an empty one", () => {
  expect(outline(new Utf8Text("Words."), []).map((block) => block.kind)).toEqual(["prose"]);
  expect(outline(new Utf8Text(""), [])).toEqual([]);
});
