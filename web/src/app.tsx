import { useEffect, useMemo, useState } from "preact/hooks";
import { isEnded, useJobs } from "./add/queue";
import { listCollections } from "./api/endpoints";
import { href, type Place, usePlace } from "./router";
import { AddScreen } from "./screens/add";
import { AskScreen } from "./screens/ask";
import { CollectionScreen } from "./screens/collection";
import { CollectionsScreen } from "./screens/collections";
import { DocumentScreen } from "./screens/document";
import { nameOf } from "./screens/hit";
import { SearchScreen } from "./screens/search";
import { StatusScreen } from "./screens/status";
import { Announcements } from "./ui/announce";
import { CollectionsContext } from "./ui/collections";
import { KeyDialog } from "./ui/key-dialog";
import { useLoaded } from "./ui/load";
import { Title } from "./ui/parts";

export function App() {
  const place = usePlace();
  const [version, setVersion] = useState(0);
  const loaded = useLoaded(listCollections, [version]);
  const collections = useMemo(() => ({ ...loaded, reload: () => setVersion((before) => before + 1) }), [loaded]);
  useEffect(() => {
    document.title = titleOf(place);
  }, [place]);

  return (
    <CollectionsContext.Provider value={collections}>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <Header place={place} />
      <main id="main" tabIndex={-1}>
        <Screen key={place.screen} place={place} />
      </main>
      <Announcements />
      <KeyDialog />
    </CollectionsContext.Provider>
  );
}

const SCREENS = [
  { screen: "search", label: "Search" },
  { screen: "ask", label: "Ask" },
  { screen: "collections", label: "Collections" },
  { screen: "add", label: "Add" },
  { screen: "status", label: "Status" },
] as const;

function Header({ place }: { place: Place }) {
  const collection = place.params.get("collection") ?? "";
  const left = useJobs().filter((job) => !isEnded(job)).length;
  return (
    <header class="top">
      <a class="brand" href={href("search", { collection })}>
        <Mark />
        Trove
      </a>
      <nav aria-label="Screens">
        {SCREENS.map(({ screen, label }) => (
          <a
            key={screen}
            href={href(screen, screen === "collections" || screen === "status" ? {} : { collection })}
            aria-current={screen === place.screen ? "page" : undefined}
          >
            {label}
            {screen === "add" && left > 0 && (
              <span class="badge">
                {left}
                <span class="unseen"> files left</span>
              </span>
            )}
          </a>
        ))}
      </nav>
    </header>
  );
}

function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" width="26" height="26" aria-hidden="true">
      <path class="gem" d="M9 5h14l7 9-14 14L2 14z" />
      <path class="light" opacity=".5" d="M9 5l7 9H2z" />
      <path class="light" opacity=".26" d="M23 5l-7 9h14z" />
      <path class="light" opacity=".14" d="M2 14h14v14z" />
    </svg>
  );
}

function Screen({ place }: { place: Place }) {
  switch (place.screen) {
    case "search":
      return <SearchScreen place={place} />;
    case "ask":
      return <AskScreen place={place} />;
    case "document":
      return <DocumentScreen place={place} />;
    case "collections":
      return <CollectionsScreen />;
    case "collection":
      return <CollectionScreen place={place} />;
    case "add":
      return <AddScreen place={place} />;
    case "status":
      return <StatusScreen />;
    default:
      return (
        <>
          <Title>There is no such page</Title>
          <p>
            <a href={href("search")}>Search</a> is where most things begin.
          </p>
        </>
      );
  }
}

function titleOf({ screen, params }: Place): string {
  const about = params.get("q") ?? (screen === "document" ? nameOf("", params.get("id") ?? "") : params.get("collection"));
  const label = SCREENS.find((one) => one.screen === screen)?.label;
  return [about, label, "Trove"].filter(Boolean).join(" · ");
}
