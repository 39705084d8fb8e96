// The API key: asked for where the server wants one, kept as long as the tab.
const STORED = "trove-api-key";

let key = stored();
let asked: Promise<boolean> | undefined;
let ask: (reason: string) => Promise<string | undefined> = async () => undefined;

/** Says how a person is asked for a key. */
export function askForKeyBy(question: typeof ask) {
  ask = question;
}

/** The header that carries the key, if there is one. */
export function keyHeader(): Record<string, string> {
  return key === "" ? {} : { Authorization: `Bearer ${key}` };
}

/** Whether requests carry a key. */
export const hasKey = () => key !== "";

/** Forgets the key. */
export function forgetKey() {
  keep("");
}

/**
 * Asks for another key than the one that was refused. Requests that fail together ask once. False where the person
 * gives none.
 */
export function renewKey(refused: string, reason: string): Promise<boolean> {
  if (refused !== key) return Promise.resolve(true);
  asked ??= ask(reason)
    .then((given) => {
      if (given === undefined) return false;
      keep(given);
      return true;
    })
    .finally(() => (asked = undefined));
  return asked;
}

/** The key itself, to tell whether it was changed meanwhile. */
export const currentKey = () => key;

function keep(value: string) {
  key = value;
  try {
    if (value === "") sessionStorage.removeItem(STORED);
    else sessionStorage.setItem(STORED, value);
  } catch {
    // Without storage the key lives as long as the page.
  }
}

function stored(): string {
  try {
    return sessionStorage.getItem(STORED) ?? "";
  } catch {
    return "";
  }
}
