import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Collection } from "../api/types";
import { href } from "../router";
import { count, counted } from "../text/format";
import { Busy, Empty, Failure } from "./parts";
import type { Loaded } from "./load";

export interface Collections extends Loaded<{ collections: Collection[]; damaged: string[] }> {
  reload: () => void;
}

/** All collections of the server, loaded once and after each change. */
export const CollectionsContext = createContext<Collections>({ loading: true, reload: () => undefined });

export const useCollections = () => useContext(CollectionsContext);

/** The collection that the address names; where it names none, the first one that has documents. */
export function useCollection(params: URLSearchParams): string {
  const { value } = useCollections();
  const named = params.get("collection");
  if (named) return named;
  const all = value?.collections ?? [];
  return (all.find((one) => one.document_count > 0) ?? all[0])?.name ?? "";
}

interface ChooserProps {
  value: string;
  onChange: (name: string) => void;
}

/** Chooses a collection. */
export function CollectionChooser({ value, onChange }: ChooserProps) {
  const { value: loaded } = useCollections();
  const all = loaded?.collections ?? [];
  if (value === "" && all.length === 0) return null;
  const unknown = value !== "" && !all.some((one) => one.name === value);
  return (
    <label class="chooser">
      <span>in</span>
      <select aria-label="Collection" value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {unknown && <option value={value}>{value}</option>}
        {all.map((one) => (
          <option key={one.name} value={one.name}>
            {one.name} ({count(one.document_count)})
          </option>
        ))}
      </select>
    </label>
  );
}

/** What stands in the place of a screen that needs a collection where there is none yet; nothing where there is one. */
export function NoCollections() {
  const { value, error, loading, reload } = useCollections();
  if (error)
    return (
      <Failure error={error}>
        <button type="button" onClick={reload}>
          Try again
        </button>
      </Failure>
    );
  if (!value) return loading ? <Busy>Loading</Busy> : null;
  if (value.collections.length > 0) return null;
  return <FirstSteps />;
}

/** How a server without documents gets some. */
export function FirstSteps() {
  return (
    <Empty title="Nothing is indexed yet">
      <p>Index a folder from a terminal:</p>
      <pre>trove index ~/notes</pre>
      <p>
        Or <a href={href("add")}>add files here</a>: Markdown, HTML, text and PDF.
      </p>
    </Empty>
  );
}

/** What stands in the place of results where a collection has no documents. */
export function EmptyCollection({ name }: { name: string }) {
  return (
    <Empty title={`“${name}” has no documents yet`}>
      <p>Index a folder from a terminal:</p>
      <pre>{`trove index ~/notes --collection ${name}`}</pre>
      <p>
        Or <a href={href("add", { collection: name })}>add files here</a>.
      </p>
    </Empty>
  );
}

/** How much a collection holds, in words. */
export const size = (one: Collection) => `${counted(one.document_count, "document")}, ${counted(one.passage_count, "passage")}`;
