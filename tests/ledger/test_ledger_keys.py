"""Keys: the same for the same request wherever it stands, and for nothing else."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from deepnote_async import RunRequest
from deepnote_async.ledger.keys import Keys, canonical, digest_of

values = st.one_of(st.text(max_size=3), st.booleans(), st.lists(st.text(max_size=2), max_size=2), st.integers())
inputs = st.dictionaries(st.text(min_size=1, max_size=2), values, max_size=3)
requests = st.builds(
    RunRequest,
    st.sampled_from(["a", "b"]),
    inputs=st.none() | inputs,
    detached=st.none() | st.booleans(),
    extra_body=st.none()
    | st.dictionaries(st.text(max_size=2) | st.integers(), st.none() | st.floats(0, 1), max_size=2),
)


def keys_of(rows):
    keys = Keys()
    return [keys.derive(digest_of(canonical(row))) for row in rows]


@given(st.lists(requests, max_size=12), st.randoms(use_true_random=False))
def test_order_does_not_matter(rows, chance):
    shuffled = rows[:]
    chance.shuffle(shuffled)
    assert sorted(keys_of(rows)) == sorted(keys_of(shuffled))


@given(st.lists(requests, max_size=12), requests, st.integers(0, 12))
def test_a_row_inserted_adds_one_key_and_changes_none(rows, row, place):
    before = Counter(keys_of(rows))
    after = Counter(keys_of([*rows[:place], row, *rows[place:]]))
    assert after >= before
    assert (after - before).total() == 1


@given(st.lists(requests, min_size=1, max_size=12))
def test_every_row_has_a_key_of_its_own(rows):
    assert len(set(keys_of(rows))) == len(rows)


@given(requests, requests)
def test_equal_bodies_and_only_they_share_a_hash(one, other):
    same = canonical(one) == canonical(other)
    assert same == (digest_of(canonical(one)) == digest_of(canonical(other)))
    if one.body() == other.body() and str(one.body()) == str(other.body()):
        assert same


@given(inputs)
def test_the_order_of_inputs_and_the_key_do_not_matter(given_inputs):
    backwards = dict(reversed(given_inputs.items()))
    one, other = RunRequest("a", inputs=given_inputs), RunRequest("a", inputs=backwards, key="mine")
    assert canonical(one) == canonical(other)
