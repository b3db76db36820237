"""The console script `lowbit`. A package beside `lowbit`, because importing anything of that one imports torch, which
takes seconds: `--help` and a mistyped option answer at once.
"""

import sys


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and ends the process with its status."""
    try:
        from lowbit_cli.commands import run

        status = run(arguments)
    except KeyboardInterrupt:
        print("lowbit: interrupted; nothing half-written is left", file=sys.stderr)
        status = 130
    sys.exit(status)
