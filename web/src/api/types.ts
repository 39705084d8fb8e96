// The JSON of the messages of proto/trove/v1 that the page uses. Names and meanings are the proto's. What the proto
// marks `optional`, and messages, may be absent.

export interface ByteSpan {
  start: number;
  end: number;
}

export interface MetadataValue {
  string_value?: string;
  int_value?: number | string;
  double_value?: number | string;
  bool_value?: boolean;
  timestamp_value?: string;
  string_list?: { values: string[] };
}

export interface Passage {
  document_id: string;
  passage_index: number;
  span?: ByteSpan;
  text: string;
  headings: string[];
  page_number?: number | null;
}

export interface Highlight {
  span?: ByteSpan;
  similarity: number;
}

export interface SearchHit {
  passage?: Passage;
  score: number;
  vector_score?: number | null;
  keyword_score?: number | null;
  rerank_score?: number | null;
  sentence_score?: number | null;
  metadata: Record<string, MetadataValue>;
  highlights: Highlight[];
  title: string;
  source_uri: string;
}

export type SearchMode = "SEARCH_MODE_UNSPECIFIED" | "SEARCH_MODE_VECTOR" | "SEARCH_MODE_KEYWORD" | "SEARCH_MODE_HYBRID";
export type SearchUnit = "SEARCH_UNIT_PASSAGE" | "SEARCH_UNIT_SENTENCE" | "SEARCH_UNIT_DOCUMENT";

export interface Filter {
  all?: { filters: Filter[] };
  field?: { key: string; equals: MetadataValue };
}

export interface SearchRequest {
  query?: { text: string } | { document_id: string };
  limit?: number;
  filter?: Filter;
  mode?: SearchMode;
  unit?: SearchUnit;
  include_highlights?: boolean;
}

export interface SearchResponse {
  hits: SearchHit[];
  damaged_hits: number;
  mode: SearchMode;
}

export type AnswerMode = "ANSWER_MODE_AUTO" | "ANSWER_MODE_GENERATIVE" | "ANSWER_MODE_EXTRACTIVE";
export type AnswerKind = "ANSWER_KIND_UNSPECIFIED" | "ANSWER_KIND_WRITTEN" | "ANSWER_KIND_QUOTED" | "ANSWER_KIND_REFUSED";
export type FinishReason =
  | "FINISH_REASON_UNSPECIFIED"
  | "FINISH_REASON_STOP"
  | "FINISH_REASON_LENGTH"
  | "FINISH_REASON_NO_CONTEXT"
  | "FINISH_REASON_CANCELLED"
  | "FINISH_REASON_NOT_ANSWERABLE";

export interface Message {
  role: "ROLE_USER" | "ROLE_ASSISTANT";
  content: string;
}

export interface AnswerRequest {
  question: string;
  history: Message[];
  mode: AnswerMode;
  search: SearchRequest;
}

export interface Retrieval {
  hits: SearchHit[];
  used_count: number;
  query: string;
  mode: AnswerMode;
  answerability: number;
  answerability_threshold: number;
  dropped_history_count: number;
  damaged_hits: number;
}

export interface Citation {
  number: number;
  answer_span?: ByteSpan;
  passage?: Passage;
  passage_span?: ByteSpan;
  score: number;
}

export interface Support {
  answer_span?: ByteSpan;
  number: number;
  score: number;
}

export interface AnswerDone {
  text: string;
  finish_reason: FinishReason;
  support: Support[];
  model: string;
  kind: AnswerKind;
  missing_claim: string;
}

export interface AnswerResponse {
  retrieval?: Retrieval;
  delta?: string;
  citation?: Citation;
  done?: AnswerDone;
}

export interface Collection {
  name: string;
  description: string;
  model: string;
  dimensions: number;
  document_count: number;
  passage_count: number;
  update_time?: string;
  index_sentences: boolean;
  language: string;
}

export interface ListCollectionsResponse {
  collections: Collection[];
  next_page_token: string;
  damaged: string[];
}

export interface TroveDocument {
  id: string;
  title: string;
  source_uri: string;
  text?: string;
  mime_type: string;
  metadata: Record<string, MetadataValue>;
  content_hash: string;
  passages: Passage[];
  create_time?: string;
  update_time?: string;
}

export interface DamagedDocument {
  document_id: string;
  error_reason: string;
  error_message: string;
}

export interface ListDocumentsResponse {
  documents: TroveDocument[];
  next_page_token: string;
  damaged: DamagedDocument[];
}

export type DocumentStatus =
  | "DOCUMENT_STATUS_UNSPECIFIED"
  | "DOCUMENT_STATUS_INDEXED"
  | "DOCUMENT_STATUS_UNCHANGED"
  | "DOCUMENT_STATUS_FAILED"
  | "DOCUMENT_STATUS_UPDATED";

export interface DocumentResult {
  document_id: string;
  status: DocumentStatus;
  error_reason: string;
  error_message: string;
  passage_count: number;
  warnings?: Warning[];
}

export interface Warning {
  /** From one; zero where it is not about a page. */
  page_number: number;
  reason: string;
  message: string;
}

export interface UpsertDocumentsResponse {
  results: DocumentResult[];
}

export interface Model {
  id: string;
  kind: "MODEL_KIND_UNSPECIFIED" | "MODEL_KIND_ENCODER" | "MODEL_KIND_GENERATOR" | "MODEL_KIND_CROSS_ENCODER";
  revision: string;
  execution_provider: string;
  dimensions: number;
  max_tokens: number;
  precision: string;
}

export interface Limits {
  max_batch_size: number;
  max_message_bytes: number;
  max_concurrent_requests: number;
  max_document_bytes: number;
  max_text_bytes: number;
}

export interface ServerInfo {
  version: string;
  commit: string;
  schema_version: number;
  models: Model[];
  limits?: Limits;
}
