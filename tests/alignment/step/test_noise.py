"""NEFTune's noise has the size that its paper gives, alpha / sqrt(L d), however a batch is laid out."""

from types import SimpleNamespace

import pytest
import torch

from alignment.step.batch import Lengths, StepBatch
from alignment.step.noise import EmbeddingNoise

WIDTH = 4096
BATCH = StepBatch(
    input_ids=torch.zeros(24, dtype=torch.long),
    lengths=[Lengths(8, 4, 4), Lengths(5, 3, 0)],
    weights=torch.ones(2),
    desirable=torch.ones(2, dtype=torch.bool),
)
LONG, SHORT = 1 / (16 * WIDTH) ** 0.5, 1 / (8 * WIDTH) ** 0.5  # pairs of 16 and of 8 tokens, alpha 1


@pytest.mark.parametrize(
    ("layout", "shape", "expected"),
    [
        ("flat", (1, 24), [[LONG] * 16 + [SHORT] * 8]),
        ("sequences", (1, 32), [[LONG] * 24 + [SHORT] * 8]),  # the first prompt twice, the second once
        ("rows", (2, 3), [[LONG] * 3, [SHORT] * 3]),
    ],
)
def test_every_token_has_noise_of_the_size_that_its_pair_gives(
    layout: str, shape: tuple[int, int], expected: list[list[float]]
) -> None:
    torch.manual_seed(0)
    embedding = torch.nn.Embedding(1, WIDTH, _weight=torch.zeros(1, WIDTH))
    noise = EmbeddingNoise(SimpleNamespace(get_input_embeddings=lambda: embedding), alpha=1.0)
    noise.expect(BATCH, layout)
    largest = embedding(torch.zeros(shape, dtype=torch.long)).abs().amax(-1)
    limit = torch.tensor(expected)
    assert (largest <= limit).all()
    assert (largest > 0.98 * limit).all()  # of 4,096 uniform numbers the largest comes so near
    assert not embedding.eval()(torch.zeros(shape, dtype=torch.long)).any()
