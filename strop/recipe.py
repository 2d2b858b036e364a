"""What to ask for, put together from words: the part of a job request that names no files."""

from collections.abc import Mapping, Sequence
from typing import Any

#: A step by its name, or with options: {"kind": "quantize_static", "weight_scales": "per_tensor"}
StepLike = str | Mapping[str, Any]


def recipe(
    *,
    goal: str | None = None,
    steps: Sequence[StepLike] | None = None,
    compare: Sequence[str] | None = None,
    analyze: bool = False,
    max_drop: float | None = None,
    minutes: float | None = None,
    threads: int | None = None,
    batch_size: int | None = None,
    metric: str | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """The recipe as the service reads it; the service checks the values, and knows what stands for what is left out."""
    return _aim(goal, steps, compare, analyze=analyze) | _without_none(
        limits=_without_none(accuracy_drop=max_drop),
        budget=_without_none(minutes=minutes),
        target=_without_none(threads=threads, batch_size=batch_size),
        metric=metric,
        seed=seed,
    )


def _aim(
    goal: str | None, steps: Sequence[StepLike] | None, compare: Sequence[str] | None, *, analyze: bool
) -> dict[str, Any]:
    """One of four things; a goal where none is named."""
    if [goal is None, steps is None, compare is None, not analyze].count(False) > 1:
        raise ValueError("give either steps or a goal, or models to compare, or ask for an analysis")
    if steps is not None:
        return {"steps": [_step(each) for each in steps]}
    if compare is not None:
        return {"compare": list(compare)}
    return {"analyze": True} if analyze else {"goal": {"minimize": goal or "latency"}}


def _step(step: StepLike) -> dict[str, Any]:
    return {"kind": step} if isinstance(step, str) else dict(step)


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
