"""The progress bar of everything slow."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

# advance(steps) moves the bar
Advance = Callable[[float], None]


@contextlib.contextmanager
def bar(description: str, total: float, *, show: bool = True) -> Iterator[Advance]:
    """A progress bar on stderr with the time left, one line at the end where stderr is no terminal; nothing where
    `show` is false."""
    if not show:
        yield lambda steps: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        began = time.perf_counter()
        yield lambda steps: None
        console.print(f"{description}: {time.perf_counter() - began:.1f} s", highlight=False)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda steps: progress.advance(task, steps)
