import { useEffect, useRef, useState } from "preact/hooks";
import { search, searchPath } from "../api/endpoints";
import { hasKey } from "../api/key";
import type { SearchHit, SearchRequest, SearchResponse } from "../api/types";
import { apiUrl } from "../api/url";
import { go, href, type Place } from "../router";
import { curl } from "../text/curl";
import { counted } from "../text/format";
import { announce } from "../ui/announce";
import { CollectionChooser, EmptyCollection, NoCollections, useCollection, useCollections } from "../ui/collections";
import { CopyButton } from "../ui/copy";
import { useLoaded } from "../ui/load";
import { Busy, Choice, Failure, Title } from "../ui/parts";
import { nameOf, PassageText, placeOf, Score, Trail } from "./hit";
import { type Mode, MOST, type Query, readQuery, requestOf, STEP, type Unit, vectorsOnly, writeQuery } from "./query";

interface Found extends SearchResponse {
  request: SearchRequest;
}

/** What was found last: the way back from a document leads to the same place in the results. */
let last: { key: string; found: Found } | undefined;

export function SearchScreen({ place }: { place: Place }) {
  const collection = useCollection(place.params);
  const query = readQuery(place.params, collection);
  const asked = collection !== "" && (query.text.trim() !== "" || query.like !== "");
  const key = JSON.stringify(query);
  const found = useLoaded(asked ? (signal) => find(query, signal) : undefined, [key], last?.key === key ? last.found : undefined);

  useEffect(() => {
    if (!found.value || found.loading) return;
    last = { key, found: found.value };
    announce(summary(found.value));
  }, [found.value, found.loading]);

  return (
    <div class={asked ? "search" : "search fresh"}>
      <Title hidden>Search</Title>
      <SearchForm query={query} />
      {!asked && <NoCollections />}
      {found.error && <Failure error={found.error} />}
      {asked && !found.value && found.loading && <Busy>Searching</Busy>}
      {!asked && collection !== "" && <Invitation collection={collection} />}
      {asked && found.value && <Results query={query} found={found.value} stale={found.loading} />}
    </div>
  );
}

async function find(query: Query, signal: AbortSignal): Promise<Found | undefined> {
  const request = await requestOf(query, signal);
  return request && { ...(await search(query.collection, request, signal)), request };
}

const address = (query: Query, changes: Partial<Query> = {}) => href("search", writeQuery({ ...query, ...changes }));

const UNITS = [
  { value: "passage", label: "Passages" },
  { value: "sentence", label: "Sentences" },
  { value: "document", label: "Documents" },
] as const;

function SearchForm({ query }: { query: Query }) {
  const [text, setText] = useState(query.text);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus({ preventScroll: true }), []);
  useEffect(() => setText(query.text), [query.text]);

  const changed = (changes: Partial<Query>) => address({ ...query, text, limit: STEP }, changes);
  const choose = (changes: Partial<Query>) => go(changed(changes), { replace: true });
  const modes: { value: Mode; label: string; disabled?: boolean }[] = [
    { value: "hybrid", label: "Hybrid", disabled: vectorsOnly(query) },
    { value: "vector", label: "Meaning" },
    { value: "keyword", label: "Words", disabled: vectorsOnly(query) },
  ];

  return (
    <form
      class="ask-bar"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        if (text.trim() !== "") go(changed({ like: "", passage: undefined }));
      }}
    >
      <div class="line">
        <input
          ref={field}
          type="search"
          class="big"
          aria-label="Search"
          placeholder="Search by meaning"
          autocomplete="off"
          enterkeyhint="search"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <button type="submit" class="main">
          Search
        </button>
      </div>
      <div class="options">
        <CollectionChooser
          value={query.collection}
          onChange={(name) => choose({ collection: name, like: "", passage: undefined, filters: [] })}
        />
        <Choice<Unit> label="Results are" name="unit" value={query.unit} options={UNITS} onChange={(unit) => choose({ unit })} />
        <Choice<Mode>
          label="Search by"
          name="mode"
          value={vectorsOnly(query) ? "vector" : query.mode}
          options={modes}
          onChange={(mode) => choose({ mode })}
        />
      </div>
      <Conditions query={query} />
    </form>
  );
}

/** What narrows the search besides the text: each can be taken away. */
function Conditions({ query }: { query: Query }) {
  if (query.like === "" && query.filters.length === 0) return null;
  const without = (filter: string) => query.filters.filter((other) => other !== filter);
  return (
    <ul class="conditions">
      {query.like !== "" && (
        <li>
          like {query.passage === undefined ? "" : `passage ${query.passage + 1} of `}
          <strong>{query.like}</strong>
          <a href={address(query, { like: "", passage: undefined })} aria-label={`No longer like ${query.like}`}>
            ×
          </a>
        </li>
      )}
      {query.filters.map((filter) => (
        <li key={filter}>
          <strong>{filter.replace("=", ": ")}</strong>
          <a href={address(query, { filters: without(filter) })} aria-label={`No longer only ${filter}`}>
            ×
          </a>
        </li>
      ))}
    </ul>
  );
}

function Invitation({ collection }: { collection: string }) {
  const { value } = useCollections();
  const chosen = value?.collections.find((one) => one.name === collection);
  if (!chosen) return value ? <p class="invitation">There is no collection “{collection}”.</p> : null;
  if (chosen.document_count === 0) return <EmptyCollection name={collection} />;
  return (
    <p class="invitation">
      {counted(chosen.document_count, "document")} in {counted(chosen.passage_count, "passage")}. Write what you look for in your own
      words, or <a href={href("ask", { collection })}>ask a question</a>.
    </p>
  );
}

interface ResultsProps {
  query: Query;
  found: Found;
  stale: boolean;
}

function Results({ query, found, stale }: ResultsProps) {
  const more = found.hits.length >= query.limit && query.limit < MOST;
  return (
    <section class={stale ? "results stale" : "results"} aria-label="Results" aria-busy={stale}>
      <div class="results-head">
        <p>{summary(found)}</p>
        {query.text !== "" && <a href={href("ask", { collection: query.collection, q: query.text })}>Ask this</a>}
        <CopyButton label="Copy as curl" text={() => curl(apiUrl(searchPath(query.collection)), found.request, hasKey())} />
      </div>
      <Notes query={query} found={found} />
      <ol class="hits">
        {found.hits.map((hit) => (
          <Hit key={`${hit.passage?.document_id} ${hit.passage?.span?.start}`} hit={hit} query={query} />
        ))}
      </ol>
      {more && (
        <button type="button" class="more" onClick={() => go(address(query, { limit: Math.min(query.limit + STEP, MOST) }), { replace: true })}>
          More results
        </button>
      )}
    </section>
  );
}

/** What a reader of the results should know of how they came about. */
function Notes({ query, found }: { query: Query; found: Found }) {
  const onlyVectors = query.mode === "hybrid" && !vectorsOnly(query) && found.mode === "SEARCH_MODE_VECTOR";
  return (
    <>
      {onlyVectors && <p class="note">Searched by meaning alone: the text has no word to look up, or the keyword index is being rebuilt.</p>}
      {found.damaged_hits > 0 && <p class="note">{counted(found.damaged_hits, "hit")} left out: damaged in the store.</p>}
    </>
  );
}

const summary = (found: SearchResponse) => (found.hits.length === 0 ? "Nothing found" : counted(found.hits.length, "result"));

function Hit({ hit, query }: { hit: SearchHit; query: Query }) {
  const { passage } = hit;
  if (!passage) return null;
  const name = nameOf(hit.title, passage.document_id);
  // A sentence is its own mark; a document is found as a whole.
  const mark = query.unit === "sentence" ? undefined : hit.highlights[0]?.span;
  const like = query.unit === "document" ? undefined : passage.passage_index;
  return (
    <li class="hit">
      <div class="hit-head">
        <h2>
          <a href={placeOf(query.collection, passage, mark)}>{name}</a>
        </h2>
        <Score hit={hit} />
      </div>
      {name !== passage.document_id && <p class="id">{passage.document_id}</p>}
      <Trail passage={passage} title={hit.title} />
      <PassageText text={passage.text} mark={mark} />
      <div class="hit-foot">
        <a href={address(query, { text: "", like: passage.document_id, passage: like, filters: [], limit: STEP })}>
          More like this<span class="unseen"> {name}</span>
        </a>
        <Facets hit={hit} query={query} />
      </div>
    </li>
  );
}

/** Most characters of a value that is offered as a condition. */
const SHORT = 40;

/** Metadata that narrows the search when it is chosen. */
function Facets({ hit, query }: { hit: SearchHit; query: Query }) {
  const facets = Object.entries(hit.metadata)
    .flatMap(([key, { string_value: value }]) => (value && value.length <= SHORT && key !== "path" ? [`${key}=${value}`] : []))
    .filter((facet) => !query.filters.includes(facet))
    .sort();
  return (
    <>
      {facets.map((facet) => (
        <a key={facet} class="facet" href={address(query, { filters: [...query.filters, facet], limit: STEP })}>
          <span class="unseen">Only </span>
          {facet.replace("=", ": ")}
        </a>
      ))}
    </>
  );
}
