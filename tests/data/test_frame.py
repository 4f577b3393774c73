"""All kinds of dataframe give the same columns; every message is exact."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparselmm.data import array_column, missing_rows, open_table
from sparselmm.errors import DataError

FRAME = pd.DataFrame(
    {
        "number": [1.5, np.nan, 2.0, -1.0],
        "integer": [3, 1, 2, 3],
        "nullable": pd.array([3, None, 2, 3], dtype="Int64"),
        "truth": [True, False, True, True],
        "maybe": pd.array([True, None, False, True], dtype="boolean"),
        "text": ["b", None, "a", "b"],
        "day": pd.to_datetime(["2020-01-02", None, "2020-01-01", "2020-01-02"]),
        "small": np.array([1, 2, 3, 4], dtype=np.int8),
        "single": np.array([0.5, 1, 2, np.nan], dtype=np.float32),
    }
)
MAKERS = {
    "pandas": lambda frame: frame,
    "pandas-objects": lambda frame: frame.astype({"text": object, "maybe": object}),
    "pandas-arrow": lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
    "polars": pl.from_pandas,
    "pyarrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "mapping": lambda frame: {name: frame[name] for name in frame},
    "polars-mapping": lambda frame: pl.from_pandas(frame).to_dict(),
}


def seen(column):
    """Values as Python objects, None where missing."""
    values = column.values if column.categories is None else column.categories.take(column.values)
    missing = np.zeros(len(values), bool) if column.missing is None else column.missing
    return [None if gone else value for value, gone in zip(list(values), missing, strict=True)]


@pytest.mark.parametrize("name", list(FRAME))
@pytest.mark.parametrize("kind", list(MAKERS))
def test_all_kinds_of_frame_agree(kind, name):
    column = open_table(MAKERS[kind](FRAME)).column(name)
    expected = open_table(FRAME).column(name)
    assert seen(column) == seen(expected)
    if kind != "polars-mapping":
        assert column.kind == expected.kind
    if column.categories is not None:
        assert list(column.categories) == ["a", "b"]


@pytest.mark.parametrize("kind", list(MAKERS))
def test_missing_is_decided_jointly(kind):
    table = open_table(MAKERS[kind](FRAME))
    columns = [table.column(name) for name in ("number", "integer", "text", "single")]
    assert missing_rows(columns).tolist() == [False, True, False, True]
    assert missing_rows([table.column("integer")]) is None


def test_polars_nan_is_missing_too():
    column = open_table(pl.DataFrame({"x": [1.0, float("nan"), None]})).column("x")
    assert column.missing.tolist() == [False, True, True]


@pytest.mark.parametrize("kind", ["pandas", "pyarrow"])
def test_categories_keep_their_order(kind):
    frame = pd.DataFrame({"c": pd.Categorical(["b", None, "a"], categories=["b", "z", "a"])})
    column = open_table(MAKERS[kind](frame)).column("c")
    assert list(column.categories) == ["b", "z", "a"]
    assert column.values.tolist() == [0, -1, 2]


def test_polars_enum_keeps_its_order_and_categorical_is_sorted():
    text = pl.Series(["b", None, "a"])
    frame = pl.DataFrame({"e": text.cast(pl.Enum(["b", "z", "a"])), "c": text.cast(pl.Categorical)})
    table = open_table(frame)
    assert list(table.column("e").categories) == ["b", "z", "a"]
    assert list(table.column("c").categories) == ["a", "b"]
    assert seen(table.column("e")) == seen(table.column("c")) == ["b", None, "a"]


def test_chunked_arrow_dictionaries_are_unified():
    chunks = pa.chunked_array(
        [pa.array(["b", "a"]).dictionary_encode(), pa.array(["c", "b"]).dictionary_encode()]
    )
    column = open_table(pa.table({"g": chunks})).column("g")
    assert seen(column) == ["b", "a", "c", "b"]


def test_numbers_are_not_copied():
    values = np.arange(4.0)
    column = open_table({"x": values}).column("x")
    assert column.numbers("Predictor") is values
    assert column.take(None) is column


def test_large_nullable_ids_stay_exact():
    ids = pd.array([2**60 + 1, None, 2**60 + 2], dtype="Int64")
    column = open_table(pd.DataFrame({"id": ids})).column("id")
    assert column.values[[0, 2]].tolist() == [2**60 + 1, 2**60 + 2]


def test_objects_that_are_numbers():
    from decimal import Decimal

    frame = pd.DataFrame({"d": [Decimal("1.5"), None], "o": pd.Series([1, 2.5], dtype=object)})
    table = open_table(frame)
    assert seen(table.column("d")) == [1.5, None]
    assert seen(table.column("o")) == [1.0, 2.5]


def test_time_zones_and_dates_can_be_levels():
    days = pd.date_range("2020-01-01", periods=2, tz="Europe/Zurich")
    assert open_table(pd.DataFrame({"t": days})).column("t").kind == "time"
    assert open_table(pl.DataFrame({"t": pl.Series(list(days.date))})).column("t").kind == "time"


def test_each_column_is_read_once():
    table = open_table(FRAME)
    assert table.column("text") is table.column("text")


@given(st.lists(st.one_of(st.floats(allow_infinity=False), st.none()), min_size=1, max_size=20))
def test_missing_floats_agree_over_frames(values):
    columns = [
        open_table(data).column("x")
        for data in (
            pd.DataFrame({"x": pd.Series(values, dtype="float64")}),
            pl.DataFrame({"x": pl.Series(values, dtype=pl.Float64)}),
            pa.table({"x": pa.array(values, type=pa.float64())}),
        )
    ]
    expected = [value is None or value != value for value in values]
    for column in columns:
        missing = column.missing if column.missing is not None else np.zeros(len(values), bool)
        assert missing.tolist() == expected


@pytest.mark.parametrize(
    "values",
    [
        np.array([3.0, np.inf, 1.0]),
        np.array([3, 7, 1]),
        np.array([True, False, True]),
        np.array(["c", "?", "a"]),
        np.array(["c", "?", "a"], dtype=object),
        np.array(["2020-01-03", "2020-01-07", "2020-01-01"], dtype="datetime64[D]"),
    ],
    ids=lambda values: values.dtype.kind,
)
def test_masked_values_are_missing(values):
    mask = [False, True, False]
    column = open_table({"x": np.ma.array(values, mask=mask)}).column("x")
    assert missing_rows([column]).tolist() == mask  # type: ignore[union-attr]
    rows = np.array([0, 2])
    plain = open_table({"x": values[rows]}).column("x")
    assert column.kind == plain.kind
    np.testing.assert_array_equal(column.take(rows).series().to_numpy(), values[rows])


def test_a_mask_without_masked_values():
    assert open_table({"x": np.ma.array([1.0, 2.0])}).column("x").missing is None


class TestMessages:
    def check(self, message, call):
        with pytest.raises(DataError) as caught:
            call()
        assert str(caught.value) == message

    def test_unknown_column(self):
        self.check(
            "The data have no column 'Integr'; did you mean 'integer'?",
            lambda: open_table(FRAME).column("Integr"),
        )
        self.check(
            "The data have no column 'q'; the columns are 'x', 'z'.",
            lambda: open_table({"x": [1], "z": [2]}).column("q"),
        )

    def test_infinite(self):
        for data in ({"x": [1.0, np.inf, -np.inf]}, pl.DataFrame({"x": [1.0, np.inf, -np.inf]})):
            self.check(
                "'x' holds 2 infinite values, first in row 1 (counted from 0), finite numbers are "
                "expected; replace them, or make them missing so that the rows are dropped.",
                lambda data=data: missing_rows([open_table(data).column("x")]),
            )

    def test_infinite_in_a_row_that_is_left_out(self):
        table = open_table({"x": [1.0, np.inf, -np.inf], "z": [1.0, np.nan, 2.0]})
        unused = np.array([False, False, True])
        columns = [table.column("x"), table.column("z")]
        assert missing_rows(columns, unused).tolist() == [False, True, False]  # type: ignore[union-attr]
        self.check(
            "'x' holds 1 infinite value, first in row 2 (counted from 0), finite numbers are "
            "expected; replace them, or make them missing so that the rows are dropped.",
            lambda: missing_rows(columns),
        )

    def test_names_that_are_no_text(self):
        self.check(
            "The data have no column '1', but one whose name 1 is of type int; names are expected to "
            "be text: data.rename(columns=str).",
            lambda: open_table(pd.DataFrame({0: [1.0], 1: [2.0]})).column("1"),
        )

    def test_series_of_a_mapping_with_other_labels(self):
        x = pd.Series([1.0, 2.0, 3.0])
        table = open_table({"x": x, "z": x.to_numpy(), "same": x + 1, "other": x[::-1]})
        assert [table.column(name).values[0] for name in ("x", "z", "same")] == [1.0, 1.0, 2.0]
        self.check(
            "The data are a mapping with Series whose row labels differ ('x' and 'other'), the same "
            "labels are expected: pandas.DataFrame(data) aligns them, .to_numpy() takes them by "
            "position.",
            lambda: table.column("other"),
        )

    @pytest.mark.parametrize("width", [1, 2])
    def test_two_dimensions(self, width):
        self.check(
            f"'x' has shape (3, {width}), expected (3,), one value per row; give each column a name "
            "of its own, or flatten a single one with .ravel().",
            lambda: open_table({"x": np.ones((3, width))}).column("x"),
        )

    def test_ragged_list(self):
        self.check(
            "'x' holds values of type list, expected either numbers, text, categories, booleans or "
            "dates; convert the column to one of these.",
            lambda: open_table({"x": [[1], [1, 2], [3]]}).column("x"),
        )

    def test_a_sum_that_overflows_is_no_infinity(self):
        column = open_table({"x": [1e308, 1e308]}).column("x")
        assert column.missing is None

    def test_mixed_types(self):
        frame = pd.DataFrame({"x": pd.Series([1, "a", (2,)], dtype=object)})
        self.check(
            "'x' holds values of type int, str, tuple, expected either numbers, text, "
            "categories, booleans or dates; convert the column to one of these.",
            lambda: open_table(frame).column("x"),
        )

    def test_not_numeric(self):
        self.check(
            "Response 'text' holds text or categories ('a', 'b'), numbers are expected; "
            "convert the column first.",
            lambda: open_table(FRAME).column("text").numbers("Response"),
        )
        self.check(
            "Predictor 'day' holds dates or times, numbers are expected; convert the column first.",
            lambda: open_table(FRAME).column("day").numbers("Predictor"),
        )

    def test_lazy_and_foreign(self):
        self.check(
            "The data are a polars.lazyframe.frame.LazyFrame, expected a pandas, polars or "
            "pyarrow frame or a dictionary of arrays; collect it first.",
            lambda: open_table(pl.LazyFrame({"x": [1]})),
        )
        self.check(
            "The data are a builtins.list, expected a pandas, polars or pyarrow frame or a "
            "dictionary of arrays; convert it first.",
            lambda: open_table([1, 2]),
        )

    def test_lengths(self):
        self.check(
            "The data are a mapping with values of shapes 'x' (2,), 'z' (1,); expected arrays of "
            "one dimension and equal length.",
            lambda: open_table({"x": [1, 2], "z": [1]}),
        )
        self.check(
            "weights has shape (2,), expected (3,), one value per row of the data; pass a column "
            "name or an array of that length.",
            lambda: array_column([1, 2], "weights", 3),
        )

    def test_empty_mapping(self):
        self.check(
            "The data are an empty mapping, expected columns by name; fill it.",
            lambda: open_table({}),
        )

    def test_complex_numbers(self):
        self.check(
            "'x' holds complex numbers, real numbers are expected; take the real part or the "
            "modulus first.",
            lambda: open_table({"x": np.array([1j, 2])}).column("x"),
        )

    def test_duplicate_names(self):
        frame = pd.DataFrame([[1, 2]], columns=["x", "x"])
        self.check(
            "The data have 2 columns named 'x', one is expected; rename or drop the others.",
            lambda: open_table(frame).column("x"),
        )
