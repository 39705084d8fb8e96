// Where the page is: a screen and its parameters, as the address has them.
import { useEffect, useState } from "preact/hooks";
import { root } from "./api/url";

export interface Place {
  screen: string;
  params: URLSearchParams;
}

type Params = Record<string, string | number | readonly string[] | undefined>;

const CHANGED = "trove:place";

/** The address of a screen; what is empty is left out. */
export function href(screen: string, params: Params = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    const values = Array.isArray(value) ? value : [value];
    for (const one of values) if (one !== undefined && one !== "") query.append(name, String(one).toWellFormed());
  }
  const search = query.toString();
  return root.pathname + screen + (search ? `?${search}` : "");
}

/** Goes to an address of the page. */
export function go(address: string, { replace = false } = {}) {
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  dispatchEvent(new Event(CHANGED));
  if (!replace) scrollTo(0, 0);
}

/** The place the page is at, followed as it changes. */
export function usePlace(): Place {
  const [place, setPlace] = useState(here);
  useEffect(() => {
    const follow = () => setPlace(here());
    addEventListener("popstate", follow);
    addEventListener(CHANGED, follow);
    return () => {
      removeEventListener("popstate", follow);
      removeEventListener(CHANGED, follow);
    };
  }, []);
  return place;
}

/** Lets links within the page change the screen without loading the page again. */
export function followLinks() {
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest("a[href]") : null;
    if (!(link instanceof HTMLAnchorElement) || link.target || link.hasAttribute("download")) return;
    if (link.origin !== root.origin || !link.pathname.startsWith(root.pathname) || link.hash) return;
    event.preventDefault();
    go(link.href);
  });
}

function here(): Place {
  const screen = location.pathname.slice(root.pathname.length);
  return { screen: screen === "" ? "search" : screen, params: new URLSearchParams(location.search) };
}
