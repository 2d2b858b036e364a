"""What the service refuses, as a table: each kind has a stable code, an HTTP status, a title and a remedy.

    raise Problem(FILE_IN_USE, "job_0123… still reads mdl_4567….")

One exception, because callers treat all refusals alike; `app.http.problems` renders it as application/problem+json. The
table itself is served at `/v1/problems`, which is what a problem's `type` points to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Kind:
    """One kind of refusal; `code` never changes once released."""

    status: int
    code: str
    title: str
    remedy: str


@dataclass(frozen=True)
class Fault:
    """One wrong place in a request: a JSON pointer into its body, or the name of a parameter."""

    pointer: str | None
    detail: str
    parameter: str | None = None


@dataclass
class Problem(Exception):
    """A request that cannot be served, and what its sender can do about it."""

    kind: Kind
    detail: str
    errors: Sequence[Fault] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind.code}: {self.detail}"


class ConfigurationError(Exception):
    """The service refuses to start as it is configured; the message says what to change."""


# ── the request ──────────────────────────────────────────────────────────────────────────────────────────────────────

INVALID_REQUEST = Kind(
    422,
    "invalid_request",
    "The request is not valid",
    "Correct it and send it again; `strop steps` and GET /v1/steps list the steps and their options.",
)
MALFORMED_BODY = Kind(400, "malformed_body", "The body cannot be read", "Send well-formed JSON in UTF-8.")
INVALID_HEADER = Kind(400, "invalid_header", "A header cannot be read", "Correct or leave out the header.")
INVALID_CURSOR = Kind(422, "invalid_cursor", "The cursor is not one of ours", "Pass on `next_cursor` as it was given.")
NOT_FOUND = Kind(404, "not_found", "Not found", "Check the address and the id.")
METHOD_NOT_ALLOWED = Kind(405, "method_not_allowed", "The method does not fit", "Use a method listed in `Allow`.")
NOT_ACCEPTABLE = Kind(406, "not_acceptable", "No such form of the report", "Accept JSON, HTML or plain text.")
BODY_TOO_LARGE = Kind(
    413, "body_too_large", "The body is too large", "Send less; files go to /v1/models or /v1/datasets."
)
UNSUPPORTED_MEDIA = Kind(415, "unsupported_media_type", "The content type does not fit", "Send application/json.")
UNSUPPORTED_ENCODING = Kind(415, "unsupported_encoding", "Compressed bodies are not read", "Send the file as it is.")
RANGE_NOT_SATISFIABLE = Kind(416, "range_not_satisfiable", "The range lies outside", "Ask for bytes that exist.")
UNAUTHORIZED = Kind(401, "unauthorized", "A valid API key is needed", "Send `Authorization: Bearer KEY`.")
UNKNOWN_HOST = Kind(403, "unknown_host", "This name is not the service's", "Use 127.0.0.1, or start it with API keys.")
CROSS_ORIGIN = Kind(403, "cross_origin", "Web pages of others may not call", "Start the service with API keys.")
KEY_REUSED = Kind(422, "idempotency_key_reused", "The key belongs to another request", "Use a new Idempotency-Key.")

# ── uploads ──────────────────────────────────────────────────────────────────────────────────────────────────────────

UPLOAD_TOO_LARGE = Kind(413, "upload_too_large", "The file is too large", "Raise STROP_MAX_UPLOAD_BYTES.")
DIGEST_MISMATCH = Kind(400, "digest_mismatch", "The bytes differ from their digest", "Send the file again.")
STORAGE_FULL = Kind(507, "storage_full", "The disk is full", "Free space, then send it again.")
EMPTY_FILE = Kind(422, "empty_file", "The file is empty", "Send the file's bytes as the body.")
INVALID_MULTIPART = Kind(422, "invalid_multipart", "The form cannot be read", "Send one file in the field `file`.")
FILE_IN_USE = Kind(409, "file_in_use", "The file is in use", "Wait for the job, or cancel it.")

_EXPORT = "Export the model to ONNX, for example with torch.onnx.export, and send the .onnx file."
MODEL_IS_PICKLE = Kind(422, "model_is_pickle", "A pickle is not accepted", _EXPORT)
MODEL_IS_TORCH_CHECKPOINT = Kind(422, "model_is_torch_checkpoint", "A torch checkpoint is not accepted", _EXPORT)
MODEL_IS_ORT_FORMAT = Kind(
    422, "model_is_ort_format", "An .ort file is not accepted", "Send the .onnx file it came from."
)
MODEL_IS_HDF5 = Kind(422, "model_is_hdf5", "An HDF5 file is not accepted", "Export to ONNX, for example with tf2onnx.")
MODEL_IS_TFLITE = Kind(422, "model_is_tflite", "A TFLite file is not accepted", "Convert it with tf2onnx.")
MODEL_IS_ENGINE = Kind(422, "model_is_engine", "A compiled engine is not accepted", "Send the .onnx file it came from.")
MODEL_IS_COMPRESSED = Kind(422, "model_is_compressed", "An archive is not accepted", "Unpack it; send the .onnx file.")
MODEL_IS_EXECUTABLE = Kind(422, "model_is_executable", "Programs are not accepted", _EXPORT)
MODEL_IS_NOT_ONNX = Kind(422, "model_is_not_onnx", "This is not an ONNX model", _EXPORT)

_SAVE = "Save arrays with numpy.savez('data.npz', input_name=array, labels=labels) and send data.npz."
DATASET_IS_PICKLE = Kind(422, "dataset_is_pickle", "A pickle is not accepted", _SAVE)
DATASET_NOT_NPZ = Kind(422, "dataset_not_npz", "This is not an .npz file", _SAVE)

# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

MODEL_NOT_FOUND = Kind(422, "model_not_found", "There is no such model", "Upload it with POST /v1/models.")
DATASET_NOT_FOUND = Kind(422, "dataset_not_found", "There is no such data set", "Upload it with POST /v1/datasets.")
MODEL_REJECTED = Kind(422, "model_rejected", "The model was not accepted", "Mend the model and upload it again.")
DATASET_REJECTED = Kind(422, "dataset_rejected", "The data set was not accepted", "Mend the data and upload it again.")
MODEL_NOT_READY = Kind(409, "model_not_ready", "The model is still being inspected", "Send the job again shortly.")
DATASET_NOT_READY = Kind(
    409, "dataset_not_ready", "The data set is still being inspected", "Send the job again shortly."
)
INTERFACE_DIFFERS = Kind(
    422,
    "interface_differs",
    "The models cannot stand in for each other",
    "Export both with the same names, types and shapes of inputs and outputs.",
)
STEP_DOES_NOT_APPLY = Kind(422, "step_does_not_apply", "No step fits this model", "See `steps` of GET /v1/models/{id}.")
DATASET_NAMES = Kind(422, "dataset_names", "An input has no array", "Name the arrays as the model's inputs.")
DATASET_DTYPE = Kind(422, "dataset_dtype", "An array is of another type", "Convert it with astype() and save it again.")
DATASET_SHAPE = Kind(422, "dataset_shape", "An array is of another shape", "Samples lie along axis 0, as the input is.")
LABELS_MISSING = Kind(
    422, "labels_missing", "The metric needs labels", "Add an array `labels`, or name it in data.labels."
)
NO_GPU_WORKER = Kind(422, "no_gpu_worker", "No GPU worker is alive", "Start one, or choose target.device: cpu.")
JOB_ALREADY_ENDED = Kind(409, "job_already_ended", "The job has already ended", "Look at its state.")
JOB_NOT_ENDED = Kind(409, "job_not_ended", "The job has not ended yet", "Cancel it, or wait for it.")
RESULT_NOT_READY = Kind(409, "result_not_ready", "The result is not there yet", "Wait for the job's final state.")
NO_RESULT = Kind(
    404,
    "no_result",
    "The job left no such file",
    "The job's `links` name what there is, `error` and `verdict` say why.",
)

# ── the service ──────────────────────────────────────────────────────────────────────────────────────────────────────

INTERNAL_ERROR = Kind(500, "internal_error", "Something broke on our side", "Report the request id in `instance`.")
DATABASE_UNAVAILABLE = Kind(503, "database_unavailable", "The database is away", "Send the request again shortly.")
STORAGE_UNAVAILABLE = Kind(503, "storage_unavailable", "The storage is away", "Send the request again shortly.")
NOT_READY = Kind(503, "not_ready", "The service cannot work now", "Mend what `detail` names.")

KINDS: dict[str, Kind] = {kind.code: kind for kind in list(globals().values()) if isinstance(kind, Kind)}
