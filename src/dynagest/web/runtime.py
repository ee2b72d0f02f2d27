"""Fetches and finds ONNX Runtime Web, which runs networks in the browser. Needs no torch.

Its files (41 MB) are too large for the repository. They are fetched once from the npm registry, by exact version and
checked against the digest below, into the user's cache folder, and then served from there.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from dynagest.errors import RunError

VERSION = "1.30.0"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # sha512
# The first three run networks on the CPU, and most browsers load only these; the others add WebGPU.
FILES = (
    *("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    *("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
)
FETCH = "dynagest serve --fetch-runtime"


def runtime_folder() -> Path:
    """The folder of this version's files, in ``$DYNAGEST_CACHE`` or else in the user's cache folder.

    Raises ``RunError`` when neither is known, as for a container's user that has no name.
    """
    if given := os.environ.get("DYNAGEST_CACHE"):
        base = Path(given)
    else:
        try:
            base = _user_cache() / "dynagest"
        except RuntimeError as error:
            raise RunError(
                "this user has no home folder to keep ONNX Runtime Web in; name a folder for it with DYNAGEST_CACHE"
            ) from error
    return base / f"onnxruntime-web-{VERSION}"


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def find_runtime() -> Path:
    """Return the folder with the files. Raises ``RunError``, which says how to fetch them, when one is missing."""
    folder = runtime_folder()
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise RunError(
            f"{folder}: lacks {missing[0]} of ONNX Runtime Web {VERSION}, which runs networks in the browser; "
            f"run `{FETCH}` once (33 MB from the npm registry, then it works offline)"
        )
    return folder


def fetch_runtime(archive: Path | None = None) -> Path:
    """Put the files into the cache folder unless they are there already, and return the folder.

    They come from the npm registry through ``npm pack``, or from ``archive``, the same package fetched by other means.
    Raises ``RunError`` when npm is missing or fails, the archive cannot be read or has another digest, or the folder
    cannot be written.
    """
    folder = runtime_folder()
    if all((folder / name).is_file() for name in FILES):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".runtime-", dir=folder.parent) as temporary:
            unpacked = Path(temporary) / "files"
            unpacked.mkdir()
            _unpack(archive or _pack(Path(temporary)), unpacked)
            shutil.rmtree(folder, ignore_errors=True)
            unpacked.rename(folder)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror}); name another with DYNAGEST_CACHE") from error
    return folder


def _pack(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise RunError(
            "npm is not installed (it comes with Node.js); install it, or fetch the package by other means: "
            f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz, then `{FETCH} "
            "--runtime-archive FILE`"
        )
    command = [npm, "pack", f"onnxruntime-web@{VERSION}", "--silent", "--pack-destination", str(folder)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False, cwd=folder)
    found = list(folder.glob("*.tgz"))
    if done.returncode or len(found) != 1:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise RunError(f"npm could not fetch onnxruntime-web {VERSION}: {said[-1] if said else 'it said nothing'}")
    return found[0]


def _unpack(archive: Path, folder: Path) -> None:
    try:
        data = archive.read_bytes()
    except OSError as error:
        raise RunError(f"{archive}: cannot be read ({error.strerror})") from error
    digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
    if digest != INTEGRITY:
        raise RunError(
            f"{archive.name}: is not onnxruntime-web {VERSION} as it was published (sha512 {digest[:16]}..., must be "
            f"{INTEGRITY[:16]}...); nothing of it was used"
        )
    with tarfile.open(archive) as package:
        for name in FILES:
            member = package.extractfile(f"package/dist/{name}")
            assert member is not None, "the digest says what is in the package"
            with (folder / name).open("wb") as target:
                shutil.copyfileobj(member, target)
    (folder / "LICENSE").write_text(LICENSE, encoding="utf-8")


LICENSE = """\
ONNX Runtime Web: https://github.com/microsoft/onnxruntime

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""
