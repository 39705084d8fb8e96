import { expect, test } from "@playwright/test";
import type { AnswerDone, Citation } from "../../src/api/types";
import { after, history, isQuoted, isRefused, opened, segments } from "../../src/ask/turn";

const citation = (number: number, start: number, end: number, from = 0): Citation => ({
  number,
  answer_span: { start, end },
  passage_span: { start: from, end: from + 1 },
  score: 1,
});

const done = (changes: Partial<AnswerDone>): AnswerDone => ({
  text: "",
  finish_reason: "FINISH_REASON_STOP",
  support: [],
  model: "",
  kind: "ANSWER_KIND_WRITTEN",
  missing_claim: "",
  ...changes,
});

test("an answer grows by its events, and is cut at its cited sentences", () => {
  let turn = opened("Who?");
  turn = after(turn, { delta: "Émile wrote it." });
  turn = after(turn, { citation: citation(2, 0, 16) });
  turn = after(turn, { citation: citation(2, 0, 16) });
  turn = after(turn, { citation: citation(1, 0, 16) });
  turn = after(turn, { delta: " So they say." });
  expect(segments(turn).map((part) => [part.text, part.citations.map((one) => one.number)])).toEqual([
    ["Émile wrote it.", [2, 1]],
    [" So they say.", []],
  ]);
});

test("sentences that nothing supports are told apart", () => {
  const support = [
    { answer_span: { start: 0, end: 4 }, number: 1, score: 1 },
    { answer_span: { start: 5, end: 9 }, number: 0, score: 0 },
  ];
  const turn = after(opened("?"), { done: done({ text: "One. Two.", support }) });
  expect(segments(turn).map((part) => [part.text, part.supported])).toEqual([
    ["One. ", true],
    ["Two.", false],
  ]);
});

test("how an answer came to be is known at its end, and guessed before by its mode", () => {
  const retrieval = { hits: [], used_count: 0, query: "", mode: "ANSWER_MODE_GENERATIVE" as const, answerability: 1, answerability_threshold: 0, dropped_history_count: 0, damaged_hits: 0 };
  const running = after(opened("?"), { retrieval });
  expect(isQuoted(running)).toBe(false);
  expect(isQuoted(after(running, { done: done({ kind: "ANSWER_KIND_QUOTED" }) }))).toBe(true);
  expect(isQuoted(after(opened("?"), { retrieval: { ...retrieval, mode: "ANSWER_MODE_EXTRACTIVE" } }))).toBe(true);
});

test("the history holds answered questions alone", () => {
  const answered = after(opened("One?"), { done: done({ text: "One." }) });
  const refused = after(opened("Two?"), { done: done({ kind: "ANSWER_KIND_REFUSED", finish_reason: "FINISH_REASON_NOT_ANSWERABLE" }) });
  const running = after(opened("Three?"), { delta: "Thr" });
  expect(isRefused(refused)).toBe(true);
  expect(history([answered, refused, running])).toEqual([
    { role: "ROLE_USER", content: "One?" },
    { role: "ROLE_ASSISTANT", content: "One." },
  ]);
});
