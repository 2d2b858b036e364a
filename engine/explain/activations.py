"""What the activations say about what can be done: each finding names its step."""

from engine.report import ActivationLayer, Finding, Report
from engine.words import digits, share

FAR_OUT = 20.0  #: standard deviations: 8 bits then leave the usual values a dozen levels
FEW = 3  #: layers that are named


def dead_channels(report: Report) -> Finding | None:
    """Channels that say nothing on any sample."""
    layers = [layer for layer in report.activations if layer.dead]
    dead = sum(layer.dead for layer in layers)
    if not dead:
        return None
    nearly = sum(layer.nearly_dead for layer in report.activations)
    also = f" {nearly} more hardly ever are not." if nearly else ""
    text = (
        f"{dead} of {sum(layer.channels for layer in report.activations)} channels behind activations are always zero "
        f"on the samples ({_named(layers)}).{also} prune_channels with the ratio 0 removes such channels without loss."
    )
    return Finding(code="dead_channels", text=text)


def far_outliers(report: Report) -> Finding | None:
    """Values so far out that 8 bits have few levels left for all others."""
    layers = sorted((layer for layer in report.activations if _reach(layer) > FAR_OUT), key=_reach, reverse=True)
    if not layers:
        return None
    text = (
        f"The largest values of {len(layers)} of {len(report.activations)} activations lie more than {FAR_OUT:.0f} "
        f"standard deviations out, {digits(_reach(layers[0]))} at most ({_named(layers)}). In 8 bits few levels are "
        "left for the others: `smooth`, `mixed` or `keep_float` of quantize_static are made for that."
    )
    return Finding(code="far_outliers", text=text, severity="warning")


def mostly_zero(report: Report) -> Finding | None:
    """How sparse the activations are, which dense runtimes do not turn into speed."""
    values = [(layer.zero_share, layer.layer) for layer in report.activations]
    if not values or max(values)[0] < 0.5:
        return None
    sparsest, name = max(values)
    text = (
        f"Activations hold up to {share(sparsest)} zeros (“{name}”). Dense runtimes gain nothing from that; it tells "
        "which layers can spare channels."
    )
    return Finding(code="sparse_activations", text=text)


def _reach(layer: ActivationLayer) -> float:
    """How many standard deviations the farthest value lies from the mean."""
    return max(layer.high - layer.mean, layer.mean - layer.low) / layer.deviation if layer.deviation else 0.0


def _named(layers: list[ActivationLayer]) -> str:
    names = ", ".join(f"“{layer.layer}”" for layer in layers[:FEW])
    return f"{names} and {len(layers) - FEW} more" if len(layers) > FEW else names
