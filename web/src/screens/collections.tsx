import { useState } from "preact/hooks";
import { createCollection, deleteCollection } from "../api/endpoints";
import type { Collection } from "../api/types";
import { go, href } from "../router";
import { count, counted, model, time } from "../text/format";
import { announce } from "../ui/announce";
import { FirstSteps, size, useCollections } from "../ui/collections";
import { Dialog } from "../ui/dialog";
import { Busy, Failure, Title } from "../ui/parts";

export function CollectionsScreen() {
  const { value, error, loading } = useCollections();
  const [creating, setCreating] = useState(false);
  const all = value?.collections ?? [];
  return (
    <>
      <div class="screen-head">
        <Title>Collections</Title>
        <button type="button" class="main" onClick={() => setCreating(true)}>
          New collection
        </button>
      </div>
      {error && <Failure error={error} />}
      {!value && loading && <Busy>Loading</Busy>}
      {value && all.length === 0 && <FirstSteps />}
      {value && value.damaged.length > 0 && (
        <p class="note">
          {counted(value.damaged.length, "collection")} cannot be read: {value.damaged.join(", ")}. What they hold is kept.
        </p>
      )}
      <ul class="cards">
        {all.map((one) => (
          <Card key={one.name} collection={one} />
        ))}
      </ul>
      {creating && <CreateDialog onClose={() => setCreating(false)} />}
    </>
  );
}

function Card({ collection }: { collection: Collection }) {
  const [deleting, setDeleting] = useState(false);
  const { name } = collection;
  return (
    <li class="card">
      <h2>
        <a href={href("collection", { collection: name })}>{name}</a>
      </h2>
      {collection.description && <p>{collection.description}</p>}
      <dl class="counts">
        <div>
          <dt>documents</dt>
          <dd>{count(collection.document_count)}</dd>
        </div>
        <div>
          <dt>passages</dt>
          <dd>{count(collection.passage_count)}</dd>
        </div>
      </dl>
      <p class="id">
        {model(collection.model)}, {collection.language || "english"}
        {collection.index_sentences ? ", sentences indexed" : ""}
        <br />
        changed {time(collection.update_time)}
      </p>
      <div class="hit-foot">
        <a href={href("search", { collection: name })}>Search</a>
        <a href={href("ask", { collection: name })}>Ask</a>
        <a href={href("add", { collection: name })}>Add</a>
        <button type="button" class="quiet danger" aria-label={`Delete ${name}`} onClick={() => setDeleting(true)}>
          Delete
        </button>
      </div>
      {deleting && <DeleteDialog collection={collection} onClose={() => setDeleting(false)} />}
    </li>
  );
}

const LANGUAGES =
  "none arabic danish dutch english finnish french german greek hungarian italian norwegian portuguese romanian russian spanish swedish tamil turkish".split(
    " ",
  );

/** Makes a collection. */
export function CreateDialog({ onClose, onCreated }: { onClose: () => void; onCreated?: (name: string) => void }) {
  const { reload } = useCollections();
  const [name, setName] = useState("");
  const [description, setDescription] = useState("");
  const [language, setLanguage] = useState("english");
  const [sentences, setSentences] = useState(false);
  const [error, setError] = useState<Error>();

  async function create() {
    try {
      await createCollection({ name, description, language, index_sentences: sentences });
      announce(`${name} is created`);
      reload();
      onClose();
      if (onCreated) onCreated(name);
      else go(href("add", { collection: name }));
    } catch (failure) {
      setError(failure as Error);
    }
  }

  return (
    <Dialog title="New collection" onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void create();
        }}
      >
        <label class="field">
          Name
          <input
            required
            pattern="[a-z0-9_\-]{1,63}"
            maxLength={63}
            autocomplete="off"
            autocapitalize="none"
            spellcheck={false}
            aria-describedby="name-rule"
            value={name}
            onInput={(event) => setName(event.currentTarget.value)}
          />
        </label>
        <p class="hint" id="name-rule">
          Lower-case letters, digits, - and _.
        </p>
        <label class="field">
          Description
          <input value={description} onInput={(event) => setDescription(event.currentTarget.value)} />
        </label>
        <label class="field">
          Language of the documents
          <select value={language} onChange={(event) => setLanguage(event.currentTarget.value)}>
            {LANGUAGES.map((one) => (
              <option key={one} value={one}>
                {one === "none" ? "none: words as they stand" : one}
              </option>
            ))}
          </select>
        </label>
        <label class="tick">
          <input type="checkbox" checked={sentences} onChange={(event) => setSentences(event.currentTarget.checked)} />
          Index single sentences too
        </label>
        {error && <Failure error={error} />}
        <div class="actions">
          <button type="submit" class="main">
            Create
          </button>
          <button type="button" onClick={onClose}>
            Cancel
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function DeleteDialog({ collection, onClose }: { collection: Collection; onClose: () => void }) {
  const { reload } = useCollections();
  const [typed, setTyped] = useState("");
  const [error, setError] = useState<Error>();
  const [running, setRunning] = useState(false);

  async function remove() {
    setRunning(true);
    try {
      await deleteCollection(collection.name);
      announce(`${collection.name} is deleted`);
      onClose();
      reload();
    } catch (failure) {
      setError(failure as Error);
      setRunning(false);
    }
  }

  return (
    <Dialog title={`Delete “${collection.name}”?`} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (typed === collection.name) void remove();
        }}
      >
        <p>{size(collection)} are deleted with it. This cannot be undone.</p>
        <label class="field">
          Type its name to confirm
          <input
            autocomplete="off"
            autocapitalize="none"
            spellcheck={false}
            value={typed}
            onInput={(event) => setTyped(event.currentTarget.value)}
          />
        </label>
        {error && <Failure error={error} />}
        <div class="actions">
          <button type="button" onClick={onClose}>
            Keep it
          </button>
          <button type="submit" class="main danger" disabled={typed !== collection.name || running}>
            Delete
          </button>
        </div>
      </form>
    </Dialog>
  );
}
