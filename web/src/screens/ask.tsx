import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { after, history, isQuoted, isRefused, opened, segments, type Turn } from "../ask/turn";
import { answer } from "../api/endpoints";
import { isAbort } from "../api/error";
import type { AnswerMode, Citation, SearchHit } from "../api/types";
import { go, href, type Place } from "../router";
import { announce } from "../ui/announce";
import { CollectionChooser, NoCollections, useCollection, useCollections, EmptyCollection } from "../ui/collections";
import { Busy, Choice, Failure, Title } from "../ui/parts";
import { nameOf, PassageText, placeOf, Trail } from "./hit";

type Way = "auto" | "quoted" | "written";

const MODES: Record<Way, AnswerMode> = {
  auto: "ANSWER_MODE_AUTO",
  quoted: "ANSWER_MODE_EXTRACTIVE",
  written: "ANSWER_MODE_GENERATIVE",
};
const WAYS = [
  { value: "auto", label: "As fits" },
  { value: "quoted", label: "Quoted" },
  { value: "written", label: "Written" },
] as const;

export function AskScreen({ place }: { place: Place }) {
  const collection = useCollection(place.params);
  const collections = useCollections();
  const first = place.params.get("q") ?? "";
  const named = place.params.get("answer");
  const way: Way = named === "quoted" || named === "written" ? named : "auto";
  const { turns, ask, stop, open } = useConversation(collection, way);

  // The address holds the first question: opening it asks that one.
  useEffect(() => {
    if (collection !== "") open(first);
  }, [collection, first]);

  const address = (changes: Record<string, string>) => href("ask", { collection, q: first, answer: way === "auto" ? "" : way, ...changes });

  function submit(question: string) {
    if (turns.length > 0) return ask(question, turns);
    go(address({ q: question }));
  }

  const running = turns.at(-1)?.state === "running";
  const chosen = collections.value?.collections.find((one) => one.name === collection);
  return (
    <div class={turns.length === 0 ? "ask columns fresh" : "ask columns"}>
      <Title hidden>Ask</Title>
      {turns.length === 0 && <NoCollections />}
      {chosen?.document_count === 0 && <EmptyCollection name={collection} />}
      <ol class="turns columns">
        {turns.map((turn, index) => (
          <TurnView key={index} turn={turn} collection={collection} />
        ))}
      </ol>
      <QuestionForm
        follow={turns.length > 0}
        running={running}
        onAsk={submit}
        onStop={stop}
        options={
          <>
            <CollectionChooser value={collection} onChange={(name) => go(address({ collection: name, q: "" }))} />
            <Choice<Way>
              label="The answer is"
              name="way"
              value={way}
              options={WAYS}
              onChange={(value) => go(address({ answer: value === "auto" ? "" : value }), { replace: true })}
            />
            {turns.length > 0 && (
              <a class="new" href={href("ask", { collection, answer: way === "auto" ? "" : way })}>
                New conversation
              </a>
            )}
          </>
        }
      />
      {turns.length === 0 && chosen && chosen.document_count > 0 && (
        <p class="invitation">Answers come from the documents of “{collection}” alone, each sentence with its source.</p>
      )}
    </div>
  );
}

/** The conversation that was shown last: the way back from a document leads to it, and asks nothing again. */
let kept: { key: string; turns: Turn[] } = { key: "", turns: [] };

/** The turns of a conversation, and what can be done with it. */
function useConversation(collection: string, way: Way) {
  const [turns, setTurns] = useState<Turn[]>([]);
  const shown = useRef("");
  const control = useRef<AbortController>(undefined);
  useEffect(() => () => control.current?.abort(), []);
  useEffect(() => {
    if (shown.current !== "") kept = { key: shown.current, turns };
  }, [turns]);

  const last = (change: (turn: Turn) => Turn) =>
    setTurns((all) => all.map((turn, index) => (index === all.length - 1 ? change(turn) : turn)));

  async function ask(question: string, before: Turn[]) {
    control.current?.abort();
    const mine = new AbortController();
    control.current = mine;
    setTurns([...before, opened(question)]);
    announce("Looking for an answer");
    const request = {
      question,
      history: history(before),
      mode: MODES[way],
      search: { include_highlights: true },
    };
    try {
      for await (const event of answer(collection, request, mine.signal)) {
        if (mine.signal.aborted) return;
        last((turn) => after(turn, event));
      }
      last((turn) => (turn.state === "running" ? { ...turn, state: "failed", error: new Error("The answer broke off.") } : turn));
      announce("The answer is complete");
    } catch (error) {
      if (isAbort(error) || mine.signal.aborted) return;
      last((turn) => ({ ...turn, state: "failed", error: error as Error }));
    }
  }

  function stop() {
    control.current?.abort();
    last((turn) => (turn.state === "running" ? { ...turn, state: "stopped" } : turn));
  }

  /** Shows the conversation that begins with a question; one that is not kept begins anew. */
  function open(first: string) {
    const key = JSON.stringify([collection, first]);
    if (shown.current === key) return;
    shown.current = key;
    control.current?.abort();
    if (kept.key === key) setTurns(kept.turns.map((turn) => (turn.state === "running" ? { ...turn, state: "stopped" } : turn)));
    else if (first.trim() === "") setTurns([]);
    else void ask(first, []);
  }

  return { turns, ask, stop, open };
}

interface QuestionFormProps {
  follow: boolean;
  running: boolean;
  onAsk: (question: string) => void;
  onStop: () => void;
  options: ComponentChildren;
}

function QuestionForm({ follow, running, onAsk, onStop, options }: QuestionFormProps) {
  const [text, setText] = useState("");
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus({ preventScroll: true }), []);
  return (
    <form
      class="ask-bar"
      onSubmit={(event) => {
        event.preventDefault();
        if (running || text.trim() === "") return;
        onAsk(text.trim());
        setText("");
      }}
    >
      <div class="line">
        <input
          ref={field}
          type="text"
          class="big"
          aria-label={follow ? "Follow-up question" : "Question"}
          placeholder={follow ? "Ask a follow-up" : "Ask the documents"}
          autocomplete="off"
          enterkeyhint="send"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        {running ? (
          <button type="button" class="main" onClick={onStop}>
            Stop
          </button>
        ) : (
          <button type="submit" class="main">
            Ask
          </button>
        )}
      </div>
      <div class="options">{options}</div>
    </form>
  );
}

interface TurnProps {
  turn: Turn;
  collection: string;
}

function TurnView({ turn, collection }: TurnProps) {
  const item = useRef<HTMLLIElement>(null);
  // A question that was just asked comes into view.
  useEffect(() => {
    if (turn.state === "running") item.current?.scrollIntoView({ block: "start" });
  }, []);
  return (
    <li ref={item} class="turn columns" aria-busy={turn.state === "running"}>
      <h2 class="question" dir="auto">{turn.question}</h2>
      <div class="turn-parts columns">
        <div class="answer">
          {turn.state === "running" && turn.text === "" && <Busy>{turn.retrieval ? "Reading what was found" : "Searching"}</Busy>}
          {isRefused(turn) ? <Refusal turn={turn} collection={collection} /> : <AnswerText turn={turn} collection={collection} />}
          {turn.state === "stopped" && <p class="note">Stopped.</p>}
          {turn.error && <Failure error={turn.error} />}
        </div>
        {!isRefused(turn) && <Sources turn={turn} collection={collection} />}
      </div>
    </li>
  );
}

function AnswerText({ turn, collection }: TurnProps) {
  if (turn.text === "") return null;
  const quoted = isQuoted(turn);
  const parts = segments(turn);
  return (
    <>
      <p class="kind">{quoted ? "In the words of the documents" : writer(turn)}</p>
      {quoted ? (
        parts
          .filter((part) => part.text.trim() !== "")
          .map((part, index) => (
            <blockquote key={index}>
              <p dir="auto">
                {part.text.trim()}
                <Numbers citations={part.citations} collection={collection} />
              </p>
            </blockquote>
          ))
      ) : (
        <p class="written" dir="auto">
          {parts.map((part, index) => (
            <span key={index} class={part.supported ? undefined : "unsupported"}>
              {part.text}
              {!part.supported && <span class="unseen"> (no passage supports this)</span>}
              <Numbers citations={part.citations} collection={collection} />
            </span>
          ))}
        </p>
      )}
      <Ending turn={turn} />
    </>
  );
}

const writer = (turn: Turn) => (turn.done?.model ? `Written by ${turn.done.model} from the documents` : "Written from the documents");

/** What became of the end of an answer, where it did not just end. */
function Ending({ turn }: { turn: Turn }) {
  const { done, retrieval } = turn;
  return (
    <>
      {done?.finish_reason === "FINISH_REASON_LENGTH" && <p class="note">The answer is cut off: it reached its greatest length.</p>}
      {done?.finish_reason === "FINISH_REASON_CANCELLED" && <p class="note">The server stopped the answer.</p>}
      {done?.missing_claim && (
        <p class="note">Part of what the model wrote is left out: the passages do not say “{done.missing_claim}”.</p>
      )}
      {(retrieval?.dropped_history_count ?? 0) > 0 && (
        <p class="note">The oldest {retrieval?.dropped_history_count} messages of the conversation found no room.</p>
      )}
    </>
  );
}

function Numbers({ citations, collection }: { citations: Citation[]; collection: string }) {
  return (
    <>
      {citations.map(
        (one) =>
          one.passage && (
            <sup key={`${one.number} ${one.passage_span?.start}`}>
              <a class="number" href={placeOf(collection, one.passage, one.passage_span)} aria-label={`Source ${one.number}`}>
                {one.number}
              </a>
            </sup>
          ),
      )}
    </>
  );
}

function Refusal({ turn, collection }: TurnProps) {
  const { retrieval, done } = turn;
  const hits = retrieval?.hits ?? [];
  return (
    <>
      <p class="refusal">
        {done?.finish_reason === "FINISH_REASON_NO_CONTEXT" || hits.length === 0
          ? "Nothing was found for this question."
          : "These documents do not answer this."}
      </p>
      {retrieval && hits.length > 0 && <Likelihood value={retrieval.answerability} least={retrieval.answerability_threshold} />}
      {done?.missing_claim && (
        <p class="note">What the model wrote is left out: the passages do not say “{done.missing_claim}”.</p>
      )}
      {hits.length > 0 && (
        <section class="sources" aria-label="What was found">
          <h3>What was found</h3>
          <HitList hits={hits.slice(0, 5)} collection={collection} />
        </section>
      )}
    </>
  );
}

function Likelihood({ value, least }: { value: number; least: number }) {
  if (value >= least) return null;
  return (
    <p class="note">
      The closest sentence answers it with a probability of {percent(value)}; {percent(least)} is needed.
    </p>
  );
}

const percent = (value: number) => `${Math.round(value * 100)} %`;

/** The sources of an answer: those it cites with what they say, then the others that were found. */
function Sources({ turn, collection }: TurnProps) {
  const hits = turn.retrieval?.hits ?? [];
  if (hits.length === 0) return null;
  const cited = new Map<number, Citation>();
  for (const citation of turn.citations) if (!cited.has(citation.number)) cited.set(citation.number, citation);
  const others = hits.filter((_, index) => !cited.has(index + 1));
  return (
    <aside class="sources" aria-label="Sources">
      {cited.size > 0 && <h3>Sources</h3>}
      <ol>
        {[...cited.values()]
          .sort((a, b) => a.number - b.number)
          .map((citation) => (
            <Source key={citation.number} citation={citation} hit={hits[citation.number - 1]} collection={collection} />
          ))}
      </ol>
      {others.length > 0 && (
        <details>
          <summary>
            {cited.size > 0 ? "Also found" : "Found"} ({others.length})
          </summary>
          <HitList hits={others} collection={collection} />
        </details>
      )}
    </aside>
  );
}

function Source({ citation, hit, collection }: { citation: Citation; hit: SearchHit | undefined; collection: string }) {
  const { passage, passage_span: span } = citation;
  if (!passage) return null;
  const title = hit?.title ?? "";
  return (
    <li class="source">
      <p class="source-head">
        <span class="number" aria-hidden="true">
          {citation.number}
        </span>
        <a href={placeOf(collection, passage, span)}>
          <span class="unseen">{citation.number}: </span>
          {nameOf(title, passage.document_id)}
        </a>
      </p>
      <Trail passage={passage} title={title} />
      <PassageText text={passage.text} mark={span} />
    </li>
  );
}

function HitList({ hits, collection }: { hits: SearchHit[]; collection: string }) {
  return (
    <ul>
      {hits.map((hit, index) => {
        const { passage } = hit;
        if (!passage) return null;
        const mark = hit.highlights[0]?.span;
        return (
          <li key={index} class="source">
            <p class="source-head">
              <a href={placeOf(collection, passage, mark)}>{nameOf(hit.title, passage.document_id)}</a>
            </p>
            <Trail passage={passage} title={hit.title} />
            <PassageText text={passage.text} mark={mark} />
          </li>
        );
      })}
    </ul>
  );
}
