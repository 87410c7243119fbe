"""A static encoder made of a sentence encoder: one vector a token, as model2vec does, cut to the leading components."""

from __future__ import annotations

from pathlib import Path

import numpy as np

RARE = 1e-3
"""Weight of frequent tokens fades below this over their share, taken from their rank (Zipf)."""


def distil(source: Path, folder: Path, dimensions: int = 128) -> None:
    """Write a model2vec folder whose token vectors come from the sentence-transformers folder `source`."""
    import torch
    from model2vec import StaticModel
    from sentence_transformers import SentenceTransformer
    from sklearn.decomposition import PCA
    from tokenizers import Tokenizer

    model = SentenceTransformer(str(source), device="cpu", local_files_only=True)[0].auto_model
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    size = tokenizer.get_vocab_size()
    first, last = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    rows = []
    with torch.no_grad():
        for start in range(0, size, 1024):
            ids = torch.tensor([[first, token, last] for token in range(start, min(size, start + 1024))])
            states = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            rows.append(states.mean(dim=1).numpy())
    vectors = PCA(dimensions, svd_solver="randomized", random_state=0).fit_transform(np.concatenate(rows))
    share = 1 / (np.arange(size) + 2)
    vectors *= (RARE / (RARE + share / share.sum()))[:, None]
    StaticModel(vectors.astype(np.float32), tokenizer, normalize=True).save_pretrained(str(folder))
