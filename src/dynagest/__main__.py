"""Runs the command line as ``python -m dynagest``, which launchers of several processes also start."""

from dynagest.cli import main

if __name__ == "__main__":
    main()
