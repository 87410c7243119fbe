from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router import index as index_module
from router.index import NO_KEY, VectorIndex
from router.types import Array
from router.vectors import unit


def vectors(count: int, dimensions: int = 24, seed: int = 0) -> Array:
    return unit(np.random.default_rng(seed).normal(size=(count, dimensions)))


def filled(count: int, dimensions: int = 24) -> VectorIndex:
    index = VectorIndex(dimensions)
    index.add(np.arange(count), vectors(count, dimensions))
    return index


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 60),
    st.sets(st.integers(0, 80)),
    st.integers(1, 12),
    st.integers(2, 40),
)
def test_a_small_index_finds_what_comparing_all_finds(count: int, gone: set[int], wanted: int, dimensions: int) -> None:
    index, asked = filled(count, dimensions), vectors(3, dimensions, seed=1)
    index.remove(np.array(sorted(gone)))
    left = [key for key in range(count) if key not in gone]
    assert len(index) == len(left) and all((key in index) == (key in left) for key in range(count))
    keys, similar = index.search(asked, wanted)
    exact = asked @ vectors(count, dimensions)[left].T if left else np.zeros((3, 0))
    for row in range(3):
        found = [key for key in keys[row].tolist() if key != NO_KEY]
        assert len(found) == min(wanted, len(left)) and set(found) <= set(left)
        best = np.sort(exact[row])[::-1][: len(found)]
        assert np.allclose(similar[row, : len(found)], best, atol=2e-3)


def test_a_large_index_finds_nearly_all() -> None:
    index, asked = filled(3000), vectors(50, seed=1)
    keys, _ = index.search(asked, 10)
    best = np.argsort(-(asked @ vectors(3000).T), axis=1)[:, :10]
    recall = np.mean([len(set(k) & set(b)) / 10 for k, b in zip(keys.tolist(), best.tolist(), strict=True)])
    assert recall > 0.9
    index.remove(best[0])
    assert not set(index.search(asked[:1], 20)[0][0].tolist()) & set(best[0].tolist())


def test_vectors_come_back() -> None:
    index = filled(20)
    there, found = index.vectors(np.array([3, 99, 7]))
    assert there.tolist() == [True, False, True]
    assert np.allclose(found, vectors(20)[[3, 7]], atol=5e-3)
    assert index.vectors(np.array([], dtype=np.int64))[1].shape == (0, 24)


def test_a_key_is_added_once_and_only_with_a_vector_that_fits() -> None:
    index = filled(5)
    with pytest.raises(ValueError, match=r"\[4\] came again"):
        index.add(np.array([9, 4]), vectors(2))
    with pytest.raises(ValueError, match=r"came again"):
        index.add(np.array([8, 8]), vectors(2))
    with pytest.raises(ValueError, match=r"shape \(2, 24\), one row for each key; got \(2, 3\)"):
        index.add(np.array([10, 11]), vectors(2, 3))
    assert len(index) == 5


def test_groups_are_made_anew_as_an_index_grows_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "PROBES", 4)
    index, whole = VectorIndex(24), vectors(10_500)
    groups = []
    for start in range(0, 10_500, 500):
        index.add(np.arange(start, start + 500), whole[start : start + 500])
        index.remove(np.array([start]))
        groups.append(index._index.nlist)
    assert groups[3] == 1 < groups[4] == groups[-2] < groups[-1]
    assert len(index) == 10_500 - 21 and 500 not in index and 501 in index
    there, found = index.vectors(np.arange(10_500))
    assert np.flatnonzero(~there).tolist() == list(range(0, 10_500, 500))
    assert np.allclose(found, whole[there], atol=5e-3)
    assert index.search(whole[4321:4322], 1)[0].tolist() == [[4321]]
    assert (index.search(whole[:1], 3000)[0] != NO_KEY).all()  # as many as are asked for, from however many groups


def test_adding_and_removing_while_others_search() -> None:
    index, asked, stop = filled(2500), vectors(4, seed=1), threading.Event()
    wrong: list[str] = []

    def search() -> None:
        while not stop.is_set():
            keys, similar = index.search(asked, 10)
            if (keys == NO_KEY).any() or not np.isfinite(similar).all() or (np.diff(similar) > 1e-3).any():
                wrong.append(str(keys))

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for step in range(6):
        first = 10_000 + step * 50
        index.add(np.arange(first, first + 50), vectors(50, seed=step + 2))
        index.remove(np.arange(step * 100, step * 100 + 100))
        assert not set(index.search(asked, 50)[0].ravel().tolist()) & set(range(step * 100 + 100))
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong and len(index) == 2500 - 600 + 300


@pytest.mark.parametrize("count", [0, 40])
def test_a_saved_index_is_the_same(count: int, tmp_path: Path) -> None:
    index, asked = filled(count), vectors(4, seed=1)
    index.remove(np.arange(3))
    index.save(tmp_path / "nodes.index")
    again = VectorIndex.load(tmp_path / "nodes.index")
    assert len(again) == len(index)
    for before, after in zip(index.search(asked, 5), again.search(asked, 5), strict=True):
        assert np.array_equal(before, after)
    again.add(np.array([500]), asked[:1])
    assert again.search(asked[:1], 1)[0].tolist() == [[500]]
    assert [path.name for path in tmp_path.iterdir()] == ["nodes.index"]


def test_other_native_libraries_load_after_it() -> None:
    """In a process of its own, since a clash of native libraries ends the process."""
    made = "import warnings; warnings.simplefilter('ignore'); from router.index import VectorIndex; VectorIndex(4)"
    done = subprocess.run([sys.executable, "-c", f"{made}; import onnxruntime"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "nodes.index"
    filled(40).save(path)
    whole = path.read_bytes()
    for broken, why in (
        (b"", "has 0 bytes"),
        (b"something else entirely, of some length", "end is missing"),
        (whole[:-10], "end is missing"),
        (whole[:200] + bytes([whole[200] ^ 1]) + whole[201:], "checksum"),
        (whole[:100] + whole[300:], "checksum"),
    ):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=f"nodes.index .*{why}"):
            VectorIndex.load(path)
