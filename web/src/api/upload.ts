import { ApiError, errorOf, unreachable } from "./error";
import { currentKey, keyHeader, renewKey } from "./key";
import type { DocumentResult, UpsertDocumentsResponse } from "./types";
import { apiPath, apiUrl } from "./url";

/** Sends one file, whose path becomes the document's id, and tells the share that is sent, 0 to 1. */
export async function uploadFile(
  collection: string,
  file: File,
  path: string,
  onSent: (share: number) => void,
  signal: AbortSignal,
): Promise<DocumentResult> {
  await checkReadable(file);
  const form = new FormData();
  form.append("file", file, path);
  for (;;) {
    const used = currentKey();
    try {
      return await post(apiUrl(apiPath("collections", collection, "files")), form, onSent, signal);
    } catch (error) {
      const again = error instanceof ApiError && error.status === 401 && (await renewKey(used, error.message));
      if (!again) throw error;
      signal.throwIfAborted();
    }
  }
}

// A file that was moved or changed since it was chosen would look like a broken connection.
async function checkReadable(file: File) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new ApiError(0, "UNREADABLE", "The browser cannot read this file any more.");
  }
}

// By XMLHttpRequest: fetch does not tell how much is sent.
function post(url: string, form: FormData, onSent: (share: number) => void, signal: AbortSignal): Promise<DocumentResult> {
  const request = new XMLHttpRequest();
  const stop = () => request.abort();
  const answered = new Promise<DocumentResult>((resolve, reject) => {
    request.upload.onprogress = ({ loaded, total }) => onSent(total > 0 ? loaded / total : 1);
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    request.onerror = () => reject(unreachable());
    request.onload = () => settle(request, resolve, reject);
  });
  signal.throwIfAborted();
  signal.addEventListener("abort", stop);
  request.open("POST", url);
  for (const [name, value] of Object.entries(keyHeader())) request.setRequestHeader(name, value);
  request.setRequestHeader("Accept", "application/json");
  request.send(form);
  return answered.finally(() => signal.removeEventListener("abort", stop));
}

function settle(request: XMLHttpRequest, resolve: (result: DocumentResult) => void, reject: (error: Error) => void) {
  const { status, responseText } = request;
  if (status !== 200) return reject(errorOf(status, responseText, request.getResponseHeader("Retry-After")));
  const result = firstResult(responseText);
  if (result) resolve(result);
  else reject(new ApiError(status, "BAD_ANSWER", "The server's answer tells nothing of the file."));
}

function firstResult(body: string): DocumentResult | undefined {
  try {
    return (JSON.parse(body) as UpsertDocumentsResponse).results[0];
  } catch {
    return undefined;
  }
}
