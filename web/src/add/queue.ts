// Files on their way to the server. The queue outlives the screen that filled it.
import { useEffect, useState } from "preact/hooks";
import { ApiError, isAbort } from "../api/error";
import type { DocumentResult } from "../api/types";
import { uploadFile } from "../api/upload";
import { bytes } from "../text/format";
import { announce } from "../ui/announce";
import type { FoundFile } from "./files";

export type JobState = "waiting" | "sending" | "working" | "indexed" | "unchanged" | "failed" | "stopped";

export interface Job {
  id: number;
  collection: string;
  path: string;
  size: number;
  state: JobState;
  /** Share that is sent, 0 to 1. */
  sent: number;
  passages: number;
  /** Id of the document that was made of it. */
  document: string;
  reason: string;
  message: string;
  warnings: string[];
}

/** Files that are sent side by side. */
const LANES = 3;
/** Times that a busy server is asked again. */
const TRIES = 6;

let jobs: Job[] = [];
let files = new Map<number, File>();
let nextId = 1;
let lanes = 0;
let control = new AbortController();
const listeners = new Set<() => void>();

export const isEnded = (job: Job) => !["waiting", "sending", "working"].includes(job.state);

/** Sends files to a collection; larger ones than the server takes fail at once. */
export function enqueue(collection: string, found: FoundFile[], mostBytes: number, onEnd: () => void) {
  if (jobs.every(isEnded)) control = new AbortController();
  const added = found.map(({ path, file }) => {
    const job: Job = { id: nextId++, collection, path, size: file.size, state: "waiting", sent: 0, passages: 0, document: path, reason: "", message: "", warnings: [] };
    const large = mostBytes > 0 && file.size > mostBytes;
    if (!large) files.set(job.id, file);
    return large ? { ...job, ...tooLarge(file.size, mostBytes) } : job;
  });
  jobs = [...jobs, ...added];
  changed();
  while (lanes < LANES && jobs.some((job) => job.state === "waiting")) void lane(onEnd);
}

/** Sends no more files; what the server has is kept. */
export function stopAll() {
  control.abort();
  files = new Map();
  jobs = jobs.map((job) => (job.state === "waiting" ? { ...job, state: "stopped" } : job));
  changed();
}

/** Takes ended files off the list. */
export function clearEnded() {
  jobs = jobs.filter((job) => !isEnded(job));
  changed();
}

/** The files, followed as they change. */
export function useJobs(): Job[] {
  const [shown, setShown] = useState(jobs);
  useEffect(() => {
    const follow = () => setShown(jobs);
    listeners.add(follow);
    follow();
    return () => void listeners.delete(follow);
  }, []);
  return shown;
}

async function lane(onEnd: () => void) {
  lanes += 1;
  for (let job = next(); job; job = next()) await run(job);
  lanes -= 1;
  if (lanes > 0) return;
  const failed = jobs.filter((job) => job.state === "failed").length;
  announce(failed > 0 ? `All files are done, ${failed} failed` : "All files are done");
  onEnd();
}

const next = () => jobs.find((job) => job.state === "waiting");

async function run(job: Job) {
  const { id } = job;
  const file = files.get(id);
  files.delete(id);
  if (!file) return change(id, { state: "stopped" });
  change(id, { state: "sending" });
  try {
    change(id, outcome(await send(job, file, control.signal)));
  } catch (error) {
    change(id, isAbort(error) ? { state: "stopped" } : failure(error as Error));
  }
}

async function send(job: Job, file: File, signal: AbortSignal): Promise<DocumentResult> {
  const onSent = (sent: number) => change(job.id, { sent, state: sent < 1 ? "sending" : "working" });
  for (let tried = 1; ; tried += 1) {
    try {
      return await uploadFile(job.collection, file, job.path, onSent, signal);
    } catch (error) {
      const busy = error instanceof ApiError && (error.status === 429 || error.status === 503);
      if (!busy || tried >= TRIES) throw error;
      await pause((error.retryAfter || tried) * 1000, signal);
    }
  }
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal.addEventListener("abort", stop, { once: true });
  });
}

/** What became of a document, as the list shows it. */
export function outcome(result: DocumentResult): Partial<Job> {
  const warnings = (result.warnings ?? []).map((one) => (one.page_number > 0 ? `Page ${one.page_number}: ${one.message}` : one.message));
  const common = { passages: result.passage_count, document: result.document_id, warnings };
  if (result.status === "DOCUMENT_STATUS_FAILED") return { ...common, state: "failed", reason: result.error_reason, message: result.error_message };
  return { ...common, state: result.status === "DOCUMENT_STATUS_UNCHANGED" ? "unchanged" : "indexed" };
}

function failure(error: Error): Partial<Job> {
  return { state: "failed", reason: error instanceof ApiError ? error.code : "", message: error.message };
}

const tooLarge = (size: number, most: number): Partial<Job> => ({
  state: "failed",
  reason: "FILE_TOO_LARGE",
  message: `expected at most ${bytes(most)}, got ${bytes(size)}`,
});

function change(id: number, changes: Partial<Job>) {
  jobs = jobs.map((job) => (job.id === id ? { ...job, ...changes } : job));
  changed();
}

/** Milliseconds within which changes are shown together. */
const TOGETHER = 30;
let due = false;

function changed() {
  if (due) return;
  due = true;
  setTimeout(() => {
    due = false;
    for (const listener of listeners) listener();
  }, TOGETHER);
}

addEventListener("beforeunload", (event) => {
  if (!jobs.every(isEnded)) event.preventDefault();
});
