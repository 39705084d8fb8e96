import { useEffect, useRef, useState } from "preact/hooks";
import { announce } from "./announce";
import { Dialog } from "./dialog";

/** Copies a text; where the browser does not allow that, as over plain HTTP, it shows the text to be copied by hand. */
export function CopyButton({ label, text }: { label: string; text: () => string }) {
  const [shown, setShown] = useState<string>();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    const timer = copied ? setTimeout(() => setCopied(false), 2000) : undefined;
    return () => clearTimeout(timer);
  }, [copied]);

  async function copy() {
    const content = text();
    try {
      await navigator.clipboard.writeText(content);
      setCopied(true);
      announce("Copied");
    } catch {
      setShown(content);
    }
  }

  return (
    <>
      <button type="button" class="quiet" onClick={copy}>
        {copied ? "Copied" : label}
      </button>
      {shown !== undefined && (
        <Dialog title={label} onClose={() => setShown(undefined)}>
          <Selected text={shown} />
          <div class="actions">
            <button type="button" onClick={() => setShown(undefined)}>
              Close
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}

function Selected({ text }: { text: string }) {
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => field.current?.select(), []);
  return <textarea ref={field} class="code" rows={8} readOnly aria-label="Text to copy" value={text} />;
}
