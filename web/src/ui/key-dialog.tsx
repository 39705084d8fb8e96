import { useEffect, useState } from "preact/hooks";
import { askForKeyBy, hasKey } from "../api/key";
import { Dialog } from "./dialog";

interface Question {
  reason: string;
  answer: (key: string | undefined) => void;
}

/** Asks for an API key when the server wants one. */
export function KeyDialog() {
  const [question, setQuestion] = useState<Question>();
  const [key, setKey] = useState("");
  useEffect(() => askForKeyBy((reason) => new Promise((answer) => setQuestion({ reason, answer }))), []);
  if (!question) return null;

  function close(given: string | undefined) {
    question?.answer(given);
    setQuestion(undefined);
    setKey("");
  }

  return (
    <Dialog title={hasKey() ? "This key was not accepted" : "This server asks for a key"} onClose={() => close(undefined)}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (key.trim() !== "") close(key.trim());
        }}
      >
        {hasKey() && <p>{question.reason}</p>}
        <label class="field">
          API key
          <input
            type="password"
            autocomplete="off"
            spellcheck={false}
            required
            value={key}
            onInput={(event) => setKey(event.currentTarget.value)}
          />
        </label>
        <p class="hint">
          It is kept until this tab closes. <code>trove keys create</code> makes one, where the server runs.
        </p>
        <div class="actions">
          <button type="submit" class="main">
            Use this key
          </button>
          <button type="button" onClick={() => close(undefined)}>
            Cancel
          </button>
        </div>
      </form>
    </Dialog>
  );
}
