"""Records in ledger rows: packed by the commit, cut where they are too large, and given back from any place on."""

from hypothesis import given
from hypothesis import strategies as st

from abstractruntime_sqlite.rows import arrival_of, ledger_rows, mark_of, place_of, records_in, seq_of

RECORDS = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=12)


@given(
    st.integers(1, 2**31 - 1), st.lists(RECORDS, min_size=1, max_size=5), st.integers(1, 100), st.integers(0, 70)
)  # fmt: skip
def test_records_come_back_in_order_from_any_place(run, commits, row_bytes, after):
    rows, everything = [], []
    for records in commits:
        rows += ledger_rows(run, len(everything), records, row_bytes=row_bytes)
        everything += records
    assert list(records_in(rows, after)) == list(enumerate(everything, 1))[after:]
    assert [place for place, _, _ in rows] == sorted({place for place, _, _ in rows})
    assert all(place_of(run, 0) < place < place_of(run + 1, 0) for place, _, _ in rows)


@given(RECORDS, st.integers(1, 100))
def test_no_row_is_larger_than_it_may_be_unless_one_record_is(records, row_bytes):
    for _, lengths, packed in ledger_rows(1, 0, records, row_bytes=row_bytes):
        assert len(packed) <= row_bytes or lengths is None


def test_a_commit_is_one_row():
    assert len(list(ledger_rows(1, 0, [b"x" * 1000] * 1000))) == 1


@given(st.integers(1, 2**31 - 1), st.integers(1, 2**32 - 1))
def test_a_place_says_which_record_it_begins_with(run, seq):
    assert seq_of(place_of(run, seq)) == seq


@given(st.integers(0, 2**63 - 1))
def test_a_mark_stands_for_its_arrival(arrival):
    assert arrival_of(mark_of(arrival)) == arrival


def test_a_mark_that_no_store_made_is_no_reason_to_fail():
    assert arrival_of(b"\xff" * 100) == 2**63 - 1
