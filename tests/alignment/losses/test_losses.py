"""Every method beside ORPO, on figures small enough to work out by hand."""

import math
from typing import Any

import pytest
import torch

from alignment.losses.catalogue import find_loss
from alignment.losses.registry import Losses, register_loss, registered
from alignment.step.results import SideLogps, StepLogps
from gateway.contracts.methods import METHODS
from gateway.contracts.training import TrainingOptions


def side(*sums: float, tokens: int = 2) -> SideLogps:
    return SideLogps(torch.tensor(sums).double(), torch.full((len(sums),), float(tokens)).double())


# The chosen answer rose by 3 nats over the base and the rejected one fell by 1: log-ratios 3 and -1, their means
# over 2 tokens 1.5 and -0.5; mean log-probabilities -2 and -3.
PAIR = StepLogps(side(-4.0), side(-6.0), divergence=side(0.6, tokens=4), reference=StepLogps(side(-7.0), side(-5.0)))


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def value(name: str, logps: StepLogps = PAIR, **parameters: Any) -> Losses:
    options = TrainingOptions.model_validate(
        {"method": name, **{k: v for k, v in parameters.items() if k != "baseline"}}
    )
    extra = {"baseline": parameters["baseline"]} if "baseline" in parameters else {}
    return find_loss(name).function(logps, **options.loss_parameters, **extra)


def test_dpo() -> None:
    losses = value("dpo")
    assert losses.per_row.tolist() == pytest.approx([-log_sigmoid(0.1 * 4)])
    assert losses.metrics["rewards/chosen"].tolist() == pytest.approx([0.3])
    assert losses.metrics["rewards/margin"].tolist() == pytest.approx([0.4])


def test_rpo_is_dpo_plus_the_likelihood_of_the_chosen_answer() -> None:
    assert value("dpo", rpo_alpha=0.5).per_row.tolist() == pytest.approx([-log_sigmoid(0.4) + 0.5 * 2.0])


def test_orpo_kl_adds_the_divergence_per_token() -> None:
    losses = value("orpo-kl", kl_coef=2.0)
    assert losses.metrics["kl"].tolist() == pytest.approx([0.15])
    assert losses.per_row.tolist() == pytest.approx([-log_sigmoid(0.4) + 2.0 * 0.15])


def test_orpo_alpha_is_the_article_s_name_for_kl_coef() -> None:
    assert value("orpo-kl", orpo_alpha=2.0).per_row.tolist() == value("orpo-kl", kl_coef=2.0).per_row.tolist()


def test_ipo_pulls_the_difference_of_mean_log_ratios_to_its_target() -> None:
    # 1.5 - (-0.5) = 2; the target is 1 / (2 * 0.1) = 5.
    assert value("ipo").per_row.tolist() == pytest.approx([9.0])


def test_simpo_wants_a_margin_between_mean_log_probabilities() -> None:
    # 2 (-2 + 3) - 1 = 1.
    assert value("simpo").per_row.tolist() == pytest.approx([-log_sigmoid(1.0)])


def test_kto_of_a_thumb_up_and_a_thumb_down() -> None:
    thumbs = StepLogps(
        side(-4.0, -4.0),
        side(0.0, 0.0, tokens=0),
        desirable=torch.tensor([True, False]),
        reference=StepLogps(side(-7.0, -5.0), side(0.0, 0.0, tokens=0)),
    )
    # Log-ratios 3 and 1 against a baseline of 2: one above it, as wanted, and one below it, as wanted too.
    losses = value("kto", thumbs, baseline=torch.tensor(2.0).double(), undesirable_weight=3.0)
    sigmoid = 1 / (1 + math.exp(-0.1))
    assert losses.per_row.tolist() == pytest.approx([1 - sigmoid, 3 * (1 - sigmoid)])
    assert losses.metrics["rewards/accuracy"].tolist() == [1.0, 1.0]


def test_sft_is_the_likelihood_of_the_good_answer() -> None:
    assert value("sft").per_row.tolist() == [2.0]


def test_the_contract_names_every_parameter_with_its_default() -> None:
    for name, method in METHODS.items():
        options = TrainingOptions(method=name)
        assert options.loss_parameters == dict(method.parameters)
        assert find_loss(name).method == method


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"beta": 0.1}, "what TRL and ms-swift call beta is `lambda` here"),
        ({"orpo_alpha": 1.0}, "orpo as published has no KL term"),
        ({"method": "dpo", "gamma": 1.0}, "method dpo has no parameter gamma; it takes: beta, rpo_alpha"),
        ({"method": "rlhf"}, "there is no method rlhf; choose one of orpo, orpo-kl, dpo"),
        ({"parameters": {"tau": 1.0}}, "method orpo has no parameter tau; it takes: lambda, nll"),
    ],
)
def test_a_parameter_of_another_method_is_refused_with_what_to_do(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", "\\(")):
        TrainingOptions.model_validate(given)


def test_a_loss_of_ones_own_is_a_method_like_any_other() -> None:
    @register_loss("test-hinge", "pairs", "A margin.")
    def hinge(logps: StepLogps, *, margin: float = 1.0) -> Losses:
        return Losses((margin - logps.chosen.means + logps.rejected.means).clamp(min=0))

    try:
        options = TrainingOptions(method="test-hinge", parameters={"margin": 3.0})
        assert registered("test-hinge").function(PAIR, **options.loss_parameters).per_row.tolist() == [2.0]
        assert TrainingOptions(method="test-hinge").loss_parameters == {"margin": 1.0}
        with pytest.raises(ValueError, match="registered already"):
            register_loss("test-hinge", "pairs")(hinge)
    finally:
        METHODS.pop("test-hinge")
