#!/usr/bin/env python3
"""Measures what is kept of web pages: the words of the articles that Readability's own tests expect.

    git clone --depth 1 https://github.com/mozilla/readability
    cargo build --release -p trove-text --example extract
    scripts/eval_html.py readability/test/test-pages [--program target/release/examples/extract] [--worst 10]

For each page: words of the extracted text that the expected article has too, counted as often as both have them.
Precision is their part of the extracted words, recall their part of the expected words.
"""
import argparse
import collections
import html.parser
import json
import pathlib
import re
import subprocess


class Text(html.parser.HTMLParser):
    """The text of a page as it stands, without scripts and styles."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.parts, self.skipped = [], 0

    def handle_starttag(self, tag, attrs):
        self.skipped += tag in {"script", "style"}
        self.parts.append("" if tag in {"a", "b", "i", "em", "strong", "span", "code", "u", "font"} else " ")

    def handle_endtag(self, tag):
        self.handle_starttag(tag, [])
        self.skipped -= 2 * (tag in {"script", "style"})

    def handle_data(self, data):
        if self.skipped <= 0:
            self.parts.append(data)


def text_of(page):
    parser = Text()
    parser.feed(page)
    parser.close()
    return "".join(parser.parts)


def words(text):
    return collections.Counter(re.findall(r"\w+", text.lower()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", type=pathlib.Path)
    parser.add_argument("--program", default="target/release/examples/extract")
    parser.add_argument("--worst", type=int, default=0, help="pages of the lowest precision and of the lowest recall to show")
    args = parser.parse_args()
    pages = sorted(page.parent for page in args.pages.glob("*/source.html"))
    rows, totals = [], collections.Counter()
    for page in pages:
        said = subprocess.run([args.program, page / "source.html"], capture_output=True, check=True).stdout
        got = words(json.loads(said)["text"])
        expected = words(text_of((page / "expected.html").read_text()))
        both, got, expected = (got & expected).total(), got.total(), expected.total()
        if not expected:
            continue
        totals.update(both=both, got=got, expected=expected)
        rows.append((page.name, both / max(got, 1), both / expected, got, expected))
    count = len(rows)
    print(f"{count} pages; mean precision {sum(r[1] for r in rows) / count:.3f}, "
          f"mean recall {sum(r[2] for r in rows) / count:.3f}; of all words: precision "
          f"{totals['both'] / totals['got']:.3f}, recall {totals['both'] / totals['expected']:.3f}; "
          f"pages of recall under 0.9: {sum(r[2] < 0.9 for r in rows)}")
    for by in (1, 2) if args.worst else ():
        print("lowest", ("precision", "recall")[by - 1])
        for row in sorted(rows, key=lambda row: row[by])[:args.worst]:
            print("  {:40} precision {:.3f} recall {:.3f} words {} of {}".format(*row))


if __name__ == "__main__":
    main()
