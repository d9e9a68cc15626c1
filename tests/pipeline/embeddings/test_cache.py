"""The bound of the embedding cache holds whatever comes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.embeddings.cache import EmbeddingCache


@dataclass(frozen=True)
class Block:
    nbytes: int


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 700_000)), max_size=40))
def test_held_bytes_never_exceed_the_bound(requests: list[tuple[int, int]]) -> None:
    cache: EmbeddingCache[Block] = EmbeddingCache(1)
    for key, nbytes in requests:
        cache.get_or_make(key, lambda nbytes=nbytes: Block(nbytes))  # type: ignore[misc]
        assert cache.held_bytes <= 2**20


def test_a_kept_value_is_not_made_again_and_the_least_recently_used_goes_first() -> None:
    cache: EmbeddingCache[Block] = EmbeddingCache(1)
    made = []

    def get(key: str) -> None:
        def make() -> Block:
            made.append(key)
            return Block(400_000)

        cache.get_or_make(key, make)

    for key in "abaca":
        get(key)
    assert made == ["a", "b", "c"]
    get("b")
    assert made == ["a", "b", "c", "b"]
    assert len(cache) == 2


def test_a_value_larger_than_the_bound_is_handed_out_but_not_kept() -> None:
    cache: EmbeddingCache[Block] = EmbeddingCache(1)
    assert cache.get_or_make("large", lambda: Block(2**21)).nbytes == 2**21
    assert len(cache) == 0
    assert cache.held_bytes == 0


def test_drop_forgets_one_video() -> None:
    cache: EmbeddingCache[Block] = EmbeddingCache(1)
    for key in (("v", 0), ("w", 0)):
        cache.get_or_make(key, lambda: Block(10))
    cache.forget_where(lambda key: isinstance(key, tuple) and key[0] == "v")
    assert (len(cache), cache.held_bytes) == (1, 10)


def test_a_bound_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        EmbeddingCache(0)
