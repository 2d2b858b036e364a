"""Strop takes a trained ONNX model and gives back one that is faster where it will be served, with the evidence.

This package is what a user types and imports; it knows the service only over HTTP.
"""

from strop.client import Strop
from strop.errors import (
    Conflict,
    DigestMismatch,
    InvalidRequest,
    JobCanceled,
    JobFailed,
    NotFound,
    Rejected,
    ServiceError,
    StropError,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from strop.job import Job
from strop.models import Event, FileBody, Interval, JobState, Problem, Verdict
from strop.report import Report
from strop.version import VERSION

__version__ = VERSION

__all__ = [
    "Conflict",
    "DigestMismatch",
    "Event",
    "FileBody",
    "Interval",
    "InvalidRequest",
    "Job",
    "JobCanceled",
    "JobFailed",
    "JobState",
    "NotFound",
    "Problem",
    "Rejected",
    "Report",
    "ServiceError",
    "Strop",
    "StropError",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "Verdict",
    "__version__",
]
