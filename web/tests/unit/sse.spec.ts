import { expect, test } from "@playwright/test";
import { EventParser, readEvents } from "../../src/api/sse";

const STREAM = 'event: delta\r\ndata: {"delta":"é"}\r\n\r\n: a comment\n\nevent: done\ndata: one\ndata: two\n\ndata:plain\n\nevent: cut\ndata: lost';

test("events come out whole, however the text is cut", () => {
  const expected = [
    { name: "delta", data: '{"delta":"é"}' },
    { name: "done", data: "one\ntwo" },
    { name: "message", data: "plain" },
  ];
  for (let size = 1; size <= STREAM.length; size += 1) {
    const parser = new EventParser();
    const events = [];
    for (let at = 0; at < STREAM.length; at += size) events.push(...parser.push(STREAM.slice(at, at + size)));
    expect(events, `pieces of ${size}`).toEqual(expected);
  }
});

test("a character may be cut between two reads", async () => {
  const bytes = new TextEncoder().encode("data: €\n\n");
  const body = new ReadableStream<Uint8Array>({
    start(control) {
      for (const byte of bytes) control.enqueue(Uint8Array.of(byte));
      control.close();
    },
  });
  const events = [];
  for await (const event of readEvents(body)) events.push(event.data);
  expect(events).toEqual(["€"]);
});

test("who stops reading cancels the stream", async () => {
  let cancelled = false;
  const body = new ReadableStream<Uint8Array>({
    pull: (control) => control.enqueue(new TextEncoder().encode("data: again\n\n")),
    cancel: () => void (cancelled = true),
  });
  for await (const event of readEvents(body)) {
    expect(event.data).toBe("again");
    break;
  }
  expect(cancelled).toBe(true);
});
