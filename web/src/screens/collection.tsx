import { useEffect, useState } from "preact/hooks";
import { listDocuments } from "../api/endpoints";
import { isAbort } from "../api/error";
import type { DamagedDocument, TroveDocument } from "../api/types";
import { href, type Place } from "../router";
import { count, time } from "../text/format";
import { announce } from "../ui/announce";
import { EmptyCollection, size, useCollections } from "../ui/collections";
import { Busy, Failure, Title } from "../ui/parts";
import { nameOf } from "./hit";

/** The documents of a collection. */
export function CollectionScreen({ place }: { place: Place }) {
  const name = place.params.get("collection") ?? "";
  const { value } = useCollections();
  const known = value?.collections.find((one) => one.name === name);
  return (
    <>
      <p class="crumb">
        <a href={href("collections")}>Collections</a>
      </p>
      <Title>{name}</Title>
      {known && <p class="lead">{size(known)}</p>}
      <div class="hit-foot">
        <a href={href("search", { collection: name })}>Search</a>
        <a href={href("ask", { collection: name })}>Ask</a>
        <a href={href("add", { collection: name })}>Add</a>
      </div>
      <Documents key={name} collection={name} />
    </>
  );
}

interface Listing {
  documents: TroveDocument[];
  damaged: DamagedDocument[];
  /** Token of the next page; empty where there is none. */
  next: string;
}

function Documents({ collection }: { collection: string }) {
  const [listing, setListing] = useState<Listing>();
  const [error, setError] = useState<Error>();

  async function load(before: Listing | undefined, signal?: AbortSignal) {
    setError(undefined);
    try {
      const page = await listDocuments(collection, before?.next ?? "", signal);
      const documents = [...(before?.documents ?? []), ...page.documents];
      setListing({ documents, damaged: [...(before?.damaged ?? []), ...page.damaged], next: page.next_page_token });
      announce(`${count(documents.length)} documents listed`);
    } catch (failure) {
      if (!isAbort(failure)) setError(failure as Error);
    }
  }

  useEffect(() => {
    const control = new AbortController();
    void load(undefined, control.signal);
    return () => control.abort();
  }, []);

  return (
    <>
      {error && (
        <Failure error={error}>
          <button type="button" onClick={() => load(undefined)}>
            Try again
          </button>
        </Failure>
      )}
      {!listing && !error && <Busy>Loading</Busy>}
      {listing && listing.documents.length === 0 && listing.next === "" && <EmptyCollection name={collection} />}
      <ul class="list">
        {listing?.documents.map((one) => (
          <li key={one.id}>
            <a class="name" href={href("document", { collection, id: one.id })}>
              {nameOf(one.title, one.id)}
            </a>
            <span class="id">{one.id}</span>
            <span class="when">{time(one.update_time)}</span>
          </li>
        ))}
        {listing?.damaged.map((one) => (
          <li key={one.document_id} class="failed">
            <span>{one.document_id}</span>
            <span class="reason">{one.error_reason}</span>
            <span>{one.error_message}</span>
          </li>
        ))}
      </ul>
      {listing && listing.next !== "" && (
        <button type="button" class="more" onClick={() => load(listing)}>
          More documents
        </button>
      )}
    </>
  );
}
