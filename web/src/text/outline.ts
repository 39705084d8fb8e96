// A document as blocks: headings, pages and paragraphs, each with its bytes in the text.
import type { Passage } from "../api/types";
import { Utf8Text, utf8Length } from "./utf8";

export type Block =
  | { kind: "page"; start: number; page: number }
  | { kind: "heading"; start: number; end: number; level: number; text: string }
  /** Prose flows; lines are kept where they are short; code is kept as it stands. */
  | { kind: "prose" | "lines" | "code"; start: number; end: number };

export type Heading = Extract<Block, { kind: "heading" }>;

/** Splits a document's text by its passages' headings and pages. */
export function outline(text: Utf8Text, passages: Passage[]): Block[] {
  const blocks: Block[] = [];
  let at = 0;
  let headings: string[] = [];
  let page = 0;
  for (const [index, passage] of passages.entries()) {
    const next = passages[index + 1]?.span?.start ?? text.length;
    // Passages may overlap: each byte is shown once.
    const start = Math.max(index === 0 ? 0 : (passage.span?.start ?? at), at);
    if (passage.page_number && passage.page_number !== page) {
      page = passage.page_number;
      blocks.push({ kind: "page", start, page });
    }
    at = start;
    for (const { level, title } of opened(headings, passage.headings)) {
      const heading = headingAt(text, at, next, level, title);
      blocks.push(heading.block);
      at = heading.next;
    }
    headings = passage.headings;
    blocks.push(...paragraphs(text, at, Math.max(next, at)));
    at = Math.max(next, at);
  }
  if (passages.length === 0) blocks.push(...paragraphs(text, 0, text.length));
  return blocks;
}

// The headings of a path that the path before does not have.
function opened(before: string[], now: string[]): { level: number; title: string }[] {
  const shared = now.findIndex((title, level) => before[level] !== title);
  if (shared < 0) return [];
  return now.slice(shared).map((title, index) => ({ level: shared + index + 1, title }));
}

// The line of a heading where the text has it, with the line of dashes below it; else a heading without bytes.
function headingAt(text: Utf8Text, start: number, end: number, level: number, title: string) {
  const ahead = text.slice(start, Math.min(end, start + utf8Length(title) + 400));
  const [blank] = /^\s*(?:#{1,6}\s+)?/.exec(ahead) ?? [""];
  const none: { block: Heading; next: number } = { block: { kind: "heading", start, end: start, level, text: title }, next: start };
  if (!ahead.startsWith(title, blank.length)) return none;
  const after = ahead.slice(blank.length + title.length);
  const [rest] = /^[ \t#]*(?:\n[-=~^"*+]{3,}[ \t]*)?(?=\n|$)/.exec(after) ?? [undefined];
  if (rest === undefined) return none;
  const from = start + utf8Length(blank);
  const to = from + utf8Length(title);
  return { block: { kind: "heading", start: from, end: to, level, text: title } as Heading, next: to + utf8Length(rest) };
}

function paragraphs(text: Utf8Text, start: number, end: number): Block[] {
  const blocks: Block[] = [];
  let at = start;
  for (const part of text.slice(start, end).split(/(\n[ \t]*\n\s*\n|\n[ \t]*\n)/)) {
    const next = at + utf8Length(part);
    if (part.trim() !== "") blocks.push({ kind: kindOf(part), start: at, end: next });
    at = next;
  }
  return blocks;
}

/** Lines of at least so many characters are the width of a page, not the will of an author. */
const FULL_LINE = 45;

function kindOf(paragraph: string): "prose" | "lines" | "code" {
  const lines = paragraph.replace(/^\n+|\s+$/g, "").split("\n");
  if (lines.length > 1 && lines.some((line) => /^(\t| {2,})/.test(line))) return "code";
  const full = lines.slice(0, -1).every((line) => line.length >= FULL_LINE);
  return full && !lines.slice(1).some((line) => /^([-*+•]|\d+[.)]) /.test(line)) ? "prose" : "lines";
}
