import { useState } from "preact/hooks";
import type { ByteSpan, Passage, SearchHit } from "../api/types";
import { href } from "../router";
import { excerpt } from "../text/excerpt";
import { pieces, Utf8Text } from "../text/utf8";
import { Marked } from "../ui/parts";

/** The address of a document at a span of a passage's text; without one at the passage. */
export function placeOf(collection: string, passage: Passage, span: ByteSpan | undefined): string {
  const from = passage.span?.start ?? 0;
  const place = span ? { start: from + span.start, end: from + span.end } : passage.span;
  return href("document", { collection, id: passage.document_id, start: place?.start, end: place?.end });
}

/** What a hit is called: its document's title, else the last part of its id. */
export const nameOf = (title: string, id: string) => title.trim() || id.split("/").filter(Boolean).at(-1) || id;

/** The headings and the page of a passage. The first heading is left out where it is the title. */
export function Trail({ passage, title }: { passage: Passage; title: string }) {
  const headings = passage.headings.filter((heading, index) => index > 0 || heading !== title);
  if (headings.length === 0 && !passage.page_number) return null;
  return (
    <p class="trail">
      {headings.join(" › ")}
      {passage.page_number ? <span class="page">page {passage.page_number}</span> : null}
    </p>
  );
}

/** A passage's text around a sentence of it, and the whole on demand. */
export function PassageText({ text, mark }: { text: string; mark: ByteSpan | undefined }) {
  const [whole, setWhole] = useState(false);
  const short = excerpt(text, mark);
  const full = new Utf8Text(text);
  return (
    <div class="passage">
      <p dir="auto" class={whole ? "quote kept" : "quote"}>
        <Marked pieces={whole ? pieces(full, 0, full.length, mark) : short.pieces} />
      </p>
      {short.cut && (
        <button type="button" class="quiet" aria-expanded={whole} onClick={() => setWhole(!whole)}>
          {whole ? "Show less" : "Show all"}
        </button>
      )}
    </div>
  );
}

/** A hit's score, and what it is made of. */
export function Score({ hit }: { hit: SearchHit }) {
  const parts: [string, number | null | undefined][] = [
    ["Scored again", hit.rerank_score],
    ["Score", hit.score],
    ["Meaning", hit.vector_score],
    ["Best sentence", hit.sentence_score],
    ["Words (BM25)", hit.keyword_score],
  ];
  const shown = parts.filter((part): part is [string, number] => typeof part[1] === "number");
  return (
    <details class="score">
      <summary>
        <span class="unseen">Score </span>
        {(hit.rerank_score ?? hit.score).toFixed(3)}
      </summary>
      <dl>
        {shown.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value.toFixed(4)}</dd>
          </div>
        ))}
      </dl>
    </details>
  );
}
