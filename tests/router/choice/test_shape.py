from __future__ import annotations

import numpy as np

from router.choice.shape import FAR, MAX_CHARACTERS, Shapes, shape_figures, with_products

TEXTS = ["What is 12 + 30?\nA. 42\nB. 3", "", " ", "Which is NOT so: é_", "Statement 1 | yes. Statement 2 | no."]


def test_figures_are_finite_and_of_one_length() -> None:
    found = [shape_figures(text) for text in TEXTS]
    assert len({len(row) for row in found}) == 1
    assert np.isfinite(np.array(found, dtype=float)).all()


def test_shapes_are_on_the_scale_of_the_texts_learned_from() -> None:
    shapes = Shapes.fit(TEXTS)
    assert np.abs(shapes.of(TEXTS).mean(axis=0)).max() < 1
    assert np.abs(shapes.of(["9" * 100 * MAX_CHARACTERS])).max() == FAR
    assert np.isfinite(Shapes.fit(["one"]).of(TEXTS)).all()


def test_products_hold_every_pair_once() -> None:
    found = with_products(np.array([[2.0, 3.0]]))
    assert found.tolist() == [[2, 3, 3, 6, 8]]  # squares less 1, which is their mean
