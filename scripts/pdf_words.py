#!/usr/bin/env python3
"""Compares the words that Trove reads in PDF files with those that PyMuPDF finds.

    pdf_words.py --worker target/release/trove --pdfium DATA_DIR/pdfium FOLDER...

A word is a run of two or more letters or digits, compared without case, accents and forms of ligatures; one that is divided at
the end of a line counts as one. Each different word of a file counts once: repeated heads of pages, and words that are drawn
twice to look bold, are meant to be read less often. Left out are files in which PyMuPDF finds no more than ten different words,
or signs that are no letters: one in twenty is a control. Prints a line for each file that loses a tenth of its words or more,
and a table by folder. Needs PyMuPDF.
"""
import argparse
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


def words(text: str) -> set:
    text = text.replace("\u00ad", "") if "\u00ad\n" not in text else text
    text = re.sub(r"(?<=\w)[-\u00ad\u2010]\s*\n\s*(?=[a-z])", "", text)
    text = unicodedata.normalize("NFKD", text).casefold()
    text = "".join(c for c in text if not unicodedata.combining(c))
    return {word for word in re.findall(r"[^\W_]+", text) if len(word) > 1}


def is_garbage(text: str) -> bool:
    signs = [c for c in text if not c.isspace()]
    return sum(unicodedata.category(c) in {"Cc", "Co"} or c == "\ufffd" for c in signs) * 20 > len(signs)


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
        out = read_all(worker)
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
    parser.add_argument("--show", type=int, default=8, help="missing words to name for each file")
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    print("| files of | compared | lose a tenth | lose half | words found | seconds |\n|---|---|---|---|---|---|")
    for folder in args.folders:
        compared = tenth = half = all_words = all_found = 0
        started, seconds = time.monotonic(), 0.0
        for path in sorted(folder.rglob("*.pdf")):
            text = theirs(path)
            expected = words(text) if text and not is_garbage(text) else set()
            if len(expected) < MIN_WORDS:
                continue
            started = time.monotonic()
            got, told = ours(args, path)
            seconds += time.monotonic() - started
            missing = expected - words(got)
            share = 1 - len(missing) / len(expected)
            compared += 1
            all_words += len(expected)
            all_found += len(expected) - len(missing)
            tenth += share <= 0.9
            half += share <= 0.5
            if share <= 0.9:
                named = " ".join(sorted(missing)[: args.show])
                print(f"{share:7.1%} of {len(expected)} {path.name}: {told}: {named}", file=sys.stderr)
        found = all_found / max(all_words, 1)
        print(f"| {folder.name} | {compared} | {tenth} | {half} | {found:.1%} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
