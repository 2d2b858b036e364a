"""Hand-made odd models of the benchmarks' zoo: each is optimized, or refused with a reason that is true of it."""

from benchmarks.zoo import formats, odd

SPECIMENS = {specimen.name: specimen for specimen in (*odd.SPECIMENS, *formats.SPECIMENS)}
