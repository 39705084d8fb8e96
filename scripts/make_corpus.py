#!/usr/bin/env python3
"""Makes a corpus of real English passages for the benches from documentation packages of Debian.

    python3 scripts/make_corpus.py corpus.jsonl [--passages 100000] [--packages git-doc python3.11-doc ...]

Packages are fetched with `apt-get download` and unpacked with `dpkg-deb`, on Debian or Ubuntu, without being
installed. Every HTML or text page is cut into passages of whole paragraphs of 40 to 160 words; each passage is written
once, as {"id", "title", "text"}, one a line. Licences are those of the packages.
"""

import argparse
import gzip
import hashlib
import html.parser
import json
import pathlib
import re
import subprocess
import sys
import tempfile

PACKAGES = [
    "apache2-doc", "cppreference-doc-en-html", "debian-handbook", "debian-policy", "erlang-doc", "git-doc",
    "nodejs-doc", "postgresql-doc-15", "python-django-doc", "python-pandas-doc", "python-sklearn-doc",
    "python3.11-doc", "rust-doc", "sqlite3-doc", "vim-doc",
]  # fmt: skip
LEAST_WORDS, MOST_WORDS = 40, 160
# Elements that end a paragraph, and those whose text is not prose.
BLOCKS = {"p", "div", "li", "dt", "dd", "h1", "h2", "h3", "h4", "h5", "h6", "tr", "section", "article", "br", "hr"}
SKIPPED = {"script", "style", "nav", "pre", "table", "header", "footer", "head"}


class Page(html.parser.HTMLParser):
    """Collects the title and the paragraphs of a page."""

    def __init__(self):
        super().__init__()
        self.title, self.paragraphs, self.words, self.skipped, self.in_title = "", [], [], [], False

    def handle_starttag(self, tag, attributes):
        self.in_title = self.in_title or tag == "title"
        if tag in SKIPPED:
            self.skipped.append(tag)
        if tag in BLOCKS:
            self.end_paragraph()

    def handle_endtag(self, tag):
        if tag == "title":
            self.in_title = False
        if tag in self.skipped:
            del self.skipped[self.skipped.index(tag) :]
        if tag in BLOCKS:
            self.end_paragraph()

    def handle_data(self, data):
        if self.in_title:
            self.title += data
        elif not self.skipped:
            self.words += data.replace("¶", " ").split()

    def end_paragraph(self):
        if self.words:
            self.paragraphs.append(" ".join(self.words))
            self.words = []


def page(path):
    """Title and paragraphs of a file; none where it is neither HTML nor text."""
    name = path.name.removesuffix(".gz")
    if not name.endswith((".html", ".htm", ".txt")):
        return "", []
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.name.endswith(".gz") else data).decode("utf-8", "replace")
    if name.endswith(".txt"):
        return name, [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
    parser = Page()
    parser.feed(text)
    parser.end_paragraph()
    return " ".join(parser.title.split()), parser.paragraphs


def passages(paragraphs):
    """Whole paragraphs, joined until there are enough words; longer ones are cut at words."""
    words = []
    for paragraph in paragraphs:
        if len(re.findall(r"[A-Za-z]", paragraph)) * 2 < len(paragraph):
            continue
        words += paragraph.split()
        while len(words) > MOST_WORDS:
            yield " ".join(words[:MOST_WORDS])
            words = words[MOST_WORDS:]
        if len(words) >= LEAST_WORDS:
            yield " ".join(words)
            words = []


def records(root, package):
    for path in sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink()):
        title, paragraphs = page(path)
        for number, text in enumerate(passages(paragraphs)):
            yield {"id": f"{package}/{path.relative_to(root)}#{number}", "title": title, "text": text}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--passages", type=int, default=100_000, help="stop after so many")
    parser.add_argument("--packages", nargs="+", default=PACKAGES, metavar="NAME")
    arguments = parser.parse_args()
    seen = set()
    with arguments.out.open("w", encoding="utf-8") as out, tempfile.TemporaryDirectory() as work:
        for package in arguments.packages:
            folder = pathlib.Path(work, package)
            folder.mkdir()
            subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True)
            archive = next(folder.glob("*.deb"))
            subprocess.run(["dpkg-deb", "-x", archive, folder / "files"], check=True)
            for record in records(folder / "files", package):
                digest = hashlib.sha256(record["text"].encode()).digest()
                if len(seen) == arguments.passages:
                    break
                if digest not in seen:
                    seen.add(digest)
                    out.write(json.dumps(record, ensure_ascii=False) + "\n")
            print(f"{package}: {len(seen)} passages so far", file=sys.stderr)
    return 0 if seen else 1


if __name__ == "__main__":
    sys.exit(main())
