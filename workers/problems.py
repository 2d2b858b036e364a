"""What a failed job says: a problem object with a stable code, who is at fault, and what to do."""

import signal
from typing import Any

from app.errors import KINDS
from engine.protocol import Failed, Fault, tells_of_memory

Problem = dict[str, Any]


def problem(code: str, title: str, detail: str, remedy: str, fault: Fault = Fault.SERVICE) -> Problem:
    return {
        "type": f"/v1/problems#{code}" if code in KINDS else "about:blank",  # a link only to what is listed there
        "title": title,
        "detail": detail,
        "code": code,
        "remedy": remedy,
        "fault": fault.value,
    }


def of_event(failed: Failed) -> Problem:
    return problem(failed.code, failed.title, failed.detail, failed.remedy, failed.fault)


def of_crash(returncode: int, last_words: str, limit_bytes: int) -> Problem:
    if tells_of_memory(last_words):
        return out_of_memory(limit_bytes)
    return problem(
        "child_crashed",
        "The optimization crashed",
        f"The process {describe_exit(returncode)}, in two attempts.",
        "Most such crashes are bugs of a native library that this model triggers. Leave out the step at which it "
        "happened, or simplify the model first. Other jobs are not affected.",
    )


def describe_exit(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with exit code {returncode} and no result"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"


def out_of_memory(limit_bytes: int) -> Problem:
    return problem(
        "out_of_memory",
        "The job ran out of memory",
        f"It needed more than the {limit_bytes / (1 << 30):.1f} GiB that one job may use here.",
        "Use a smaller batch size or fewer calibration samples, or let the operator raise STROP_JOB_MEMORY_BYTES.",
        Fault.USER,
    )


def job_timeout(seconds: float) -> Problem:
    return problem(
        "job_timeout",
        "The job took too long",
        f"It was still busy after {seconds:.0f} seconds and was ended. What it had found by then is offered.",
        "Give it a larger budget, or fewer and cheaper steps.",
        Fault.USER,
    )


def bad_output(detail: str) -> Problem:
    return problem(
        "bad_output",
        "The result could not be accepted",
        f"The optimizer's output was refused: {detail}.",
        "Try again; if it happens twice, report it with the job's id.",
    )


def storage_full() -> Problem:
    return problem(
        "storage_full",
        "The disk is full",
        "There was not enough free space to finish this job.",
        "Try again once the operator has freed space; nothing is wrong with the request.",
    )


def storage_corrupt(name: str) -> Problem:
    return problem(
        "storage_corrupt",
        "A stored file is damaged",
        f"The stored bytes of {name} do not have the digest they were uploaded with.",
        "Upload the file again. The operator should check the disk.",
    )


def input_missing(name: str) -> Problem:
    return problem(
        "input_missing",
        "An input is gone",
        f"{name} was deleted before the job could read it.",
        "Upload it again and submit a new job.",
        Fault.USER,
    )


def worker_lost(attempts: int) -> Problem:
    return problem(
        "worker_lost",
        "The worker was lost",
        f"The machine or process that ran this job disappeared, in {attempts} of {attempts} attempts.",
        "Submit it again. If it happens again, the job may be what brings the worker down: ask the operator.",
    )


def service_unavailable() -> Problem:
    return problem(
        "service_unavailable",
        "A part of the service failed",
        "The storage could not be reached, in every attempt.",
        "Submit it again later; nothing is wrong with the request.",
    )


def canceled() -> Problem:
    return problem("canceled", "Canceled", "Its inspection was canceled.", "Upload the file again.", Fault.USER)
