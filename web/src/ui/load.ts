import { useEffect, useState } from "preact/hooks";
import { isAbort } from "../api/error";

/** Something that is loaded. While it is loaded anew, what was there before stays. */
export interface Loaded<T> {
  value?: T;
  error?: Error;
  loading: boolean;
}

/**
 * Loads when the inputs change; what is outdated is given up. Nothing is loaded where there is no `load`. What is known
 * from before is shown until then.
 */
export function useLoaded<T>(load: ((signal: AbortSignal) => Promise<T>) | undefined, inputs: readonly unknown[], known?: T): Loaded<T> {
  const [loaded, setLoaded] = useState<Loaded<T>>(() => ({ loading: load !== undefined, ...(known === undefined ? {} : { value: known }) }));
  useEffect(() => {
    if (!load) return setLoaded({ loading: false });
    const control = new AbortController();
    setLoaded((before) => (before.value === undefined ? { loading: true } : { value: before.value, loading: true }));
    load(control.signal).then(
      (value) => control.signal.aborted || setLoaded({ value, loading: false }),
      (error) => control.signal.aborted || isAbort(error) || setLoaded({ error, loading: false }),
    );
    return () => control.abort();
  }, inputs);
  return loaded;
}
