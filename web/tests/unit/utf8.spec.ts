import { expect, test } from "@playwright/test";
import { pieces, Utf8Text, utf8Length } from "../../src/text/utf8";

test("offsets count bytes of UTF-8, not characters", () => {
  const text = new Utf8Text("aé€𝄞z");
  expect(text.length).toBe(11);
  expect(text.slice(1, 3)).toBe("é");
  expect(text.slice(3, 6)).toBe("€");
  expect(text.slice(6, 10)).toBe("𝄞");
  expect(text.slice(10, 11)).toBe("z");
});

test("an offset within a character is moved to its start, one outside the text to its end", () => {
  const text = new Utf8Text("€uro");
  expect(text.slice(2, 4)).toBe("€u");
  expect(text.slice(-5, 99)).toBe("€uro");
  expect(text.slice(5, 4)).toBe("");
  expect(text.slice(Number.NaN, 3)).toBe("€");
});

test("a byte order mark counts", () => {
  const text = new Utf8Text("\uFEFFabc");
  expect(text.length).toBe(6);
  expect(text.slice(0, 4)).toBe("\uFEFFa");
});

test("a text is cut at the borders of its mark", () => {
  const text = new Utf8Text("née à Köln");
  const from = utf8Length("née ");
  expect(pieces(text, 0, text.length, { start: from, end: from + utf8Length("à") })).toEqual([
    { text: "née ", marked: false },
    { text: "à", marked: true },
    { text: " Köln", marked: false },
  ]);
});

test("a mark that begins before and ends after a part marks all of it", () => {
  const text = new Utf8Text("one two three");
  expect(pieces(text, 4, 7, { start: 0, end: 13 })).toEqual([{ text: "two", marked: true }]);
  expect(pieces(text, 4, 7, { start: 8, end: 13 })).toEqual([{ text: "two", marked: false }]);
  expect(pieces(text, 4, 7, { start: 0, end: 4 })).toEqual([{ text: "two", marked: false }]);
  expect(pieces(text, 4, 7, undefined)).toEqual([{ text: "two", marked: false }]);
});
