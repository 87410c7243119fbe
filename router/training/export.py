"""Writes a sentence encoder as one ONNX graph from token ids to a pooled vector, with weights of eight bits."""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from graph.errors import InvalidRequest
from router.training.torch_encoder import TorchEncoder

OPSET = 17


def export_int8(encoder: TorchEncoder, target: Path, *, tokens: bool = False) -> None:
    """Write the encoder to `target`; each output channel has its own scale, which keeps the accuracy.

    The graph gives one pooled vector a text, or with `tokens` one vector a token.

    Raises `InvalidRequest` if the packages that write ONNX are not installed.
    """
    try:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise InvalidRequest(f"{error.name} is not installed; pip install 'modelyard[onnx]'", param="encoder") from None
    with TemporaryDirectory() as folder:
        exact = Path(folder) / "exact.onnx"
        _export(encoder, exact, tokens)
        model = onnx.load(exact)
        # The exporter has folded constants and inferred shapes; the mark keeps onnxruntime from asking for it again.
        onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
        # Weights of seven bits: with eight, processors without VNNI instructions saturate.
        quantize_dynamic(model, target, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)


def _export(encoder: TorchEncoder, target: Path, tokens: bool) -> None:
    import torch

    sample = encoder.tokenize(["an example of a text", "another"])
    ids, mask = encoder.pad([item.ids for item in sample])
    axes = {0: "texts", 1: "tokens"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing remarks on shapes that are constant here
        torch.onnx.export(
            _whole(encoder, tokens),
            (ids, mask),
            str(target),
            input_names=["input_ids", "attention_mask"],
            output_names=["embedding"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "embedding": axes if tokens else {0: "texts"}},
            opset_version=OPSET,
            dynamo=False,
        )


def _whole(encoder: TorchEncoder, tokens: bool) -> Any:
    import torch

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = encoder.model

        def forward(self, ids: Any, mask: Any) -> Any:
            return encoder.hidden_ids(ids, mask) if tokens else encoder.forward_ids(ids, mask)

    return Whole().eval()
