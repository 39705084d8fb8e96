import { ApiError } from "./error";

// All addresses are relative to where the page lies, so that it works behind a prefix of a proxy too. Every screen's
// path is one segment below it.

/** The page's folder, such as /ui/. */
export const root = new URL(".", location.href);

/** The address of a path of the API, such as "collections/notes". */
export const apiUrl = (path: string) => new URL(`../api/v1/${path}`, root).href;

/** A path of the API; each part is percent-encoded, slashes too. */
export const apiPath = (...parts: string[]) => parts.map(encodePart).join("/");

// Browsers take a part of one or two dots for a step in the path, percent-encoded or not.
function encodePart(part: string): string {
  if (part === "." || part === "..") throw new ApiError(0, "BAD_ID", `A browser cannot ask for “${part}”; use the trove command.`);
  return encodeURIComponent(part.toWellFormed());
}
