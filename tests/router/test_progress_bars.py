from pathlib import Path

import pytest
from transformers.utils import logging

from router.encoders import load_encoder
from router.progress_bars import without_bars
from router.training.torch_encoder import TorchEncoder


def test_loading_an_encoder_writes_nothing(
    tiny_sentence_encoder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "_tqdm_active", True)
    load_encoder(tiny_sentence_encoder).encode(["a lease"])
    TorchEncoder(tiny_sentence_encoder, trained=0)
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()


@pytest.mark.parametrize("shown", [True, False])
def test_what_was_shown_before_is_shown_after(shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "_tqdm_active", shown)
    with without_bars():
        assert not logging.is_progress_bar_enabled()
    assert logging.is_progress_bar_enabled() is shown
