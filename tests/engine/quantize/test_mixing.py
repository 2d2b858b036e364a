"""Which layers go back to float, from effects made up: their times would differ from machine to machine."""

from engine.quantize.mixing import mixtures
from engine.quantize.sensitivity import LayerEffect
from engine.steps.base import Standing

MISSED, KEPT = Standing(inside=False, loss_over_limit=3.0), Standing(inside=True)
#: the most harmful first
NOISES = {"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.1}


def effects(*slower: str) -> list[LayerEffect]:
    return [LayerEffect(name, name, "Conv", noise, -1.0 if name in slower else 1.0) for name, noise in NOISES.items()]


def asked(found: list[LayerEffect], standing: Standing, *answers: Standing) -> list[list[str]]:
    """What is proposed, answer after answer, the last one again and again."""
    rounds = mixtures(found, standing)
    proposed = [next(rounds, [])]
    for answer in (*answers, *[answers[-1]] * 8):
        try:
            proposed.append(rounds.send(answer))
        except StopIteration:
            break
    return proposed


def test_a_limit_that_is_missed_again_asks_for_more_float_and_one_that_holds_for_less() -> None:
    more = [len(kept) for kept in asked(effects(), MISSED, MISSED)]
    fewer = [len(kept) for kept in asked(effects(), MISSED, KEPT)]
    assert more == sorted(set(more)) and max(more) == 3
    assert fewer == sorted(set(fewer), reverse=True) and min(fewer) == 1


def test_layers_that_are_slower_go_alone_where_all_others_would_leave_the_original() -> None:
    assert asked(effects("a", "b", "c"), MISSED, MISSED) == [["a", "b", "c"]]


def test_fewer_layers_end_with_those_that_are_slower_alone() -> None:
    assert asked(effects("d"), MISSED, KEPT)[-1] == ["d"]


def test_where_all_are_slower_noise_alone_says_which_go() -> None:
    found = effects(*NOISES)
    assert asked(found, MISSED, KEPT)[-1] == ["a"]
    assert asked(found, KEPT, KEPT) == [[]], "all of them in float would be the original"
