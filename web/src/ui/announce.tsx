import { useEffect, useState } from "preact/hooks";

const SAID = "trove:said";

/** Tells people who listen to the page what changed in it. */
export function announce(text: string) {
  dispatchEvent(new CustomEvent(SAID, { detail: text }));
}

/** The one live region of the page. */
export function Announcements() {
  const [text, setText] = useState("");
  useEffect(() => {
    const say = (event: Event) => setText((event as CustomEvent<string>).detail);
    addEventListener(SAID, say);
    return () => removeEventListener(SAID, say);
  }, []);
  return (
    <div class="unseen" role="status" aria-live="polite">
      {text}
    </div>
  );
}
