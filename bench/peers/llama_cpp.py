"""llama.cpp: products of ggml, activations quantized to int8 by block, weights as its CPU backend lays them out."""

from collections.abc import Iterator

from peers import Candidate, Problem, ggml
from peers.ggml import Type

TYPES = {
    8: (Type("Q8_0", 8),),
    6: (Type("Q6_K", 14),),
    5: (Type("Q5_K", 13),),
    4: (Type("Q4_0", 2), Type("Q4_1", 3), Type("Q4_K", 12)),
    3: (Type("Q3_K", 11),),
    2: (Type("Q2_K", 10), Type("TQ2_0", 35, ternary=True)),
    1: (Type("Q1_0", 41),),
}


def library() -> ggml.Ggml:
    return ggml.load("llama_cpp")


def candidates(problem: Problem) -> Iterator[Candidate]:
    yield from ggml.candidates(library(), "llama.cpp", TYPES, problem)
