"""The checked-in table of counts has a row for every loop that is counted, and no other."""

from __future__ import annotations

from cuda import counts, test_accesses, test_gemm_accesses, test_plane_accesses


def test_the_table_has_the_rows_that_are_counted() -> None:
    counts.check_rows({*test_accesses.RUNS, *test_gemm_accesses.RUNS, *test_plane_accesses.RUNS})
