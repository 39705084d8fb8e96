/** What went wrong, in words for people, with the server's stable reason. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    /** Seconds after which the server asks to be tried again; zero where it does not say. */
    readonly retryAfter = 0,
  ) {
    super(message);
  }
}

/** Reads the error in the body of an answer, whatever sent it: a proxy answers in its own form. */
export function errorOf(status: number, body: string, retryAfter: string | null): ApiError {
  const seconds = Math.max(0, Number(retryAfter ?? 0) || 0);
  const error = errorField(body);
  if (!error) return new ApiError(status, `HTTP_${status}`, `The server answered with status ${status}.`, seconds);
  return new ApiError(status, error.code, error.message, seconds);
}

/** The error of `{"error": {"code", "message"}}`, if that is what the text is. */
export function errorField(body: string): { code: string; message: string } | undefined {
  try {
    const { error } = JSON.parse(body);
    if (typeof error?.message !== "string") return undefined;
    return { code: String(error.code ?? "UNKNOWN"), message: error.message };
  } catch {
    return undefined;
  }
}

export const unreachable = () => new ApiError(0, "UNREACHABLE", "The server cannot be reached. Is it running?");

/** Whether the request was given up by the page itself. */
export const isAbort = (error: unknown) => error instanceof DOMException && error.name === "AbortError";
