import { useEffect, useRef, useState } from "preact/hooks";
import { chosen, dropped, type Found } from "../add/files";
import { clearEnded, enqueue, isEnded, type Job, outcome, stopAll, useJobs } from "../add/queue";
import { addText, getInfo } from "../api/endpoints";
import { go, href, type Place } from "../router";
import { bytes, count, counted } from "../text/format";
import { announce } from "../ui/announce";
import { CollectionChooser, useCollection, useCollections } from "../ui/collections";
import { useLoaded } from "../ui/load";
import { Failure, Title } from "../ui/parts";
import { CreateDialog } from "./collections";

export function AddScreen({ place }: { place: Place }) {
  const collections = useCollections();
  const collection = useCollection(place.params);
  const [creating, setCreating] = useState(false);
  const choose = (name: string) => go(href("add", { collection: name }), { replace: true });
  return (
    <>
      <Title>Add documents</Title>
      {collections.error && <Failure error={collections.error} />}
      <div class="options">
        {collection !== "" && <CollectionChooser value={collection} onChange={choose} />}
        {collections.value && (
          <button type="button" class={collection === "" ? "main" : "quiet"} onClick={() => setCreating(true)}>
            New collection
          </button>
        )}
      </div>
      {creating && <CreateDialog onClose={() => setCreating(false)} onCreated={choose} />}
      {collection === "" && collections.value && <p class="lead">Documents go into a collection: make one first.</p>}
      {collection !== "" && <Drop collection={collection} reload={collections.reload} />}
      <Jobs />
      {collection !== "" && <Paste collection={collection} reload={collections.reload} />}
    </>
  );
}

interface IntoProps {
  collection: string;
  reload: () => void;
}

function Drop({ collection, reload }: IntoProps) {
  const info = useLoaded(getInfo, []);
  const most = info.value?.limits?.max_document_bytes ?? 0;
  const [over, setOver] = useState(false);
  const [left, setLeft] = useState<Found>();
  const files = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);

  function take(found: Found) {
    setLeft(found);
    enqueue(collection, found.files, most, reload);
  }

  function fromField(field: HTMLInputElement) {
    if (field.files) take(chosen(field.files));
    // The same file can be chosen again.
    field.value = "";
  }

  useStrayDrops();
  return (
    <section
      class={over ? "drop over" : "drop"}
      aria-label="Files"
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        if (event.dataTransfer) void dropped(event.dataTransfer.items).then(take);
      }}
    >
      <p class="drop-title">Drop files or a folder here</p>
      <div class="actions">
        <button type="button" onClick={() => files.current?.click()}>
          Choose files
        </button>
        <button type="button" onClick={() => folder.current?.click()}>
          Choose a folder
        </button>
      </div>
      <input ref={files} type="file" multiple hidden aria-label="Files" onChange={(event) => fromField(event.currentTarget)} />
      <input
        ref={folder}
        type="file"
        hidden
        aria-label="Folder"
        {...{ webkitdirectory: true }}
        onChange={(event) => fromField(event.currentTarget)}
      />
      <p class="hint">
        {most > 0 && `At most ${bytes(most)} each. `}
        For whole folders <code>trove index</code> is faster.
      </p>
      {left && <LeftOut found={left} />}
    </section>
  );
}

/** What a drop or a choice brought that is not sent. */
function LeftOut({ found }: { found: Found }) {
  return (
    <>
      {found.hidden > 0 && <p class="note">{counted(found.hidden, "hidden file or folder", "hidden files and folders")} left out.</p>}
      {found.unreadable.length > 0 && <p class="note">The browser could not read {found.unreadable.join(", ")}.</p>}
      {found.files.length === 0 && <p class="note">There was no file to add.</p>}
    </>
  );
}

/** A file that is dropped beside the field would take the place of the page. */
function useStrayDrops() {
  useEffect(() => {
    const ignore = (event: DragEvent) => event.preventDefault();
    addEventListener("dragover", ignore);
    addEventListener("drop", ignore);
    return () => {
      removeEventListener("dragover", ignore);
      removeEventListener("drop", ignore);
    };
  }, []);
}

/** Most rows that are shown besides the failures. */
const ROWS = 100;

function Jobs() {
  const jobs = useJobs();
  if (jobs.length === 0) return null;
  const ended = jobs.filter(isEnded);
  const failed = jobs.filter((job) => job.state === "failed");
  const others = jobs.filter((job) => job.state !== "failed");
  const order = (job: Job) => (job.state === "waiting" ? 1 : isEnded(job) ? 2 : 0);
  const rows = [...others].sort((a, b) => order(a) - order(b)).slice(0, ROWS);
  return (
    <section class="jobs" aria-label="Progress">
      <div class="jobs-head">
        <label>
          <span>
            {count(ended.length)} of {counted(jobs.length, "file")} done
            {failed.length > 0 && `, ${count(failed.length)} failed`}
          </span>
          <progress max={jobs.length} value={ended.length} />
        </label>
        {ended.length < jobs.length ? (
          <button type="button" onClick={stopAll}>
            Stop
          </button>
        ) : (
          <button type="button" onClick={clearEnded}>
            Clear the list
          </button>
        )}
      </div>
      <ul class="list">
        {[...failed, ...rows].map((job) => (
          <JobRow key={job.id} job={job} />
        ))}
      </ul>
      {others.length > rows.length && <p class="hint">and {counted(others.length - rows.length, "more file")}</p>}
    </section>
  );
}

const STATES: Record<Job["state"], string> = {
  waiting: "waiting",
  sending: "sending",
  working: "reading and encoding",
  indexed: "added",
  unchanged: "unchanged",
  failed: "not added",
  stopped: "stopped",
};

function JobRow({ job }: { job: Job }) {
  const done = job.state === "indexed" || job.state === "unchanged";
  return (
    <li class={`job ${job.state}`}>
      {done ? <a href={href("document", { collection: job.collection, id: job.document })}>{job.path}</a> : <span>{job.path}</span>}
      <span class="state">
        {STATES[job.state]}
        {done && `, ${counted(job.passages, "passage")}`}
      </span>
      {(job.state === "sending" || job.state === "working") && (
        <progress aria-label={`Sending ${job.path}`} max={1} {...(job.state === "sending" ? { value: job.sent } : {})} />
      )}
      {job.message && (
        <p class="problem">
          {job.message} {job.reason && <span class="reason">{job.reason}</span>}
        </p>
      )}
      {job.warnings.map((warning, index) => (
        <p key={index} class="warning">
          {warning}
        </p>
      ))}
    </li>
  );
}

function Paste({ collection, reload }: IntoProps) {
  const [title, setTitle] = useState("");
  const [text, setText] = useState("");
  const [error, setError] = useState<Error>();
  const [added, setAdded] = useState<{ id: string; text: string; warnings: string[] }>();
  const [running, setRunning] = useState(false);

  async function add() {
    setRunning(true);
    setError(undefined);
    setAdded(undefined);
    try {
      const { results } = await addText(collection, { id: "", title: title.trim(), text });
      const [result] = results;
      if (!result) throw new Error("The server's answer tells nothing of the text.");
      const { state, passages = 0, message, warnings = [] } = outcome(result);
      if (state === "failed") throw new Error(`${message} (${result.error_reason})`);
      const words = `${state === "unchanged" ? "Already there" : "Added"}: ${counted(passages, "passage")}`;
      setAdded({ id: result.document_id, text: words, warnings });
      announce(words);
      setTitle("");
      setText("");
      reload();
    } catch (failure) {
      setError(failure as Error);
    } finally {
      setRunning(false);
    }
  }

  return (
    <form
      class="paste"
      onSubmit={(event) => {
        event.preventDefault();
        if (text.trim() !== "" && !running) void add();
      }}
    >
      <h2>Or paste text</h2>
      <label class="field">
        Title
        <input value={title} onInput={(event) => setTitle(event.currentTarget.value)} />
      </label>
      <label class="field">
        Text
        <textarea rows={6} required value={text} onInput={(event) => setText(event.currentTarget.value)} />
      </label>
      {error && <Failure error={error} />}
      {added && (
        <p class="done">
          {added.text}. <a href={href("document", { collection, id: added.id })}>Open it</a>
        </p>
      )}
      {added?.warnings.map((warning, index) => (
        <p key={index} class="warning">
          {warning}
        </p>
      ))}
      <div class="actions">
        <button type="submit" class="main" disabled={running}>
          {running ? "Adding" : "Add text"}
        </button>
      </div>
    </form>
  );
}
