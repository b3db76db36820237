"""ik_llama.cpp, a fork of llama.cpp: its types with interleaved rows, and those that it alone has."""

from collections.abc import Iterator

from peers import Candidate, Problem, ggml
from peers.ggml import Type

TYPES = {
    8: (Type("Q8_0_R8", 208, rows_of=8),),
    6: (Type("Q6_K_R4", 214, rows_of=14),),
    5: (Type("Q5_K_R4", 213, rows_of=13),),
    4: (Type("Q4_0_R8", 202, rows_of=2), Type("Q4_K_R4", 212, rows_of=12)),
    3: (Type("Q3_K_R4", 211, rows_of=11),),
    2: (Type("Q2_K_R4", 210, rows_of=10), Type("IQ2_BN_R4", 335, ternary=True)),
    1: (Type("Q1_0_G128", 41),),
}


def library() -> ggml.Ggml:
    return ggml.load("ik_llama_cpp")


def candidates(problem: Problem) -> Iterator[Candidate]:
    yield from ggml.candidates(library(), "ik_llama.cpp", TYPES, problem)
