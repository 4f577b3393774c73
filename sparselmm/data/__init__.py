"""Any dataframe as named columns of two sorts: numbers, and codes into categories.

    data --open_table--> Table --column(name)--> Column --missing_rows--> one mask for all

Only the columns a model names are touched. numpy-backed numbers are not copied. Text becomes
codes into its sorted values, once; categoricals keep the order of their categories. pandas and
dictionaries of arrays are read directly, every other kind of frame through narwhals.

Missing (None, NA, NaN, NaT, null) is decided here and nowhere else, so that pandas, polars and
pyarrow give the same rows. Infinite numbers in rows that are used are refused, with the column's
name and their count.
"""

from sparselmm.data.align import aligned
from sparselmm.data.columns import Column, array_column, missing_rows
from sparselmm.data.frame import Table, open_table

__all__ = ["Column", "Table", "aligned", "array_column", "missing_rows", "open_table"]
