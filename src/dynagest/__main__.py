"""``python -m dynagest``, which is also what launchers of several processes start."""

from dynagest.cli import main

if __name__ == "__main__":
    main()
