/** One event of a stream. */
export interface ServerEvent {
  name: string;
  data: string;
}

/** Reads server-sent events from the bytes of a response. */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      yield* parser.push(done ? decoder.decode() : decoder.decode(value, { stream: true }));
      if (done) return;
    }
  } finally {
    // Where the caller stops early, so does the server.
    await reader.cancel().catch(() => undefined);
  }
}

/** Splits text, as it comes, into events. */
export class EventParser {
  private rest = "";
  private name = "";
  private data: string[] = [];

  /** The events that are complete with this piece of text. */
  push(text: string): ServerEvent[] {
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    return lines.flatMap((line) => this.line(line));
  }

  private line(line: string): ServerEvent[] {
    if (line === "") return this.dispatch();
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
    if (field === "event") this.name = value ?? "";
    if (field === "data") this.data.push(value ?? "");
    return [];
  }

  private dispatch(): ServerEvent[] {
    const event = { name: this.name || "message", data: this.data.join("\n") };
    const empty = this.data.length === 0;
    this.name = "";
    this.data = [];
    return empty ? [] : [event];
  }
}
