import { call, stream } from "./client";
import type {
  AnswerRequest,
  AnswerResponse,
  Collection,
  ListCollectionsResponse,
  ListDocumentsResponse,
  SearchRequest,
  SearchResponse,
  ServerInfo,
  TroveDocument,
  UpsertDocumentsResponse,
} from "./types";
import { apiPath } from "./url";

export const getInfo = (signal?: AbortSignal) => call<ServerInfo>("info", withSignal(signal));

/** All collections, by name, and the names of those that are damaged. */
export async function listCollections(signal?: AbortSignal): Promise<{ collections: Collection[]; damaged: string[] }> {
  const collections: Collection[] = [];
  const damaged: string[] = [];
  let token = "";
  do {
    const query = new URLSearchParams({ page_size: "1000", page_token: token });
    const page = await call<ListCollectionsResponse>(`collections?${query}`, withSignal(signal));
    collections.push(...page.collections);
    damaged.push(...page.damaged);
    token = page.next_page_token;
  } while (token !== "");
  return { collections, damaged };
}

export const createCollection = (collection: Partial<Collection>) =>
  call<unknown>("collections", { body: { collection } });

export const deleteCollection = (name: string) =>
  call<unknown>(`${apiPath("collections", name)}?force=true`, { method: "DELETE" });

export const searchPath = (collection: string) => apiPath("collections", collection, "search");

export const search = (collection: string, request: SearchRequest, signal?: AbortSignal) =>
  call<SearchResponse>(searchPath(collection), { body: request, ...withSignal(signal) });

export const answer = (collection: string, request: AnswerRequest, signal: AbortSignal) =>
  stream<AnswerResponse>(apiPath("collections", collection, "answer"), { body: request, signal });

export function listDocuments(collection: string, token: string, signal?: AbortSignal) {
  const query = new URLSearchParams({ page_size: "100", page_token: token });
  return call<ListDocumentsResponse>(`${apiPath("collections", collection, "documents")}?${query}`, withSignal(signal));
}

const documentPath = (collection: string, id: string) => apiPath("collections", collection, "documents", id);

export const getDocument = (collection: string, id: string, signal?: AbortSignal) =>
  call<{ document: TroveDocument }>(documentPath(collection, id), withSignal(signal));

export const deleteDocument = (collection: string, id: string) =>
  call<unknown>(documentPath(collection, id), { method: "DELETE" });

export const addText = (collection: string, document: { id: string; title: string; text: string }) =>
  call<UpsertDocumentsResponse>(apiPath("collections", collection, "documents"), { body: { documents: [document] } });

const withSignal = (signal: AbortSignal | undefined) => (signal ? { signal } : {});
