"""Where trials come from: tables in memory, CSV and Parquet files, and Parquet datasets of any size."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.batch.folder.fingerprints import digest
from fastlmm_core.batch.level_orders import LevelOrders, in_orders, level_orders
from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.trials import check_columns
from fastlmm_core.errors import DataError, OptionError, name_list
from fastlmm_core.reading import ReadOptions, is_text_folder, lies_hidden, read_table
from fastlmm_core.reading.parquet import frame_from_arrow, requires_pyarrow

ROWS_PER_PIECE = 50_000
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"  # Hive's word for a missing value


@dataclass(frozen=True)
class DatasetPiece:
    """Some trials of a Parquet dataset and the row groups that hold them.

    Attributes
    ----------
    path : str
    groups : tuple of (file, row group)
    keys : DataFrame
        Keys of its trials.
    columns : tuple of str
    schema : pyarrow Schema
        Of the whole dataset; to find it again would take a look into every file.
    orders : dict
        Of the levels of its categorical columns, those of the whole dataset too (``batch.level_orders``).
    """

    path: str
    groups: tuple[tuple[str, int], ...]
    keys: pd.DataFrame
    columns: tuple[str, ...]
    schema: Any
    orders: LevelOrders

    def load(self) -> pd.DataFrame:
        """The rows of its trials; one row group is in memory at a time besides them."""
        files = list(dict.fromkeys(file for file, _ in self.groups))
        dataset = open_files(files, self.schema, base=self.path)
        fragments = {fragment.path: fragment for fragment in dataset.get_fragments()}
        by = list(self.keys.columns)
        wanted = key_hashes(self.keys)
        parts = []
        for file, group in self.groups:
            part = fragments[file].subset(row_group_ids=[group])
            frame = frame_from_arrow(part.to_table(schema=dataset.schema, columns=list(self.columns)))
            inside = np.isin(key_hashes(frame[by]), wanted)
            frame = in_orders(frame, self.orders)
            parts.append(frame if inside.all() else frame[inside])
        return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)

    @property
    def fingerprint(self) -> str:
        """Hash of the keys."""
        return digest(key_hashes(self.keys))


def open_dataset(path: str | Path, factors: tuple[str, ...] = ()) -> Any:
    """The Parquet dataset in a folder, Hive partitions included; those in `factors` are text.

    Raises
    ------
    DataError
        When there is none.
    """
    with requires_pyarrow():
        import pyarrow as pa
        import pyarrow.dataset as ds
    refuse_strange_files(Path(path))
    try:
        dataset = ds.dataset(str(path), format="parquet", partitioning="hive")
        if not dataset.files:
            raise DataError(f"folder '{path}' holds no Parquet files")
        schemas = [dataset.schema, *(fragment.physical_schema for fragment in dataset.get_fragments())]
        # columns by name in any order, and the wider of two types: a file of whole numbers is one of numbers
        common = pa.unify_schemas(schemas, promote_options="permissive")
        common = common.remove_metadata()  # by which pandas makes text of some parts of a column
        return open_files(str(path), with_text_partitions(common, Path(path), dataset.files, factors))
    except (pa.ArrowInvalid, OSError) as err:
        raise DataError(f"'{path}' is not a readable Parquet dataset: {err}") from err
    except pa.ArrowTypeError as err:
        found = [(Path(own.path).name, own.physical_schema) for own in dataset.get_fragments()]
        words = clash_of_types(found) or str(err)
        raise DataError(f"the files of '{path}' have columns of different types: {words}") from err


def clash_of_types(schemas: list[tuple[str, Any]]) -> str:
    """The first column whose types in two files have none in common, "" for none.

    Parameters
    ----------
    schemas : list of (str, pyarrow.Schema)
        Name of each file and what it holds.
    """
    import pyarrow as pa

    first: dict[str, tuple[str, Any]] = {}
    for file, schema in schemas:
        for own in schema:
            other, known = first.setdefault(own.name, (file, own))
            try:
                pa.unify_schemas([pa.schema([known]), pa.schema([own])], promote_options="permissive")
            except (pa.ArrowTypeError, pa.ArrowInvalid):
                both = f"'{own.name}' is {known.type} in '{other}' and {own.type} in '{file}'"
                return f"{both}; write it with one type in all of them, codes such as 001 as text"
    return ""


def open_files(source: str | list[str], schema: Any, base: str | None = None) -> Any:
    """A folder, or some of the files in the folder `base`, as a dataset of known schema."""
    import pyarrow.dataset as ds

    hive = ds.partitioning(schema, flavor="hive")  # some of the files alone may tell another type
    return ds.dataset(source, schema=schema, format="parquet", partitioning=hive, partition_base_dir=base)


def with_text_partitions(schema: Any, folder: Path, files: list[str], factors: tuple[str, ...]) -> Any:
    """The schema with Hive partitions as text where numbers would not give them back: 001 and 1."""
    import pyarrow as pa

    found = {part.partition("=")[::2] for name in files for part in Path(name).relative_to(folder).parts[:-1]}
    for name in dict.fromkeys(name for name, _ in found if name in schema.names):
        texts = {text for own, text in found if own == name} - {NO_PARTITION}
        place = schema.get_field_index(name)
        whole = pa.types.is_integer(schema.field(place).type)
        if name in factors or (whole and any(text != str(int(text)) for text in texts)):
            schema = schema.set(place, pa.field(name, pa.string()))
    return schema


def refuse_strange_files(folder: Path) -> None:
    """Raise DataError when a folder holds files that are not Parquet; names in . or _ are no data."""
    strange = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or lies_hidden(path, folder):
            continue
        with open(path, "rb") as file:
            if file.read(4) != b"PAR1":
                strange.append(str(path.relative_to(folder)))
    if strange:
        raise DataError(
            f"folder '{folder}' holds files that are not Parquet: {name_list(strange, limit=3)}; "
            "move them away"
        )


def dataset_fingerprint(path: str | Path, pieces: list[DatasetPiece]) -> str:
    """Hash of the keys as they are cut into pieces, and of the name, size and content of every file.

    Times are left out: a folder that was copied is the same data.
    """
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(piece.fingerprint.encode())
    for name in sorted(open_dataset(path).files):
        with open(name, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{Path(name).relative_to(path)}\0{Path(name).stat().st_size}\0{content}\0".encode())
    return whole.hexdigest()[:16]


def key_hashes(keys: pd.DataFrame) -> np.ndarray:
    """One 64-bit hash for each row of the key columns; equal keys of different files hash alike."""
    if keys.shape[1] == 0:
        return np.zeros(len(keys), np.uint64)
    plain = pd.DataFrame({name: plain_key(keys[name]) for name in keys.columns}, copy=False)
    return pd.util.hash_pandas_object(plain, index=False).to_numpy()


def plain_key(values: pd.Series) -> pd.Series:
    """A key column so that equal keys hash alike, also in a part that has missing ones among integers."""
    if pd.api.types.is_integer_dtype(values.dtype):
        return values.astype(object).where(values.notna(), None)
    return values if isinstance(values.dtype, np.dtype) else values.astype(object)


def cut_dataset(path: str | Path, plan: BatchPlan, rows: int = ROWS_PER_PIECE) -> list[DatasetPiece]:
    """Pieces of whole trials of about `rows` rows, in the order in which the trials first appear.

    Only the key columns are read, and the categories of others. Trials may be spread over files and row
    groups in any way; where they lie together every row group is read once.

    Raises
    ------
    DataError
        When the dataset lacks a column of the plan, or has no rows.
    """
    dataset = open_dataset(path, plan.factors)
    check_columns(plan, list(dataset.schema.names))
    by = list(plan.by)
    trials: dict[int, list[Any]] = {}  # hash -> [rows, key, row groups]
    groups: list[tuple[str, int]] = []
    for fragment in dataset.get_fragments():
        for part in fragment.split_by_row_group():
            number = len(groups)
            groups.append((fragment.path, part.row_groups[0].id))
            if not by:
                trials.setdefault(0, [part.row_groups[0].num_rows, (), []])[2].append(number)
                continue
            keys = frame_from_arrow(part.to_table(schema=dataset.schema, columns=by))
            found, first, count = np.unique(key_hashes(keys), return_index=True, return_counts=True)
            for i in np.argsort(first):
                own = trials.setdefault(int(found[i]), [0, keys.iloc[[first[i]]], []])
                own[0] += int(count[i])
                own[2].append(number)
    if not trials:
        raise DataError(f"the dataset '{path}' has no rows")
    row_groups = (part for fragment in dataset.get_fragments() for part in fragment.split_by_row_group())
    names = [name for name in plan.columns if name not in by]
    orders = level_orders(row_groups, dataset.schema, names)
    return join_trials(str(path), plan, dataset.schema, orders, list(trials.values()), groups, rows)


def join_trials(
    path: str, plan: BatchPlan, schema: Any, orders: LevelOrders, trials: list[list[Any]],
    groups: list[tuple[str, int]], rows: int,
) -> list[DatasetPiece]:  # fmt: skip
    """Consecutive trials as pieces."""
    pieces: list[DatasetPiece] = []
    waiting: list[list[Any]] = []
    size = 0
    for i, trial in enumerate(trials):
        waiting.append(trial)
        size += trial[0]
        if size < rows and i + 1 < len(trials):
            continue
        own = [trial[1] for trial in waiting]
        keys = pd.concat(own, ignore_index=True) if plan.by else pd.DataFrame(index=range(1))
        used = sorted({number for t in waiting for number in t[2]})
        own_groups = tuple(groups[number] for number in used)
        pieces.append(DatasetPiece(path, own_groups, keys, plan.columns, schema, orders))
        waiting, size = [], 0
    return pieces


def read_source(source: Any, plan: BatchPlan, options: ReadOptions) -> Any:
    """The table of a file, or of a folder of text files; other tables and folders unchanged.

    Raises
    ------
    OptionError
        For options of the reader where nothing is read.
    """
    if isinstance(source, (str, Path)) and not is_dataset(source):
        return read_table(source, options=options, factors=plan.factors)
    if options.given:
        kind = "folders of Parquet files" if is_dataset(source) else "tables in memory"
        raise OptionError(f"{options.given[0]}= is for text files and spreadsheets, not for {kind}")
    return source


def check_apart(source: Any, out: str | Path | None) -> None:
    """Raise OptionError for results in the folder of the data, which the next call would take for data."""
    if out is None or not isinstance(source, (str, Path)) or not Path(source).is_dir():
        return
    data, results = Path(source).resolve(), Path(out).resolve()
    if results.is_relative_to(data) and not lies_hidden(results, data):
        raise OptionError(
            f"out='{out}' lies in the folder of the data, '{source}', where the next call would read it with "
            "them; name a folder elsewhere"
        )


def column_names(source: Any) -> list[str]:
    """Names of the columns of a source."""
    if is_dataset(source):
        return list(open_dataset(source).schema.names)
    if hasattr(source, "collect_schema"):  # a lazy table of polars
        return list(source.collect_schema().names())
    names = getattr(source, "column_names", None)  # Arrow's word for it
    return [str(name) for name in (getattr(source, "columns", source) if names is None else names)]


def is_dataset(source: Any) -> bool:
    """Whether the source is a folder of Parquet files, to be streamed."""
    return isinstance(source, (str, Path)) and Path(source).is_dir() and not is_text_folder(source)


def is_dask(source: Any) -> bool:
    """Whether the source is a Dask DataFrame."""
    return type(source).__module__.partition(".")[0] in ("dask", "dask_expr") and hasattr(
        source, "to_delayed"
    )


def scatter_trials(table: Any, plan: BatchPlan, client: Any) -> list[Any]:
    """Partitions of whole trials of a Dask DataFrame as futures; the rows stay on the workers.

    Raises
    ------
    DataError
        When the table lacks a column of the plan.
    """
    check_columns(plan, list(table.columns))
    own = table[list(plan.columns)]
    own = own.shuffle(on=list(plan.by)) if plan.by else own.repartition(npartitions=1)
    return list(client.compute(list(own.to_delayed())))


def dask_fingerprint(table: Any) -> str:
    """Hash of how a Dask DataFrame is made."""
    from dask.base import tokenize

    return str(tokenize(table))[:16]
