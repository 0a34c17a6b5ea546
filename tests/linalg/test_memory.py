"""The forecast of the numeric phase and its refusal."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as fl
from fastlmm_core.errors import MemoryForecastError, OptionError
from fastlmm_core.linalg.memory import _group_room, available_memory, parse_memory
from fastlmm_core.linalg.supernodal import SupernodalFactor
from fastlmm_core.reml.objective import assemble_at, factors_at


@pytest.fixture(scope="module")
def trial():
    rng = np.random.default_rng(3)
    n = 6000
    frame = pd.DataFrame({"a": rng.integers(0, 1200, n), "b": rng.integers(0, 900, n)}).astype(str)
    frame["y"] = rng.normal(size=n)
    return frame


def test_a_fit_over_the_limit_is_refused_before_it_starts(trial):
    with pytest.raises(MemoryForecastError, match=r"max_memory is 0\.00 GB") as caught:
        fl.lmm("y ~ 1 + (1|a) + (1|b)", trial, max_memory="1MB")
    assert caught.value.needed > caught.value.available == 10**6


def test_the_forecast_covers_what_the_arrays_take(trial):
    prepared = fl.prepare("y ~ 1 + (1|a) + (1|b)", trial)
    factor = prepared.factor.copy()
    assert isinstance(factor, SupernodalFactor)
    equations = prepared.equations
    assert factor.factorize(assemble_at(equations, factors_at(equations, np.ones(2))))
    factor.inverse_subset(factor.size)
    taken = factor.L.nbytes + sum(work.nbytes for work in factor._work) + 2 * 8 * equations.indices.size
    assert taken <= factor.memory < 1.2 * taken


@pytest.mark.parametrize(
    ("text", "value"), [("8GB", 8 * 10**9), ("500 mb", 5 * 10**8), (1e6, 10**6), ("1.5g", 15 * 10**8)]
)
def test_sizes(text, value):
    assert parse_memory(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "much",
        -1,
        0,
        True,
        8,
        "8",
        float("nan"),
        float("inf"),
        "infGB",
        "nan",
        ".",
        "1.2.3GB",
        "",
        "GB",
        "-5GB",
        "1e999",
        1e300,
        10**400,
    ],
)
def test_bad_sizes(text):
    with pytest.raises(OptionError, match="max_memory"):
        parse_memory(text)


def test_this_machine_has_memory():
    assert 10**7 < available_memory() < 2**62


def written(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_own_control_group_and_those_above_it_limit_the_forecast(tmp_path):
    written(tmp_path / "proc" / "self", cgroup="0::/user.slice/job\n")
    top = tmp_path / "cg"
    written(top / "user.slice" / "job", memory__max="max\n", memory__current="5\n")
    written(top / "user.slice", memory__max="9000\n", memory__current="4000\n",
            memory__stat="anon 1000\ninactive_file 2500\n")  # fmt: skip
    written(top, memory__max="100000\n", memory__current="40000\n")
    assert list(_group_room(tmp_path / "proc", top)) == [7500, 60000]


def test_control_groups_of_version_1(tmp_path):
    written(tmp_path / "proc" / "self", cgroup="5:cpu,cpuacct:/a\n4:memory:/a\n")
    written(tmp_path / "cg" / "memory" / "a", memory__limit_in_bytes="900\n", memory__usage_in_bytes="300\n")
    assert list(_group_room(tmp_path / "proc", tmp_path / "cg")) == [600]
    assert list(_group_room(tmp_path / "nowhere", tmp_path / "cg")) == []


LITTLE = """
import resource, sys
from fastlmm_core.linalg.memory import available_memory
room = 2 * 10**8
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + room, size + room))
assert 0.9 * room < available_memory() <= room, available_memory()
"""


def test_ulimit_limits_the_forecast():
    done = subprocess.run([sys.executable, "-c", LITTLE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_machine_without_groups_and_limits_has_its_own_room(monkeypatch):
    monkeypatch.setattr("fastlmm_core.linalg.memory._group_room", lambda: iter(()))
    monkeypatch.setattr("fastlmm_core.linalg.memory._process_room", lambda: iter(()))
    monkeypatch.setattr("fastlmm_core.linalg.memory._system_available", lambda: 12345)
    assert available_memory() == 12345
