"""The embedded embedder and cross-encoders, loaded from folders: no network, quiet, and what is no such model says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knowledge_support import markdown
from lastresort.errors import DataError, PrerequisiteError
from lastresort.knowledge.chunks import ChunkSettings
from lastresort.knowledge.embedder import Embedder, open_embedder
from lastresort.knowledge.search import search
from lastresort.knowledge.sentence_models import open_reranker
from lastresort.knowledge.store import StoreSettings, create_store, open_store
from lastresort.knowledge.update import update


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return open_embedder()


def tiny_cross_encoder(folder: Path, labels: int = 1) -> Path:
    """Random weights over a few words."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "lamp", "chair", "desk", "broken", "where", "is", "the"]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        num_labels=labels,
        initializer_range=1.0,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_the_embedded_embedder_knows_meaning_and_its_limits(embedder: Embedder) -> None:
    texts = ["The parcel is late.", "A delivery that has not arrived yet.", "How to boil an egg."]
    vectors = embedder.embed_passages(texts)
    assert (vectors.dtype, vectors.shape) == (np.float32, (3, 384))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    question = embedder.embed_questions(["Where is my package?"])[0]
    assert question @ vectors[1] > question @ vectors[2] + 0.2
    assert (embedder.max_tokens, embedder.dimensions, embedder.name) == (254, 384, "embedded")
    assert embedder.count_tokens("parcel late") == 2
    assert embedder.count_tokens("word " * 400) == 400
    fits, longer = "word " * 254, "word " * 254 + "egg"
    at_the_limit = embedder.embed_passages([fits, longer])
    assert at_the_limit[0] == pytest.approx(at_the_limit[1], abs=1e-5), "what is longer is cut, what fits is not"
    assert embedder.embed_questions([]).shape == (0, 384)


@pytest.mark.slow
def test_progress_and_order_of_many_texts(embedder: Embedder) -> None:
    texts = [f"{'long ' * (n % 7)}text {n}" for n in range(520)]
    done: list[int] = []
    vectors = embedder.embed_passages(texts, done.append)
    assert sum(done) == 520
    assert len(done) == 2
    alone = embedder.embed_passages([texts[3], texts[519]])
    assert vectors[[3, 519]] == pytest.approx(alone, abs=1e-5)


def test_a_store_of_the_embedded_embedder(tmp_path: Path, embedder: Embedder) -> None:
    store = create_store(tmp_path / "store", embedder, StoreSettings(ChunkSettings(60, 10)))
    update(
        store,
        [markdown("a.md", "# Delivery\n\nParcels arrive within a week.\n\n# Cooking\n\nBoil eggs for six minutes.")],
    )
    again = open_store(tmp_path / "store")
    assert search(again, "When does my package come?", k=1)[0].chunk.id == "a.md#delivery:1"
    assert again.embedder.fingerprint == embedder.fingerprint


def test_a_cross_encoder_orders_by_its_logits(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tiny_cross_encoder(tmp_path / "reranker")
    reranker = open_reranker(folder)
    passages = ["the lamp", "the broken chair", "desk"]
    scores = reranker.scores("where is the lamp", passages)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    batch: Any = tokenizer(["where is the lamp"] * 3, passages, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model.eval()(**batch).logits[:, 0]
    assert scores == pytest.approx(logits.tolist(), abs=1e-5)
    assert max(abs(score) for score in scores) > 0.01
    assert reranker.scores("where", []) == []
    store = create_store(tmp_path / "store", open_embedder("hashing"), StoreSettings(ChunkSettings(40, 8)))
    update(store, [markdown(f"{n}.md", text) for n, text in enumerate(passages)])
    hits = search(store, "where is the lamp", mode="vector", reranker=reranker, k=3)
    assert [hit.score for hit in hits] == pytest.approx(sorted(scores, reverse=True), abs=1e-5)


def test_what_is_no_such_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this is not a model's folder"):
        open_embedder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="no weights as safetensors"):
        open_embedder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(DataError, match="the model cannot be loaded"):
        open_embedder(tmp_path).count_tokens("x")
    with pytest.raises(DataError, match="it gives 3 scores per pair"):
        open_reranker(tiny_cross_encoder(tmp_path / "three", labels=3)).scores("x", ["y"])
    with pytest.raises(DataError, match="neither a folder nor a hub id"):
        open_embedder("not a/hub/id")
    with pytest.raises(PrerequisiteError, match="HF_HUB_OFFLINE is set"):
        open_embedder("nobody/nothing")


def test_the_fingerprint_follows_the_files_that_decide(tmp_path: Path) -> None:
    folder = tiny_cross_encoder(tmp_path / "model")
    first = open_reranker(folder).fingerprint
    (folder / "README.md").write_text("about")
    assert open_reranker(folder).fingerprint == first
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "cls"}))
    assert open_reranker(folder).fingerprint != first


EARLY = """
import sys
from lastresort.knowledge.embedder import open_embedder
import lastresort.knowledge.search, lastresort.knowledge.update, lastresort.knowledge.reading
open_embedder()
found = {"torch", "transformers", "sentence_transformers", "lancedb", "pyarrow", "pypdf", "markdown_it"} & set(sys.modules)
assert not found, found
"""

QUIET = """
from lastresort.knowledge.embedder import open_embedder
open_embedder().embed_questions(["a"])
"""


@pytest.mark.parametrize("code", [EARLY, pytest.param(QUIET, marks=pytest.mark.slow)], ids=["early", "quiet"])
def test_nothing_heavy_is_loaded_early_and_loading_is_quiet(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
