"""Runs the page's scripts by Node.js, where it is installed."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dynagest.web.app import STATIC

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")


def node(script: str, given: object, folder: Path) -> Any:
    """What ``script`` leaves in ``result``; it has ``given``, and imports from ``$static``."""
    shutil.copytree(STATIC, folder / "static", dirs_exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "given.json").write_text(json.dumps(given))
    imports = 'import { readFileSync } from "node:fs";\nconst given = JSON.parse(readFileSync("given.json", "utf8"));\n'
    text = imports + script.replace("$static", "./static") + "\nprocess.stdout.write(JSON.stringify(result));\n"
    (folder / "script.js").write_text(text)
    assert NODE is not None
    done = subprocess.run([NODE, "script.js"], cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
