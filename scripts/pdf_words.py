#!/usr/bin/env python3
"""Compares the words that Trove reads in PDF files with those that PyMuPDF finds.

    pdf_words.py --worker target/release/trove --pdfium DATA_DIR/pdfium FOLDER...

A word is a run of two or more letters or digits, compared without case, accents and forms of ligatures, each as often as a
file has it; one that is divided at the end of a line counts as one. Files in which PyMuPDF finds no more than ten words are
left out. Prints a line for each file that loses a tenth of its words or more, and a table by folder. Needs PyMuPDF.
"""
import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys
import time
import unicodedata

import pymupdf

MIN_WORDS = 11
TIMEOUT_SECONDS = 60


def words(text: str) -> collections.Counter:
    text = re.sub(r"(?<=\w)[-\u00ad\u2010]\s*\n\s*(?=[a-z])", "", text)
    text = unicodedata.normalize("NFKD", text).casefold()
    text = "".join(c for c in text if not unicodedata.combining(c))
    return collections.Counter(word for word in re.findall(r"[^\W_]+", text) if len(word) > 1)


def theirs(path: pathlib.Path):
    """What PyMuPDF finds, with what is typed into fields and notes; `None` where it cannot open the file."""
    try:
        with pymupdf.open(path) as document:
            if document.needs_pass:
                return None
            return "\n".join(page.get_text() for page in document)
    except Exception:  # a file that it cannot read is no measure
        return None


def ours(args, path: pathlib.Path):
    """The text and the reason of the error, one of them empty."""
    data = path.read_bytes()
    environment = {"TROVE_EXTRACT_PDFIUM": str(args.pdfium), "TROVE_EXTRACT_MEMORY_BYTES": str(2 << 30)}
    command = [str(args.worker), "extract-worker", "application/pdf", str(len(data))]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    try:
        # The worker ends when its input is closed, which `communicate` does at once.
        worker.stdin.write(data)
        worker.stdin.flush()
        out = worker.stdout.read() if args.no_timeout else read_all(worker)
    except (BrokenPipeError, TimeoutError) as error:
        worker.kill()
        return "", f"{type(error).__name__}"
    finally:
        worker.stdin.close() if not worker.stdin.closed else None
        worker.wait()
    lines = out.strip().splitlines()
    if not lines:
        return "", f"crashed with {worker.returncode}"
    answer = json.loads(lines[-1])
    if "ok" in answer:
        extracted = answer["ok"]
        return extracted["text"], ",".join(sorted({w["reason"] for w in extracted["warnings"]}))
    return "", f"{answer['error']['reason']}: {answer['error']['message']}"


def read_all(worker) -> bytes:
    import threading

    timer = threading.Timer(TIMEOUT_SECONDS, worker.kill)
    timer.start()
    try:
        return worker.stdout.read()
    finally:
        timer.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", type=pathlib.Path, required=True, help="the program trove, or the example extract_worker")
    parser.add_argument("--pdfium", type=pathlib.Path, required=True, help="the PDFium library or its folder")
    parser.add_argument("--no-timeout", action="store_true")
    parser.add_argument("--show", type=int, default=8, help="missing words to name for each file")
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    print("| files of | compared | lose a tenth | lose half | words found | seconds |\n|---|---|---|---|---|---|")
    for folder in args.folders:
        compared = tenth = half = all_words = all_found = 0
        started, seconds = time.monotonic(), 0.0
        for path in sorted(folder.rglob("*.pdf")):
            text = theirs(path)
            expected = words(text) if text else collections.Counter()
            if expected.total() < MIN_WORDS:
                continue
            started = time.monotonic()
            got, told = ours(args, path)
            seconds += time.monotonic() - started
            missing = expected - words(got)
            share = 1 - missing.total() / expected.total()
            compared += 1
            all_words += expected.total()
            all_found += expected.total() - missing.total()
            tenth += share <= 0.9
            half += share <= 0.5
            if share <= 0.9:
                named = " ".join(word for word, _ in missing.most_common(args.show))
                print(f"{share:7.1%} of {expected.total()} {path.name}: {told}: {named}", file=sys.stderr)
        found = all_found / max(all_words, 1)
        print(f"| {folder.name} | {compared} | {tenth} | {half} | {found:.1%} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
