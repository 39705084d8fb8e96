import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { ApiError } from "../api/error";
import type { Piece } from "../text/utf8";

/** The heading of a screen; it takes the focus when the screen opens, so that reading starts there. */
export function Title({ children, hidden = false }: { children: ComponentChildren; hidden?: boolean }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    if (!hidden) heading.current?.focus({ preventScroll: true });
  }, []);
  return (
    <h1 ref={heading} tabIndex={-1} class={hidden ? "unseen" : "title"}>
      {children}
    </h1>
  );
}

/** An error, with its stable reason. */
export function Failure({ error, children }: { error: Error; children?: ComponentChildren }) {
  return (
    <div class="failure" role="alert">
      <p>
        {sentence(error.message)}
        {error instanceof ApiError && error.status > 0 && <span class="reason">{error.code}</span>}
      </p>
      {children}
    </div>
  );
}

const sentence = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);

/** What a screen says where there is nothing to show yet. */
export function Empty({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function Busy({ children }: { children: ComponentChildren }) {
  return (
    <p class="busy">
      <span class="dots" aria-hidden="true" />
      {children}
    </p>
  );
}

/** Text with its marked parts. */
export function Marked({ pieces }: { pieces: Piece[] }) {
  return <>{pieces.map((piece) => (piece.marked ? <mark>{piece.text}</mark> : piece.text))}</>;
}

interface ChoiceProps<T extends string> {
  label: string;
  name: string;
  value: T;
  options: readonly { value: T; label: string; disabled?: boolean }[];
  onChange: (value: T) => void;
}

/** A row of options, one of which is chosen. */
export function Choice<T extends string>({ label, name, value, options, onChange }: ChoiceProps<T>) {
  return (
    <fieldset class="choice">
      <legend class="unseen">{label}</legend>
      {options.map((option) => (
        <label key={option.value}>
          <input
            type="radio"
            name={name}
            value={option.value}
            checked={option.value === value}
            disabled={option.disabled ?? false}
            onChange={() => onChange(option.value)}
          />
          <span>{option.label}</span>
        </label>
      ))}
    </fieldset>
  );
}
