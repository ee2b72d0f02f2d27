"""Running the command line in this process."""

from typer.testing import CliRunner

from dynagest.cli import app


def run(*arguments: str) -> tuple[int, str]:
    """The exit code and what was printed; a mistake is raised as it is."""
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output
