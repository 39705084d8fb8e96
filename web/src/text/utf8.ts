// Spans of the API count bytes of UTF-8; strings here count UTF-16 units. This is the one place that maps them.
import type { ByteSpan } from "../api/types";

const encoder = new TextEncoder();
// ignoreBOM keeps a byte order mark, which would shift all that follows.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Number of bytes of a text. */
export const utf8Length = (text: string) => encoder.encode(text).length;

/** A text that is cut by byte offsets. */
export class Utf8Text {
  private readonly bytes: Uint8Array;

  constructor(text: string) {
    this.bytes = encoder.encode(text);
  }

  get length() {
    return this.bytes.length;
  }

  /** The text between two offsets; one that lies outside, or within a character, is moved to the start of that character. */
  slice(start: number, end: number): string {
    return decoder.decode(this.bytes.subarray(this.boundary(start), this.boundary(end)));
  }

  /** The start of the character at an offset. */
  boundary(offset: number): number {
    let at = Math.min(Math.max(Math.trunc(offset) || 0, 0), this.bytes.length);
    while (at > 0 && at < this.bytes.length && ((this.bytes[at] ?? 0) & 0xc0) === 0x80) at -= 1;
    return at;
  }
}

/** A piece of a text, marked or not. */
export interface Piece {
  text: string;
  marked: boolean;
}

/** Cuts the part [start, end) of a text at the borders of a marked span. */
export function pieces(text: Utf8Text, start: number, end: number, mark: ByteSpan | undefined): Piece[] {
  const from = Math.min(Math.max(mark?.start ?? end, start), end);
  const to = Math.min(Math.max(mark?.end ?? end, from), end);
  return [
    { text: text.slice(start, from), marked: false },
    { text: text.slice(from, to), marked: true },
    { text: text.slice(to, end), marked: false },
  ].filter((piece) => piece.text !== "");
}
