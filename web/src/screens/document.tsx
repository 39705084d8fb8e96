import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { deleteDocument, getDocument } from "../api/endpoints";
import type { ByteSpan, TroveDocument } from "../api/types";
import { go, href, type Place } from "../router";
import { counted, metadata, time } from "../text/format";
import { type Block, type Heading, outline } from "../text/outline";
import { pieces, Utf8Text } from "../text/utf8";
import { announce } from "../ui/announce";
import { useCollections } from "../ui/collections";
import { Dialog } from "../ui/dialog";
import { useLoaded } from "../ui/load";
import { Busy, Failure, Marked, Title } from "../ui/parts";
import { nameOf } from "./hit";

export function DocumentScreen({ place }: { place: Place }) {
  const collection = place.params.get("collection") ?? "";
  const id = place.params.get("id") ?? "";
  const loaded = useLoaded((signal) => getDocument(collection, id, signal), [collection, id]);
  const shown = loaded.value?.document;
  if (loaded.error)
    return (
      <>
        <Title>{nameOf("", id)}</Title>
        <Failure error={loaded.error} />
      </>
    );
  if (!shown || shown.id !== id) return <Busy>Loading</Busy>;
  return <DocumentView key={id} document={shown} collection={collection} place={place} />;
}

/** The span that the address names; with a start alone the page goes there and marks nothing. */
function readMark(params: URLSearchParams): ByteSpan | undefined {
  const start = Number(params.get("start") ?? "none");
  const end = Number(params.get("end") ?? start);
  if (!Number.isInteger(start) || !Number.isInteger(end) || start < 0) return undefined;
  return { start, end: Math.max(start, end) };
}

interface ViewProps {
  document: TroveDocument;
  collection: string;
  place: Place;
}

function DocumentView({ document, collection, place }: ViewProps) {
  const mark = readMark(place.params);
  const text = useMemo(() => new Utf8Text(document.text ?? ""), [document]);
  const blocks = useMemo(() => outline(text, document.passages), [text]);
  const headings = blocks.filter((block): block is Heading => block.kind === "heading");
  const target = mark && blockAt(blocks, mark.start);
  const address = (start: number) => href("document", { collection, id: document.id, start });
  const name = nameOf(document.title, document.id);

  return (
    <article class="document columns">
      <header>
        <p class="crumb">
          <a href={href("collection", { collection })}>{collection}</a>
        </p>
        <Title>{name}</Title>
        <Facts document={document} />
        <div class="hit-foot">
          <a href={href("search", { collection, like: document.id })}>More like this</a>
          <DeleteDocument document={document} collection={collection} />
        </div>
      </header>
      {headings.length > 1 && <Contents headings={headings} address={address} />}
      <div class="text">
        {blocks.map((block, index) => (
          <BlockView key={index} block={block} text={text} mark={mark} goal={block === target ? place : undefined} />
        ))}
        {blocks.length === 0 && <p class="note">This document has no text.</p>}
      </div>
    </article>
  );
}

/** The block that holds a byte of the text. */
function blockAt(blocks: Block[], at: number): Block | undefined {
  const inside = blocks.find((block) => block.kind !== "page" && block.start <= at && at < block.end);
  return inside ?? blocks.find((block) => block.kind !== "page" && block.start >= at) ?? blocks.at(-1);
}

interface BlockProps {
  block: Block;
  text: Utf8Text;
  mark: ByteSpan | undefined;
  /** The place that leads here; going there again scrolls again. */
  goal: Place | undefined;
}

function BlockView({ block, text, mark, goal }: BlockProps) {
  const element = useRef<HTMLElement | null>(null);
  useEffect(() => {
    if (!goal) return;
    const marked = element.current?.querySelector("mark");
    if (marked) marked.scrollIntoView({ block: "center" });
    else element.current?.scrollIntoView({ block: "start" });
  }, [goal]);
  const take = (node: HTMLElement | null) => {
    element.current = node;
  };

  if (block.kind === "page") return <p class="page-break">Page {block.page}</p>;
  const content = block.end > block.start ? <Marked pieces={pieces(text, block.start, block.end, mark)} /> : null;
  if (block.kind !== "heading")
    return (
      <p ref={take} dir="auto" class={block.kind}>
        {content}
      </p>
    );
  // The page's own heading is the first level.
  const Tag = `h${Math.min(block.level + 1, 6)}` as "h2";
  return (
    <Tag ref={take} dir="auto" class={`level-${Math.min(block.level, 4)}`}>
      {content ?? block.text}
    </Tag>
  );
}

function Contents({ headings, address }: { headings: Heading[]; address: (start: number) => string }) {
  return (
    <nav class="contents" aria-label="Headings">
      <details open={matchMedia("(min-width: 80rem)").matches}>
        <summary>Contents</summary>
        <ul>
          {headings.map((heading) => (
            <li key={heading.start} class={`level-${Math.min(heading.level, 4)}`}>
              <a href={address(heading.start)}>{heading.text}</a>
            </li>
          ))}
        </ul>
      </details>
    </nav>
  );
}

function Facts({ document }: { document: TroveDocument }) {
  const facts: [string, string][] = [
    ["Id", document.id],
    ["Source", document.source_uri],
    ["Format", document.mime_type],
    ["Stored", time(document.update_time)],
    ["Passages", counted(document.passages.length, "passage")],
    ...Object.entries(document.metadata)
      .map(([key, value]): [string, string] => [key, metadata(value)])
      .sort(),
  ];
  return (
    <details class="facts">
      <summary>{document.id}</summary>
      <dl>
        {facts
          .filter(([, value]) => value !== "")
          .map(([key, value], index) => (
            <div key={index}>
              <dt>{key}</dt>
              <dd>{value}</dd>
            </div>
          ))}
      </dl>
    </details>
  );
}

function DeleteDocument({ document, collection }: { document: TroveDocument; collection: string }) {
  const [open, setOpen] = useState(false);
  const [error, setError] = useState<Error>();
  const { reload } = useCollections();

  async function remove() {
    try {
      await deleteDocument(collection, document.id);
      announce("Deleted");
      reload();
      go(href("collection", { collection }));
    } catch (failure) {
      setError(failure as Error);
    }
  }

  return (
    <>
      <button type="button" class="quiet danger" onClick={() => setOpen(true)}>
        Delete
      </button>
      {open && (
        <Dialog title="Delete this document?" onClose={() => setOpen(false)}>
          <p>
            “{document.id}” and its passages leave “{collection}”. The file that it came from stays where it is.
          </p>
          {error && <Failure error={error} />}
          <div class="actions">
            <button type="button" onClick={() => setOpen(false)}>
              Keep it
            </button>
            <button type="button" class="main danger" onClick={remove}>
              Delete
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}
