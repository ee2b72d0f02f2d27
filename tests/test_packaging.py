"""pyproject.toml names what the code imports."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
PART_OF = {"pydantic_core": "pydantic"}  # pydantic pins the one version that it works with
NOT_NEEDED = {"torchvision"}  # `dynagest doctor` looks whether it is there, and broken


def imported(folder: Path) -> dict[str, Path]:
    """Packages that are imported anywhere below a folder, each with a file that does so."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                continue
            found |= {name.partition(".")[0]: path for name in names}
    return found


def normal(name: str) -> str:
    """A distribution's name as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_imported_package_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    declared = {normal(re.split(r"[\[<>=~ ]", line)[0]) for line in lines}
    homes = packages_distributions()
    for package, path in imported(ROOT / "src").items():
        if package in sys.stdlib_module_names or package in NOT_NEEDED:
            continue
        names = {normal(PART_OF.get(package, home)) for home in homes.get(package, [package])}
        assert names & declared, f"{path} imports {package}, which pyproject.toml does not name"
