"""Figures of other systems: nadiv and pedigreemm for A, BLUPF90 and Mrode's book for markers.

The cases are kept outside the project; without them these tests are skipped.
"""

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from fastlmm_core import Markers, Pedigree
from fastlmm_core.errors import DataError, PedigreeWarning
from fastlmm_core.structures.relationships import relationship_from_request

SUITE = Path(__file__).resolve().parents[4] / "shared" / "structures"
SUITE = Path(os.environ.get("FASTLMM_STRUCTURES", SUITE))
GENETICS = SUITE / "genetics"
pytestmark = pytest.mark.skipif(not GENETICS.is_dir(), reason="the reference cases are not here")
COMPLAINTS = {
    "duplicate": "duplicate",
    "loop": "loop",
    "self_parent": "own parent",
    "sex_conflict": "sire and as dam",
    "missing_id": "no identifier",
}


def cases(pattern, key):
    """(file, entry) of every entry of a list in the cases that match."""
    return [
        pytest.param(entry, id=f"{path.stem}-{entry['data']}")
        for path in sorted(GENETICS.glob(f"given/{pattern}.json"))
        for entry in json.loads(path.read_text())[key]
    ]


@pytest.mark.parametrize("case", cases("ainv_*", "pedigrees"))
def test_A_and_its_inverse(case):
    pedigree = Pedigree(GENETICS / "data" / case["data"], check_sex=False)
    inverse, A, inbreeding = pedigree.inverse(), pedigree.relationship(), pedigree.inbreeding()
    assert pedigree.size == case["n_animals"]
    for name, value in case["inbreeding"].items():
        assert inbreeding[name] == pytest.approx(value, abs=1e-12)
    for name, value in case.get("mendelian_variance", {}).items():
        assert pedigree.mendelian_variance()[name] == pytest.approx(value, abs=1e-12)
    figures = {
        "logdet_A": pedigree.log_determinant(),
        "n_inbred": int((inbreeding > 1e-12).sum()),
        "mean_F": inbreeding.mean(),
        "max_F": inbreeding.max(),
        "Ainv_nnz_lower": (inverse.nnz + pedigree.size) // 2,
        "Ainv_sum": inverse.sum(),
        "Ainv_trace": inverse.trace(),
        "A_sum": A.to_numpy().sum(),
        "A_trace": pedigree.diagonal().sum(),
    }
    assert figures == pytest.approx({key: case[key] for key in figures}, rel=1e-9, abs=1e-12)
    place = {name: i for i, name in enumerate(pedigree.levels)}
    dense = inverse.toarray()
    for row, col, value in case.get("Ainv") or case["Ainv_sample"]:
        assert dense[place[row], place[col]] == pytest.approx(value, abs=1e-10)
    for row, col, value in case.get("A") or case["A_sample"]:
        assert A.loc[row, col] == pytest.approx(value, abs=1e-10)


@pytest.mark.parametrize("case", cases("pedigree_bad", "tables"))
def test_wrong_pedigrees(case):
    expect, path = case["expect"], GENETICS / "data" / case["data"]
    if expect["error"] in (None, "sex_conflict"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pedigree = Pedigree(path)
        messages = [str(w.message) for w in caught if w.category is PedigreeWarning]
        named = expect.get("warn") or expect.get("names") or []
        assert len(messages) == bool(named)
        assert all(f"'{name}'" in messages[0] for name in named)
        for name, value in case.get("inbreeding", {}).items():
            assert pedigree.inbreeding()[name] == value
        return
    with pytest.raises(DataError, match=COMPLAINTS[expect["error"]]) as raised:
        Pedigree(path)
    assert all(name in str(raised.value) for name in expect["names"])


def requested():
    """Every different relationship that the cases ask for."""
    found = {}
    for path in sorted(SUITE.glob("*/given/*.json")):
        case = json.loads(path.read_text())
        for model in (case, *(case.get("steps") or [])):
            for name, spec in (model.get("relationships") or {}).items():
                found[json.dumps(spec)] = pytest.param(
                    name, spec, path.parents[1] / "data", id=f"{path.stem}-{spec.get('file', name)}"
                )
    return list(found.values())


@pytest.mark.parametrize(("name", "spec", "root"), requested())
def test_every_relationship_of_the_cases_is_read(name, spec, root):
    relation = relationship_from_request(name, spec, root)
    A, K = relation.relationship().to_numpy(), relation.root()
    np.testing.assert_allclose(relation.diagonal(), np.diag(A), atol=1e-12)
    if K is not None:
        np.testing.assert_allclose(K @ K.T, A, atol=1e-10)
    else:
        np.testing.assert_allclose(relation.precision() @ A, np.eye(relation.size), atol=1e-10)
        np.testing.assert_allclose(relation.log_determinant(), np.linalg.slogdet(A)[1], rtol=1e-10)


def test_G_of_mrodes_bulls():
    case = json.loads((GENETICS / "given" / "mrode_snpblup.json").read_text())
    spec = case["relationships"]["M"]
    relation = relationship_from_request("M", spec, GENETICS / "data")
    assert isinstance(relation, Markers)
    assert relation.scale == pytest.approx(case["marker_effects"]["scale"], rel=1e-14)
    G = relation.relationship()
    for row, col, value in case["marker_effects"]["G"]:
        assert G.loc[row, col] == pytest.approx(value, abs=1e-12)


def test_marker_effects_of_the_blups_of_the_cases():
    """BLUPs of the lines as the cases have them give the effects of the cases."""
    for name in ("mrode_snpblup", "morex_lowrank"):
        case = json.loads((GENETICS / "given" / f"{name}.json").read_text())
        ((label, spec),) = case["relationships"].items()
        relation = relationship_from_request(label, spec, GENETICS / "data")
        blups = next(block for key, block in case["ranef"].items() if key.startswith("vm("))
        u = np.empty(relation.size)
        u[relation.locate(blups["levels"], name)] = np.ravel(blups["values"])
        expected = dict(zip(case["marker_effects"]["markers"], case["marker_effects"]["values"], strict=True))
        found = dict(zip(relation.marker_names, relation.markers.from_levels(u), strict=True))
        largest = max(abs(value) for value in expected.values())
        for marker, value in expected.items():
            assert found[marker] == pytest.approx(value, abs=1e-8 * largest)
