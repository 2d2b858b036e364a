import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from strop.cli.exits import Code
from tests.faults.child import Act
from tests.faults.standin import MODEL, seed_of
from tests.service import RunningService

STROP = (sys.executable, "-m", "strop")


@pytest.fixture
def environment(service: RunningService) -> dict[str, str]:
    return os.environ | {"STROP_URL": service.url, "COLUMNS": "100"}


def strop(environment: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    command = [*STROP, *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def optimize(environment: dict[str, str], model: Path, act: Act, *words: object) -> subprocess.CompletedProcess[str]:
    return strop(environment, "optimize", model, "--steps", "simplify_graph", "--seed", seed_of(act), *words)


def test_optimize_prints_the_report_and_writes_the_file(environment, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "faster.onnx"
    done = optimize(environment, model, Act.SUCCEED, "-o", output)
    assert done.returncode == Code.DONE
    assert done.stdout.startswith("made by process")
    assert output.read_bytes() == MODEL
    assert f"Nothing was done. {output} holds the original." in done.stderr  # as the verdict says it


def test_json_is_all_that_stands_on_standard_output(environment, model: Path) -> None:
    done = optimize(environment, model, Act.SUCCEED, "--json")
    answer = json.loads(done.stdout)
    assert answer["job"]["state"] == "succeeded"
    assert answer["report"]["verdict"]["outcome"] == "no_improvement"


def test_quiet_prints_the_id_alone(environment, model: Path) -> None:
    done = optimize(environment, model, Act.SUCCEED, "--quiet")
    assert done.stdout.startswith("job_")
    assert "uploading" not in done.stderr


def test_a_required_improvement_that_is_missing_has_its_own_code_and_writes_nothing(
    environment, model: Path, tmp_path: Path
) -> None:
    done = optimize(environment, model, Act.SUCCEED, "-o", tmp_path / "faster.onnx", "--require-improvement")
    assert done.returncode == Code.NO_IMPROVEMENT
    assert not (tmp_path / "faster.onnx").exists()


def test_a_failed_job_ends_with_the_reason_and_the_remedy(environment, model: Path) -> None:
    done = optimize(environment, model, Act.FAIL)
    assert done.returncode == Code.FAILED
    assert "It was asked to fail." in done.stderr
    assert "Ask for less." in done.stderr


def test_stages_are_one_line_each_where_nobody_looks(environment, model: Path) -> None:
    lines = optimize(environment, model, Act.SUCCEED).stderr.splitlines()
    assert lines[0] == f"uploading {model}"
    assert lines[-2] == "succeeded"
    assert not any("\x1b" in line for line in lines)


def test_a_terminal_is_told_what_happens_to_an_upload_while_no_byte_moves(environment, model: Path) -> None:
    done = strop(environment | {"TTY_COMPATIBLE": "1"}, "inspect", model)
    assert done.stderr.index("hashing") < done.stderr.index("inspecting")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("optimize", "there-is-no-such-file.onnx"), Code.USAGE),
        (("optimize", "mdl_1", "--steps", "nonsense"), Code.USAGE),
        (("optimize", "mdl_1", "-o", "/no/such/folder/out.onnx"), Code.USAGE),
        (("optimize", "mdl_1", "--labels", "y"), Code.USAGE),
        (("optimize", "mdl_1", "--goal", "latency", "--steps", "simplify_graph"), Code.USAGE),
        (("show", "job_0123456789abcdef"), Code.NOT_FOUND),
        (("download", "job_0123456789abcdef", "-o", "out.onnx"), Code.NOT_FOUND),
        (("jobs", "--url", "http://127.0.0.1:9"), Code.UNREACHABLE),
    ],
)
def test_exit_codes_tell_what_went_wrong(environment, words: tuple[str, ...], code: Code) -> None:
    done = strop(environment, *words)
    assert done.returncode == code, done.stderr
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("wrong", [("--goal", "noise"), ("--steps", "nonsense"), ("--metric", "taste")])
def test_a_wrong_wish_is_refused_before_anything_is_uploaded(environment, model: Path, wrong: tuple[str, str]) -> None:
    done = strop(environment, "optimize", model, *wrong)
    assert done.returncode == Code.USAGE
    assert "uploading" not in done.stderr


def test_an_unreachable_service_is_told_with_the_remedy(environment) -> None:
    assert "strop serve` running" in strop(environment, "steps", "--url", "http://127.0.0.1:9").stderr


def test_a_recipe_file_is_read_and_excludes_its_own_options(environment, model: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"steps": [{"kind": "simplify_graph"}], "target": {"threads": 2}}))
    done = strop(environment, "optimize", model, "--recipe", recipe, "--json")
    assert json.loads(done.stdout)["job"]["request"]["target"]["threads"] == 2
    assert strop(environment, "optimize", model, "--recipe", recipe, "--minutes", 1).returncode == Code.USAGE
    recipe.write_text("not JSON")
    assert strop(environment, "optimize", model, "--recipe", recipe).returncode == Code.USAGE


def test_a_job_can_be_left_shown_watched_canceled_reported_and_downloaded(environment, model, tmp_path: Path) -> None:
    job_id = optimize(environment, model, Act.WORK, "--no-wait").stdout.strip()
    assert job_id.startswith("job_")
    assert strop(environment, "watch", job_id, "--timeout", 2).returncode == Code.TIMEOUT
    shown = json.loads(strop(environment, "show", job_id, "--json").stdout)
    assert shown["job"]["state"] == "running"
    assert job_id in strop(environment, "jobs", "--state", "running").stdout
    assert strop(environment, "cancel", job_id).stdout.strip() == job_id
    watched = strop(environment, "watch", job_id)
    assert (watched.returncode, f"strop download {job_id} -o" in watched.stderr) == (Code.FAILED, True)
    assert strop(environment, "report", job_id).stdout.startswith("made by process")
    assert json.loads(strop(environment, "report", job_id, "--json").stdout)["schema_version"]
    shown = strop(environment, "show", job_id)
    assert re.search(r"^files +t01$", shown.stdout, re.MULTILINE)
    assert f"strop download {job_id} --candidate t01" in shown.stderr
    missing = strop(environment, "download", job_id, "--candidate", "t09", "-o", tmp_path / "c")
    assert (missing.returncode, "there are files of t01" in missing.stderr) == (Code.NOT_FOUND, True)
    assert strop(environment, "download", job_id, "-o", tmp_path / "m.onnx").returncode == Code.DONE
    assert strop(environment, "download", job_id, "--candidate", "t01", "-o", tmp_path / "c").returncode == Code.DONE
    assert (tmp_path / "m.onnx").read_bytes() == (tmp_path / "c").read_bytes() == MODEL


def heed_ctrl_c() -> None:
    """What started the tests, a shell in the background for one, may have let them ignore Ctrl+C or hold it back."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def test_ctrl_c_leaves_the_job_running_and_says_how_to_go_on(environment, model: Path) -> None:
    words = ("optimize", str(model), "-o", "out.onnx", "--steps", "simplify_graph", "--seed", str(seed_of(Act.WORK)))
    process = subprocess.Popen(
        [*STROP, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,  # noqa: PLW1509 - calls nothing but the kernel
    )
    assert process.stderr is not None
    next(line for line in process.stderr if line.startswith("baseline"))
    process.send_signal(signal.SIGINT)
    _, chatter = process.communicate(timeout=30)
    assert process.returncode == Code.INTERRUPTED
    job_id = chatter.split("strop cancel ")[1].split()[0]
    assert f"strop watch {job_id}" in chatter
    assert f"strop download {job_id} -o out.onnx" in chatter
    assert json.loads(strop(environment, "show", job_id, "--json").stdout)["job"]["state"] == "running"
    strop(environment, "cancel", job_id)


def test_inspect_and_steps_print_tables(environment, model: Path) -> None:
    inspected = strop(environment, "inspect", model)
    assert "x: float32[N, 4]" in inspected.stdout
    assert json.loads(strop(environment, "inspect", model, "--json").stdout)["model"]["summary"]["opset"] == 17
    assert "percentile: from 90 to 100; 99.99 if left out" in strop(environment, "steps").stdout
    assert {"kind", "title", "options"} <= json.loads(strop(environment, "steps", "--json").stdout)[0].keys()


def test_models_are_uploaded_and_compared_gated_and_analyzed(environment, model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(MODEL)
    compared = json.loads(strop(environment, "compare", model, other, "--json").stdout)
    request = compared["job"]["request"]
    assert request["compare"][0].startswith("mdl_") and request["compare"][0] != request["model"]
    assert (request["steps"], request["goal"]) == (None, None)
    gated = strop(environment, "gate", model, other)  # the stand-in says that the file is as it was
    assert (gated.returncode, gated.stdout[:12]) == (Code.DONE, "gate passed:"), gated.stderr
    analyzed = json.loads(strop(environment, "analyze", model, "--json").stdout)
    assert analyzed["job"]["request"]["analyze"] is True
    assert strop(environment, "compare", model).returncode == Code.USAGE


def test_a_recipe_s_path_of_a_model_is_uploaded(environment, model: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"steps": [{"kind": "use_model", "model": str(model)}]}))
    done = strop(environment, "optimize", model, "--recipe", recipe, "--json")
    (step,) = json.loads(done.stdout)["job"]["request"]["steps"]
    assert step["model"].startswith("mdl_")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--goal", "speed"), "--goal: must be `latency`, `size` or `memory`"),
        (("--minutes", 99999), "--minutes: must be at most 1440, not 99999"),
        (("--minutes", 0), "must be more than 0"),
        (("--minutes", "nan"), "not a finite number"),
        (
            ("--steps", "quantise_static"),
            "--steps: there is no step `quantise_static`; did you mean `quantize_static`?",
        ),
    ],
)
def test_a_wrong_option_is_named_as_it_was_typed(environment, model: Path, words: tuple, said: str) -> None:
    done = strop(environment, "optimize", model, *words)
    assert done.returncode == Code.USAGE
    assert said in " ".join(done.stderr.split())
    assert "/goal" not in done.stderr and "/budget" not in done.stderr


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("goal: latency", "recipes are JSON"),
        ("[]", "does not hold a JSON object"),
        ('{"goal": {}, "seeed": 1}', "recipe.json /seeed: there is no `seeed` here; did you mean `seed`?"),
        ('{"steps": [{"kind": "use_model", "model": "no.onnx"}]}', "step 1, use_model: there is no file no.onnx"),
    ],
)
def test_a_wrong_recipe_is_told_with_its_place(
    environment, model: Path, tmp_path: Path, recipe: str, said: str
) -> None:
    (tmp_path / "recipe.json").write_text(recipe)
    done = strop(environment, "optimize", model, "--recipe", tmp_path / "recipe.json")
    assert done.returncode == Code.USAGE
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert "uploading" not in done.stderr


@pytest.mark.parametrize("option", ["--steps", "--goal", "--data", "--metric", "--labels"])
def test_an_empty_value_is_no_option_that_was_left_out(environment, model: Path, option: str) -> None:
    done = strop(environment, "optimize", model, option, "")
    assert (done.returncode, "shell variable" in done.stderr) == (Code.USAGE, True)
