"""A folder of results: no fault of a file is read over, and every fault leaves a folder that goes on."""

from __future__ import annotations

import builtins
import errno
import itertools
import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from trial_data import alpha_trials

from fastlmm_core import durable_files, fit_batch, read_batch
from fastlmm_core.batch.folder.store import PartStore
from fastlmm_core.batch.level_orders import merged_order, order_notes
from fastlmm_core.batch.plan import make_plan
from fastlmm_core.batch.sources import cut_dataset, dataset_fingerprint, open_dataset
from fastlmm_core.batch.tables import TableParts, failed_row
from fastlmm_core.errors import DataError, OptionError

PLAN = make_plan("yield ~ gen + (1|rep)", by="trial")
SOURCE = "0123456789abcdef"
PARTS = 3
TABLES = PLAN.tables


def rows_of(part: int) -> TableParts:
    """Two trials, with a table of fixed effects of different length in every part."""
    rows = TableParts(PLAN, pd.DataFrame({"trial": [f"T{2 * part}", f"T{2 * part + 1}"]}))
    for unit in range(2):
        rows.add_fit(failed_row(9, "ok", "") | {"sigma": part + unit / 10}, unit)
        frame = pd.DataFrame({"term": ["a", "b"][: 1 + unit], "estimate": np.arange(1.0 + unit) + part})
        rows.add("fixed", frame, unit)
        rows.add("variance_components", frame.rename(columns={"term": "group"}), unit)
    return rows


def run(folder: Path, plan=PLAN, source: str = SOURCE, resume: bool = True) -> tuple[PartStore, list[int]]:
    """What a batch does with a folder; the store, and the parts that were written."""
    store = PartStore(folder, plan, source)
    store.open(resume)
    done = store.done(PARTS)
    written = [part for part in range(PARTS) if part not in done]
    for part in written:
        store.write(part, rows_of(part))
    return store, written


@pytest.fixture
def folder(tmp_path) -> Path:
    run(tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> dict[str, pd.DataFrame]:
    store, _ = run(tmp_path_factory.mktemp("whole") / "out")
    return {table: store.read(table) for table in TABLES}


def assert_whole(folder: Path, expected: dict[str, pd.DataFrame], again: list[int] | None = None) -> None:
    """The same call ends with the right tables, makes `again` anew, and then has nothing to do."""
    store, written = run(folder)
    assert again is None or written == again
    for table in TABLES:
        pd.testing.assert_frame_equal(store.read(table), expected[table])
        as_dataset = pd.read_parquet(folder / table)  # as any other program reads it
        assert len(as_dataset) == len(expected[table])
    assert run(folder)[1] == []
    assert not list(folder.rglob(".*"))


def part(folder: Path, table: str, number: int) -> Path:
    return folder / table / f"part-{number:06d}.{'json' if table == 'done' else 'parquet'}"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


FAULTS = {
    "a table is cut": (lambda f: cut(part(f, "fits", 1)), [1]),
    "a table has another bit": (lambda f: flip(part(f, "fixed", 1)), [1]),
    "a table is empty": (lambda f: part(f, "fixed", 1).write_bytes(b""), [1]),
    "a table is deleted": (lambda f: part(f, "fixed", 2).unlink(), [2]),
    "a table is that of another part": (lambda f: shutil.copy(part(f, "fits", 2), part(f, "fits", 1)), [1]),
    "tables of two parts are swapped": (
        lambda f: (
            part(f, "fits", 1).rename(f / "x"), part(f, "fits", 2).rename(part(f, "fits", 1)),
            (f / "x").rename(part(f, "fits", 2)),
        ),
        [1, 2],
    ),
    "all tables of a folder are deleted": (lambda f: shutil.rmtree(f / "fits"), [0, 1, 2]),
    "a mark is deleted": (lambda f: part(f, "done", 0).unlink(), [0]),
    "a mark is cut": (lambda f: cut(part(f, "done", 0)), [0]),
    "a mark is empty": (lambda f: part(f, "done", 0).write_bytes(b""), [0]),
    "a mark is another object": (lambda f: part(f, "done", 0).write_text("[1, 2]"), [0]),
    "a mark is edited": (lambda f: edit(part(f, "done", 0), units=7), [0]),
    "a mark is that of another part": (lambda f: shutil.copy(part(f, "done", 2), part(f, "done", 1)), [1]),
    "all marks are deleted": (lambda f: shutil.rmtree(f / "done"), [0, 1, 2]),
    "the manifest is deleted": (lambda f: (f / "manifest.json").unlink(), []),
    "the manifest is cut": (lambda f: cut(f / "manifest.json"), []),
    "the manifest is empty": (lambda f: (f / "manifest.json").write_bytes(b""), []),
    "the manifest is another object": (lambda f: (f / "manifest.json").write_text("null"), []),
    "a killed process left files": (
        lambda f: (f / "fits" / (".part-000001.parquet." + "a" * 32)).touch(), []
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_damaged_is_named_and_made_again(folder, expected, caplog, fault):
    strike, again = FAULTS[fault]
    strike(folder)
    with caplog.at_level(logging.WARNING, "fastlmm_core.batch.folder.store"):
        assert_whole(folder, expected, again)
    names = [f"part-{k:06d}" for k in again] or (["manifest.json"] if "manifest" in fault else [])
    # tables without a mark are what a killed process leaves
    quiet = fault in ("a mark is deleted", "all marks are deleted", "a killed process left files")
    assert quiet or all(name in caplog.text for name in names)


@pytest.mark.parametrize("fault", [name for name in FAULTS if "table" in name])
def test_a_damaged_table_is_not_read(folder, fault):
    store, _ = run(folder)
    FAULTS[fault][0](folder)
    with pytest.raises(DataError, match=r"run the same call again|cannot be read"):
        for table in TABLES:
            store.read(table)


def test_a_part_that_went_missing_is_not_read_over(folder):
    store, _ = run(folder)
    for table in (*TABLES, "done"):
        part(folder, table, 2).unlink()
    with pytest.raises(DataError, match=r"part-000002.json' is missing; to make it again"):
        store.read("fits")


@pytest.mark.parametrize("name", ["fits/part-000003.parquet", "fits/more.parquet", "done/part-000009.json"])
def test_files_of_others_are_named_and_refused(folder, name):
    shutil.copy(part(folder, "done" if "done" in name else "fits", 0), folder / name)
    with pytest.raises(OptionError, match=rf"not of this batch: '{name}'; move them away"):
        run(folder)


@pytest.mark.parametrize("manifest", ["{", None])
def test_a_folder_whose_manifest_is_lost_is_not_taken_from_another_batch(folder, manifest):
    other = make_plan("height ~ gen + (1|rep)", by="trial")
    (folder / "manifest.json").unlink()
    if manifest:
        (folder / "manifest.json").write_text(manifest)
    for plan, source in ((other, SOURCE), (PLAN, "of other data")):
        with pytest.raises(OptionError, match="marks of another plan or other data; name a new folder"):
            run(folder, plan, source)
    with pytest.raises(OptionError, match="resume=True"):
        run(folder, resume=False)


def test_parts_of_another_batch_are_made_again(folder, expected, tmp_path):
    """Copied with its mark, which alone would look right."""
    run(tmp_path / "other", source="of other data")
    for table in (*TABLES, "done"):
        shutil.copy(part(tmp_path / "other", table, 1), part(folder, table, 1))
    assert_whole(folder, expected, [1])


def test_a_part_that_two_workers_were_given_is_written_once(folder, expected):
    store, _ = run(folder)
    before = part(folder, "done", 1).read_bytes()
    assert store.write(1, rows_of(2))["part"] == 1  # other rows, to tell them apart
    assert part(folder, "done", 1).read_bytes() == before
    assert_whole(folder, expected, [])


def test_a_manifest_cut_before_any_part_does_not_block_the_folder(tmp_path, expected):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text('{"plan": {"formula": "yie')
    assert_whole(tmp_path / "out", expected, [0, 1, 2])


CALLS = ["open", "fsync", "replace", "mkdir"]


def fail_at(monkeypatch, n: int, code: int) -> list[str]:
    """The n-th call that changes the disk fails from now on, with what had been asked for before it."""
    asked: list[str] = []

    def failing(name, real):
        def call(target, *args, **options):
            changes = name != "open" or (args and "w" in args[0])
            if changes:
                asked.append(name)
                if len(asked) > n:
                    raise OSError(code, os.strerror(code))
            return real(target, *args, **options)

        return call

    monkeypatch.setattr(durable_files, "open", failing("open", builtins.open), raising=False)
    monkeypatch.setattr(os, "fsync", failing("fsync", os.fsync))
    monkeypatch.setattr(os, "replace", failing("replace", os.replace))
    monkeypatch.setattr(Path, "mkdir", failing("mkdir", Path.mkdir))
    return asked


def test_a_full_disk_at_any_write_leaves_a_folder_that_goes_on(tmp_path, expected, code=errno.ENOSPC):
    for n in itertools.count():
        folder = tmp_path / f"{n}"
        with pytest.MonkeyPatch.context() as patch:
            asked = fail_at(patch, n, code)
            try:
                run(folder)
            except DataError as err:
                assert os.strerror(code) in str(err)
            else:
                break
        assert_whole(folder, expected)
    assert n == len(asked) > 40 and set(asked) == set(CALLS)


def test_a_short_write_leaves_no_part(tmp_path, expected, monkeypatch):
    """The disk takes half of the bytes, then says that it is full."""

    class Half:
        def __init__(self, *args):
            self.file = builtins.open(*args)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(durable_files, "open", Half, raising=False)
        with pytest.raises(DataError, match="No space left"):
            run(tmp_path / "out")
    assert_whole(tmp_path / "out", expected, [0, 1, 2])


# ------------------------------------------------------------------ the folder that is read
def write_trials(folder: Path, **changes) -> pd.DataFrame:
    frame = pd.DataFrame({"trial": ["A", "A", "B", "B"], "gen": ["x", "y"] * 2, "rep": ["1", "1", "2", "2"],
                          "yield": [1.0, 2.5, 3.0, 4.0]}).assign(**changes)  # fmt: skip
    folder.mkdir(exist_ok=True)
    frame[:2].to_parquet(folder / "a.parquet")
    frame[2:].to_parquet(folder / "b.parquet")
    return frame


def fingerprint(folder: Path) -> str:
    return dataset_fingerprint(folder, cut_dataset(folder, PLAN))


def test_the_fingerprint_of_a_folder_covers_its_values(tmp_path):
    write_trials(tmp_path / "one")
    before = fingerprint(tmp_path / "one")
    stamps = {path: path.stat() for path in (tmp_path / "one").iterdir()}
    write_trials(tmp_path / "one", **{"yield": [1.0, 2.5, 3.0, 4.5]})  # the same keys and sizes
    for path, stamp in stamps.items():
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        assert path.stat().st_size == stamp.st_size
    assert fingerprint(tmp_path / "one") != before
    write_trials(tmp_path / "two")
    assert fingerprint(tmp_path / "two") == before  # a copy is the same data
    (tmp_path / "two" / "a.parquet").rename(tmp_path / "two" / "c.parquet")
    assert fingerprint(tmp_path / "two") != before


def test_files_may_differ_in_order_of_columns_and_int_and_float(tmp_path):
    frame = write_trials(tmp_path / "in")
    whole = frame[:2].assign(**{"yield": [1, 2]})
    whole[["yield", "rep", "trial", "gen"]].to_parquet(tmp_path / "in" / "a.parquet")
    rows = pd.concat([piece.load() for piece in cut_dataset(tmp_path / "in", PLAN)], ignore_index=True)
    assert rows["yield"].tolist() == [1.0, 2.0, 3.0, 4.0] and rows["gen"].tolist() == ["x", "y", "x", "y"]
    frame[:2].to_parquet(tmp_path / "in" / "a.parquet")  # the other way round: numbers with decimals first
    whole[["yield", "rep", "trial", "gen"]].to_parquet(tmp_path / "in" / "b.parquet")
    rows = pd.concat([piece.load() for piece in cut_dataset(tmp_path / "in", PLAN)], ignore_index=True)
    assert sorted(rows["yield"]) == [1.0, 1.0, 2.0, 2.5]
    frame[:2].assign(**{"yield": ["low", "high"]}).to_parquet(tmp_path / "in" / "a.parquet")
    clash = "different types: 'yield' is .*string in 'a.parquet' and .* in 'b.parquet'; write it"
    with pytest.raises(DataError, match=clash):
        cut_dataset(tmp_path / "in", PLAN)


@pytest.mark.parametrize(
    ("keys", "factors", "read"),
    [
        (["001", "1", None], (), ["001", "1", None]),
        (["7", "10", None], (), [7, 10, None]),
        (["7", "10", "x"], (), ["7", "10", "x"]),
        (["7", "10", "12"], "trial", ["7", "10", "12"]),
    ],
)
def test_hive_partitions_are_what_their_folders_say(tmp_path, keys, factors, read):
    frame = pd.DataFrame({"trial": np.repeat(np.array(keys, dtype=object), 2), "gen": ["x", "y"] * 3,
                          "rep": ["1", "2"] * 3, "yield": np.arange(6.0)})  # fmt: skip
    frame.to_parquet(tmp_path / "in", partition_cols=["trial"])
    plan = make_plan("yield ~ gen + (1|rep)", by="trial", factors=factors)
    for rows in (1, 100):  # each piece opens the files of its own trials
        found = pd.concat([piece.load() for piece in cut_dataset(tmp_path / "in", plan, rows=rows)])
        order = np.argsort(found["yield"].to_numpy())
        own = found["trial"].astype(object).where(found["trial"].notna(), None)
        assert own.iloc[order].tolist() == [key for key in read for _ in range(2)]


@pytest.mark.parametrize(
    ("orders", "merged"),
    [
        (["cba", "ba", "dcb"], "dcba"),
        (["ac", "bd", ""], "abcd"),
        (["cb", "da"], "cbda"),
        (["ab", "bc", "ca"], None),
        ([[10, 9], [2, 9]], [2, 10, 9]),
    ],
)
def test_an_order_that_agrees_with_all(orders, merged):
    found = merged_order(orders)
    assert found == (None if merged is None else list(merged))
    for order in orders if found else ():
        assert [level for level in found if level in order] == list(order)


@pytest.mark.parametrize("rows", [1, 100])
@pytest.mark.parametrize("ordered", [False, True])
def test_files_with_categories_of_their_own_keep_the_declared_order(tmp_path, ordered, rows):
    """As one table that has them all, also where a trial lies in two files."""
    levels = list("dbca")
    frame = pd.DataFrame({"trial": ["A"] * 4 + ["B"] * 3 + ["A"] * 2, "rep": "1", "yield": np.arange(9.0)})
    frame["gen"] = pd.Categorical(list("dbcabcadb"), categories=levels, ordered=ordered)
    (tmp_path / "in").mkdir()
    for k, own in enumerate((frame[:4], frame[4:7], frame[7:])):
        own = own.assign(gen=own["gen"].cat.remove_unused_categories())
        own.to_parquet(tmp_path / "in" / f"{k}.parquet")
    pieces = cut_dataset(tmp_path / "in", PLAN, rows=rows)
    for piece in pieces:
        found = piece.load()
        assert found["gen"].dtype == pd.CategoricalDtype(levels, ordered)
        expected = frame[frame["trial"].isin(piece.keys["trial"])].set_index("yield")["gen"]
        assert found.set_index("yield")["gen"].astype(str).to_dict() == expected.astype(str).to_dict()
    assert order_notes(pieces[0].orders) == ()
    turned = frame.assign(gen=frame["gen"].cat.set_categories(levels[::-1]))
    turned.to_parquet(tmp_path / "in" / "3.parquet")
    pieces = cut_dataset(tmp_path / "in", PLAN, rows=rows)
    assert all(piece.load()["gen"].dtype == object for piece in pieces)
    assert "column 'gen': the files order its levels" in order_notes(pieces[0].orders)[0]


def test_a_folder_of_categories_is_one_table(tmp_path):
    frame = alpha_trials(3, genotypes=8)
    levels = sorted(frame["gen"].unique())[::-1]
    formula, options = "yield ~ gen + rep + (1|rep:block)", {"by": "trial", "progress": False}
    (tmp_path / "in").mkdir()
    for ordered in (False, True):
        frame["gen"] = pd.Categorical(frame["gen"], categories=levels, ordered=ordered)
        parts = [own[own["gen"] != levels[k]] for k, (_, own) in enumerate(frame.groupby("trial"))]
        for k, own in enumerate(parts):  # each lacks another genotype
            own = own.assign(gen=own["gen"].cat.remove_unused_categories())
            own.to_parquet(tmp_path / "in" / f"{k}.parquet")
        folder, whole = (
            fit_batch(data, formula, emmeans="gen", contrasts="trt.vs.ctrl", **options)
            for data in (tmp_path / "in", pd.concat(parts))
        )
        for table in ("fixed", "emmeans", "contrasts"):
            pd.testing.assert_frame_equal(folder.table(table), whole.table(table), check_dtype=False)
    turned = parts[0].assign(gen=parts[0]["gen"].cat.set_categories(levels[::-1]))
    turned.to_parquet(tmp_path / "in" / "0.parquet")
    assert "note: column 'gen': the files" in fit_batch(tmp_path / "in", formula, **options).summary()


def test_strange_files_of_a_folder_are_named(tmp_path):
    write_trials(tmp_path / "in")
    for name in ("_SUCCESS", ".crc"):
        (tmp_path / "in" / name).write_text("ok")
    assert len(open_dataset(tmp_path / "in").files) == 2
    (tmp_path / "in" / "notes.txt").write_text("sown in May")
    (tmp_path / "in" / "c.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"not Parquet: 'c.parquet', 'notes.txt'; move them away"):
        cut_dataset(tmp_path / "in", PLAN)


def test_parts_of_several_versions_are_told(tmp_path, monkeypatch, caplog):
    """A batch that is continued after an upgrade has figures of both."""
    out = tmp_path / "out"
    for version, part in (("0.1.9", 0), ("0.2.0", 1), ("0.2.0", 2)):
        monkeypatch.setattr("fastlmm_core.batch.folder.store.__version__", version)
        store = PartStore(out, PLAN, SOURCE)
        store.open(True)
        store.done(PARTS)
        store.write(part, rows_of(part))
        caplog.clear()
        notes = [note for note in read_batch(out).notes if "different versions of" in note]
        assert len(notes) == int(part > 0) and all(note in caplog.text for note in notes)
    assert "(0.1.9, 0.2.0)" in notes[0]


def test_a_reader_of_an_unfinished_batch_is_told(tmp_path, caplog):
    """As after a kill: what is there is read, and the trials that are not are no secret."""
    out = tmp_path / "out"
    for part_of in ({0}, {0, 1, 2}):
        store = PartStore(out, PLAN, SOURCE)
        store.open(True)
        for number in part_of - store.done(PARTS).keys():
            store.write(number, rows_of(number))
        caplog.clear()
        with caplog.at_level(logging.WARNING, "fastlmm_core.batch.folder.stored"):
            batch = read_batch(out)
        assert len(batch.fits) == 2 * len(part_of)
        left = PARTS - len(part_of)
        words = [f"{left} of its {PARTS} parts are missing"] if left else []
        assert len(batch.notes) == len(caplog.records) == len(words)
        assert all(own in batch.summary() and own in caplog.text for own in words)


def test_a_folder_is_read_while_a_part_is_being_written(tmp_path):
    store = PartStore(tmp_path / "out", PLAN, SOURCE)
    store.open(True)
    store.done(PARTS)
    store.write(0, rows_of(0))
    for name in ("fits", "done"):
        (tmp_path / "out" / name / (".part-000001.parquet." + "a" * 32)).touch()
    batch = read_batch(tmp_path / "out")
    assert len(batch.fits) == 2 and len(batch.fixed) == 3
    assert list(store.done(PARTS)) == [0]


def test_a_second_call_on_a_folder_does_not_stop_the_first(tmp_path, expected, monkeypatch):
    """It removes what a killed process left, and cannot tell that the other one is alive."""
    replace_file, times = os.replace, itertools.count()

    def removed_first(source, target):
        if next(times) % 3 == 0:
            os.unlink(source)
        replace_file(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(durable_files.os, "replace", removed_first)
        run(tmp_path / "out")
    assert_whole(tmp_path / "out", expected, [])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_results_in_the_folder_of_the_data_are_refused(tmp_path, kind):
    """The next call would read them along with the data; hidden ones it passes over."""
    data = tmp_path / "in"
    data.mkdir()
    getattr(alpha_trials(2), f"to_{kind}")(data / f"a.{kind}", index=False)
    options = {"by": "trial", "progress": False}
    for out in (data, data / "results", data / "all" / "results"):
        with pytest.raises(OptionError, match="lies in the folder of the data"):
            fit_batch(data, "yield ~ gen", out=out, **options)
    assert [path.name for path in data.iterdir()] == [f"a.{kind}"]
    first = fit_batch(data, "yield ~ gen", out=data / "_results", **options)
    again = fit_batch(data, "yield ~ gen", out=data / "_results", **options)
    pd.testing.assert_frame_equal(first.fits, again.fits)
