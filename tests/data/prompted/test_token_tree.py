"""Sequences of tokens as one tree."""

from __future__ import annotations

import random

import pytest

from kdspec.data.prompted.token_tree import TokenTree, common, told_apart


@pytest.mark.parametrize("seed", range(20))
def test_each_sequence_is_a_path_of_the_tree_and_no_prefix_stands_twice(seed):
    drawn = random.Random(seed)
    sequences = [[drawn.randrange(3) for _ in range(drawn.randint(1, 7))] for _ in range(8)]
    tree = TokenTree.of(sequences)
    for sequence in sequences:
        places = tree.places[tuple(sequence)]
        assert [tree.tokens[place] for place in places] == sequence
        last = places[-1]
        assert [place for place in range(len(tree.tokens)) if place <= last < tree.ends[place]] == list(places)
    prefixes = {tuple(sequence[:end]) for sequence in sequences for end in range(1, len(sequence) + 1)}
    assert len(tree.tokens) == len(prefixes)


def test_the_tree_does_not_depend_on_the_order_of_the_sequences():
    sequences = [[1, 2, 3], [1, 2], [1, 4], [5]]
    assert TokenTree.of(sequences) == TokenTree.of(reversed(sequences))


def test_what_two_sequences_begin_with():
    assert common([1, 2, 3], [1, 2, 4]) == 2
    assert common([1, 2], [1, 2, 3]) == 2
    assert common([], [1]) == 0


def test_as_many_tokens_as_tell_a_sequence_from_the_others():
    assert told_apart([[9, 1, 5], [9, 2, 5], [9, 3]]) == (1, [2, 2, 2])
    assert told_apart([[9, 1, 5, 6], [9, 1, 7], [9, 2, 8]]) == (1, [3, 3, 2])
    assert told_apart([[9, 1], [9, 1, 2]]) == (2, None)
