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
  let headings: string[] = [];
  let page = 0;
  for (const section of sections(text, passages)) {
    if (section.page !== 0 && section.page !== page) blocks.push({ kind: "page", start: section.start, page: section.page });
    page = section.page || page;
    let at = section.start;
    for (const { level, title } of opened(headings, section.headings)) {
      const heading = headingAt(text, at, section.end, level, title);
      blocks.push(heading.block);
      at = heading.next;
    }
    headings = section.headings;
    blocks.push(...paragraphs(text, at, section.end));
  }
  return blocks;
}

interface Section {
  start: number;
  end: number;
  headings: string[];
  page: number;
}

// Neighbouring passages under one heading on one page. Together they are the whole text: what stands between passages
// goes with the one before, and what passages share is shown once.
function sections(text: Utf8Text, passages: Passage[]): Section[] {
  const all: Section[] = [];
  for (const { span, headings, page_number } of passages) {
    const last = all.at(-1);
    const page = page_number ?? 0;
    if (last && last.page === page && sameList(last.headings, headings)) continue;
    const start = last ? Math.max(span?.start ?? 0, last.start) : 0;
    if (last) last.end = start;
    all.push({ start, end: text.length, headings, page });
  }
  return all.length > 0 ? all : [{ start: 0, end: text.length, headings: [], page: 0 }];
}

const sameList = (a: string[], b: string[]) => a.length === b.length && a.every((one, index) => one === b[index]);

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
  if (looksLikeCode(lines)) return "code";
  const full = lines.slice(0, -1).every((line) => line.trim().length >= FULL_LINE);
  return full && !lines.slice(1).some((line) => /^\s*([-*+•]|\d+[.)]) /.test(line)) ? "prose" : "lines";
}

// Lines that are indented unlike each other, or most of which begin or end as lines of programs do.
function looksLikeCode(lines: string[]): boolean {
  if (lines.length < 2) return false;
  const indents = new Set(lines.map((line) => /^[ \t]*/.exec(line)?.[0].length));
  const telling = lines.filter((line) => /[{};=]\s*$|^\s*([#$>}]|\/\/|--|>>>)|\w\(.*\)|\S {3,}\S/.test(line)).length;
  return indents.size > 2 || telling * 2 > lines.length;
}
