// One question and what came of it, event by event.
import type { AnswerDone, AnswerResponse, Citation, Message, Retrieval } from "../api/types";
import { Utf8Text } from "../text/utf8";

export type TurnState = "running" | "done" | "stopped" | "failed";

export interface Turn {
  question: string;
  state: TurnState;
  text: string;
  citations: Citation[];
  retrieval?: Retrieval;
  done?: AnswerDone;
  error?: Error;
}

export const opened = (question: string): Turn => ({ question, state: "running", text: "", citations: [] });

/** The turn after an event of its answer. */
export function after(turn: Turn, event: AnswerResponse): Turn {
  if (event.retrieval) return { ...turn, retrieval: event.retrieval };
  if (event.citation) return { ...turn, citations: [...turn.citations, event.citation] };
  if (event.done) return { ...turn, done: event.done, text: event.done.text, state: "done" };
  if (event.delta !== undefined) return { ...turn, text: turn.text + event.delta };
  return turn;
}

/** Whether the text is made of the documents' own sentences. While it is being made, its mode tells. */
export function isQuoted(turn: Turn): boolean {
  if (turn.done) return turn.done.kind === "ANSWER_KIND_QUOTED";
  return turn.retrieval?.mode === "ANSWER_MODE_EXTRACTIVE";
}

/** Whether there is no answer in the documents. */
export const isRefused = (turn: Turn) =>
  turn.done?.kind === "ANSWER_KIND_REFUSED" ||
  turn.done?.finish_reason === "FINISH_REASON_NOT_ANSWERABLE" ||
  turn.done?.finish_reason === "FINISH_REASON_NO_CONTEXT";

/** The conversation so far, as the next question carries it; questions without an answer are left out. */
export function history(turns: Turn[]): Message[] {
  return turns
    .filter((turn) => turn.state === "done" && turn.text.trim() !== "")
    .flatMap((turn): Message[] => [
      { role: "ROLE_USER", content: turn.question },
      { role: "ROLE_ASSISTANT", content: turn.text },
    ]);
}

/** A part of the answer's text, with what it rests on. */
export interface Segment {
  text: string;
  citations: Citation[];
  /** False where the server found no passage that supports it. */
  supported: boolean;
}

/** Cuts the answer at its cited and its unsupported sentences. */
export function segments(turn: Turn): Segment[] {
  const text = new Utf8Text(turn.text);
  const unsupported = (turn.done?.support ?? []).filter((one) => one.number === 0).map((one) => one.answer_span);
  const spans = [...turn.citations.map((one) => one.answer_span), ...unsupported].filter((span) => span !== undefined);
  const borders = [...new Set([0, ...spans.flatMap((span) => [text.boundary(span.start), text.boundary(span.end)]), text.length])];
  borders.sort((a, b) => a - b);
  return borders.slice(0, -1).map((start, index) => {
    const end = borders[index + 1] ?? start;
    return {
      text: text.slice(start, end),
      citations: distinct(turn.citations.filter((one) => one.answer_span && text.boundary(one.answer_span.end) === end)),
      supported: !unsupported.some((span) => span && span.start <= start && end <= span.end),
    };
  });
}

// The same sentence of a passage may be named more than once.
function distinct(citations: Citation[]): Citation[] {
  const seen = new Set<string>();
  return citations.filter((one) => {
    const key = `${one.number} ${one.passage_span?.start}`;
    return !seen.has(key) && seen.add(key);
  });
}
