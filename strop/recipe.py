"""What to ask for, put together from words: the part of a job request that names no files."""

from collections.abc import Iterator, Mapping, Sequence
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


def models_named(recipe: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The other models that a recipe names, each with where it does so, in words; what is no recipe names none."""
    for number, model in enumerate(_list(recipe.get("compare")), 1):
        yield f"model {number} of `compare`", model
    for number, step in enumerate(_list(recipe.get("steps")), 1):
        if isinstance(step, Mapping) and step.get("kind") == "use_model" and "model" in step:
            yield f"step {number}, use_model", step["model"]


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


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
