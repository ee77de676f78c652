"""What a vocabulary that is cut over processes can and cannot compute; losses: shards."""

import dataclasses

import pytest
import torch

from tutelage.divergences import DIVERGENCES
from tutelage.errors import ConfigError
from tutelage.targets import logit_mix, probability_mix
from tutelage.training import DistillLoss, StepValues, VocabularyParallelLoss
from tutelage.training.tiles import Block
from tutelage.training.vocabulary import SUMS_OVER_TOKENS, _Part


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_named_divergences_and_no_others_are_sums_over_tokens(name):
    torch.manual_seed(0)
    p, q = (torch.randn(5, 12, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    divergence = DIVERGENCES[name].function
    parts = divergence(p[:, :3], q[:, :3]) + divergence(p[:, 3:], q[:, 3:])
    is_sum = torch.allclose(parts, divergence(p, q), rtol=1e-12, atol=1e-14)
    assert is_sum == (name in SUMS_OVER_TOKENS)


PLAIN = DistillLoss(DIVERGENCES["forward_kl"].function, probability_mix, 12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"divergence": DIVERGENCES["adaptive_kl"].function}, "a sum over tokens: one of forward"),
        ({"second": DIVERGENCES["adaptive_kl"].function}, "a sum over tokens"),
        ({"target": logit_mix}, "needs the target `probability_mix`"),
        ({"top_k": 4}, "`top_k` looks at all tokens"),
        ({"target_entropy": True}, "`target_entropy` looks at all tokens"),
        ({"ce_trust": "agreed"}, "`ce_trust` looks at all tokens"),
    ],
)
def test_what_is_no_sum_over_tokens_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        VocabularyParallelLoss(dataclasses.replace(PLAIN, **changes))
    VocabularyParallelLoss(PLAIN)


def test_a_store_of_the_likeliest_tokens_is_refused(monkeypatch):
    monkeypatch.setattr("tutelage.training.vocabulary.log_softmax", lambda x, group: x)
    tile = type("Tile", (), {"kept_nK": torch.zeros(2, 3, dtype=torch.int64)})()
    block = Block(torch.zeros(2, 12), torch.zeros(2, dtype=torch.int64), (tile, slice(0, 2)))
    with pytest.raises(ConfigError, match="what the teacher says of every token"):
        _Part(PLAIN, 0, 12, None).sums(block, StepValues(0.0, 1.0, 0.5))
