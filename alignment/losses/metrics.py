"""Figures that several losses show, each under the name the field uses for it."""

from torch import Tensor


def pair_metrics(chosen_rewards: Tensor, rejected_rewards: Tensor) -> dict[str, Tensor]:
    """(P,) each. A reward is what the method says an answer is worth, in nats; accuracy is 1 where the chosen wins."""
    return {
        "rewards/chosen": chosen_rewards,
        "rewards/rejected": rejected_rewards,
        "rewards/accuracy": (chosen_rewards > rejected_rewards).to(chosen_rewards.dtype),
        "rewards/margin": chosen_rewards - rejected_rewards,
    }
