import { ApiError, errorField, errorOf, isAbort, unreachable } from "./error";
import { currentKey, keyHeader, renewKey } from "./key";
import { readEvents } from "./sse";
import { apiUrl } from "./url";

export interface Call {
  method?: "GET" | "POST" | "DELETE";
  body?: unknown;
  signal?: AbortSignal;
}

/** Calls the API and gives the JSON of its answer. */
export async function call<T>(path: string, options: Call = {}): Promise<T> {
  const response = await send(path, options, "application/json");
  try {
    return (await response.json()) as T;
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError(response.status, "BAD_ANSWER", "The server's answer is not JSON.");
  }
}

/** Calls the API and gives the events of its answer as they come. */
export async function* stream<T>(path: string, options: Call): AsyncGenerator<T> {
  const response = await send(path, options, "text/event-stream");
  if (!response.body) throw unreachable();
  for await (const event of readEvents(response.body)) {
    if (event.data === "[DONE]") return;
    if (event.name === "error") {
      const error = errorField(event.data);
      throw new ApiError(response.status, error?.code ?? "UNKNOWN", error?.message ?? "The answer broke off.");
    }
    yield JSON.parse(event.data) as T;
  }
}

async function send(path: string, options: Call, accept: string): Promise<Response> {
  for (;;) {
    const used = currentKey();
    const response = await once(path, options, accept);
    if (response.ok) return response;
    const error = errorOf(response.status, await response.text(), response.headers.get("Retry-After"));
    const again = response.status === 401 && (await renewKey(used, error.message));
    if (!again) throw error;
    options.signal?.throwIfAborted();
  }
}

async function once(path: string, { method, body, signal }: Call, accept: string): Promise<Response> {
  const headers: Record<string, string> = { Accept: accept, ...keyHeader() };
  const init: RequestInit = { method: method ?? (body === undefined ? "GET" : "POST"), headers };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  if (signal) init.signal = signal;
  try {
    return await fetch(apiUrl(path), init);
  } catch (error) {
    throw isAbort(error) ? error : unreachable();
  }
}
