"""The table: every instruction form that has a kernel of its own, <form>.ptx in this folder, on one lane."""

from __future__ import annotations

from emu.instructions import conversions, floats, integers, logic
from emu.instructions.row import Row

ROWS: dict[str, list[Row]] = {}
for _group in (integers, logic, floats, conversions):
    for _row in _group.rows():
        ROWS.setdefault(_row.form, []).append(_row)
