"""Speech for a model that tells it from silence and noise: recorded words with noise added, from Debian's alsa-utils.

Where somebody speaks is read off the clean recording, so the labels are right however loud the noise is. The model
carries a state from piece to piece; the states are those that the original reaches.
"""

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.measure.session import open_session, session_options

FOLDER = Path("/usr/share/sounds/alsa")
TRAIN = ("Front_Center", "Front_Right", "Rear_Left", "Side_Left")
TEST = ("Front_Left", "Rear_Center", "Rear_Right", "Side_Right")
RATE, RECORDED_RATE = 16_000, 48_000  #: samples a second
PIECE, CONTEXT = 512, 64  #: samples that a run is new to, and those before them
PAUSE_SECONDS = 1.0
SPEEDS = (0.9, 1.0, 1.1)
NOISE = (0.0, 0.01, 0.03, 0.1)  #: over the recording's loudest sample
SPOKEN = 0.02  #: root mean square of a piece, over the loudest sample, from which on it is speech

Arrays = dict[str, NDArray[np.generic]]


def spoken(model: Path, names: tuple[str, ...]) -> Arrays:
    """`input` (N, 1, 576), `state` (N, 2, 1, 128), both float32, `sr` (), and labels (N,): 1 for speech."""
    random = np.random.default_rng(0)
    session = open_session(model, "cpu", session_options(1))
    inputs, states, labels = [], [], []
    for clean in _recordings(names):
        for loudness in NOISE:
            heard = clean + loudness * random.standard_normal(clean.shape).astype(np.float32)
            state = np.zeros((2, 1, 128), np.float32)
            for start in range(CONTEXT, len(clean) - PIECE, PIECE):
                inputs.append(heard[None, start - CONTEXT : start + PIECE])
                states.append(state)
                labels.append(float(np.sqrt(np.square(clean[start : start + PIECE]).mean())) > SPOKEN)
                feeds = {"input": inputs[-1], "state": state, "sr": np.array(RATE, np.int64)}
                state = session.run(None, feeds)[1]
    arrays = {"input": np.stack(inputs), "state": np.stack(states)}
    return {**arrays, "sr": np.array(RATE, np.int64), "labels": np.array(labels, np.int64)}


def _recordings(names: tuple[str, ...]) -> Iterator[NDArray[np.float32]]:
    """Each recording at each speed, -1…1, a pause after it."""
    from scipy.signal import resample

    for name in names:
        path = FOLDER / f"{name}.wav"
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: apt-get install alsa-utils")
        with wave.open(str(path)) as file:
            sound = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32)
        for speed in SPEEDS:
            slowed = resample(sound, int(len(sound) * RATE / RECORDED_RATE / speed))
            loud = slowed / np.abs(slowed).max()
            yield np.concatenate([loud, np.zeros(int(PAUSE_SECONDS * RATE))]).astype(np.float32)
