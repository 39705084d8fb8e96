import type { ByteSpan } from "../api/types";
import { type Piece, pieces, Utf8Text } from "./utf8";

/** Most characters that an excerpt shows around its marked sentence. */
const AROUND = 220;
/** Most characters of a text without a marked sentence. */
const PLAIN = 420;

export interface Excerpt {
  pieces: Piece[];
  /** Whether something was left out. */
  cut: boolean;
}

/** What of a passage is shown first: its marked sentence and some of what stands around it. */
export function excerpt(text: string, mark: ByteSpan | undefined): Excerpt {
  const whole = new Utf8Text(text);
  const all = pieces(whole, 0, whole.length, mark).map((piece) => ({ ...piece, text: withoutRules(piece.text) }));
  const at = all.findIndex((piece) => piece.marked);
  if (at < 0) return shortened(all, PLAIN);

  const shown = all.map((piece, index) => {
    if (index === at) return piece;
    return { ...piece, text: index < at ? ending(piece.text, AROUND) : beginning(piece.text, AROUND) };
  });
  return { pieces: shown, cut: shown.some((piece, index) => piece.text !== all[index]?.text) };
}

// Leaders of a table of contents, and lines drawn with characters, say nothing in running text.
const withoutRules = (text: string) => text.replace(/([-=._*~^+#|])(?:[ \t]*\1){3,}/g, "…");

function shortened(all: Piece[], length: number): Excerpt {
  const shown = all.map((piece) => ({ ...piece, text: beginning(piece.text, length) }));
  return { pieces: shown, cut: shown.some((piece, index) => piece.text !== all[index]?.text) };
}

/** The first words of a text. */
export function beginning(text: string, length: number): string {
  if (text.length <= length) return text;
  const space = text.slice(0, length).search(/\s\S*$/);
  return `${text.slice(0, space > 0 ? space : length).toWellFormed()} …`;
}

function ending(text: string, length: number): string {
  if (text.length <= length) return text;
  const tail = text.slice(-length);
  const space = tail.search(/\s/);
  return `… ${tail.slice(space >= 0 ? space + 1 : 0).toWellFormed()}`;
}
