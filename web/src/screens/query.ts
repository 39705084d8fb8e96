// A search as the address has it.
import { getDocument } from "../api/endpoints";
import { ApiError } from "../api/error";
import type { Filter, SearchMode, SearchRequest, SearchUnit } from "../api/types";

export type Unit = "passage" | "sentence" | "document";
export type Mode = "hybrid" | "vector" | "keyword";

export interface Query {
  collection: string;
  text: string;
  unit: Unit;
  mode: Mode;
  limit: number;
  /** Id of a document that results shall be like. */
  like: string;
  /** Index of the passage of that document that results shall be like. */
  passage: number | undefined;
  /** Conditions on metadata, each as KEY=VALUE. */
  filters: string[];
}

const UNITS: Record<Unit, SearchUnit> = {
  passage: "SEARCH_UNIT_PASSAGE",
  sentence: "SEARCH_UNIT_SENTENCE",
  document: "SEARCH_UNIT_DOCUMENT",
};
const MODES: Record<Mode, SearchMode> = {
  hybrid: "SEARCH_MODE_HYBRID",
  vector: "SEARCH_MODE_VECTOR",
  keyword: "SEARCH_MODE_KEYWORD",
};

export const STEP = 10;
export const MOST = 1000;

export function readQuery(params: URLSearchParams, collection: string): Query {
  const limit = Number(params.get("limit") ?? STEP);
  const passage = params.get("passage");
  return {
    collection,
    text: params.get("q") ?? "",
    unit: oneOf(UNITS, params.get("unit"), "passage"),
    mode: oneOf(MODES, params.get("mode"), "hybrid"),
    limit: Number.isInteger(limit) && limit > 0 ? Math.min(limit, MOST) : STEP,
    like: params.get("like") ?? "",
    passage: passage !== null && /^\d+$/.test(passage) ? Number(passage) : undefined,
    filters: params.getAll("filter"),
  };
}

/** The parameters of an address; what the server takes by default is left out. */
export function writeQuery(query: Query) {
  return {
    collection: query.collection,
    q: query.text,
    like: query.like,
    passage: query.passage,
    unit: query.unit === "passage" ? "" : query.unit,
    mode: query.mode === "hybrid" ? "" : query.mode,
    limit: query.limit === STEP ? "" : query.limit,
    filter: query.filters,
  };
}

/** Whether only vectors can be searched: sentences, and what is like a document, have no words to look up. */
export const vectorsOnly = (query: Query) => query.unit === "sentence" || query.like !== "";

/** The request of a search; undefined where there is nothing to look for. */
export async function requestOf(query: Query, signal: AbortSignal): Promise<SearchRequest | undefined> {
  const about = await subject(query, signal);
  if (!about) return undefined;
  const request: SearchRequest = {
    query: about,
    unit: UNITS[query.unit],
    mode: vectorsOnly(query) ? "SEARCH_MODE_VECTOR" : MODES[query.mode],
    limit: query.limit,
    include_highlights: true,
  };
  if (query.filters.length > 0) request.filter = { all: { filters: query.filters.map(condition) } };
  return request;
}

async function subject(query: Query, signal: AbortSignal): Promise<SearchRequest["query"]> {
  if (query.like === "") return query.text.trim() === "" ? undefined : { text: query.text };
  if (query.passage === undefined) return { document_id: query.like };
  const { document } = await getDocument(query.collection, query.like, signal);
  const passage = document.passages.find((one) => one.passage_index === query.passage);
  if (!passage) throw new ApiError(0, "NO_PASSAGE", "The document has changed: it has no such passage any more.");
  return { text: passage.text };
}

function condition(filter: string): Filter {
  const at = filter.indexOf("=");
  return { field: { key: filter.slice(0, at), equals: { string_value: filter.slice(at + 1) } } };
}

const oneOf = <T extends string>(names: Record<T, unknown>, value: string | null, otherwise: T): T =>
  value !== null && Object.hasOwn(names, value) ? (value as T) : otherwise;
