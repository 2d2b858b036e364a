"""What can go wrong inside the engine, in words that a user can act on.

    EngineError
    ├── ModelRejected    the model is not one that we accept               (the user's)
    ├── DataRejected     the samples do not fit the model                  (the user's)
    └── StepFailed       a step could not write its file, though it should (ours)

`code` is stable and snake_case; `detail` names the tensor, node or array; `remedy` says what to do. The engine knows
nothing of HTTP: an error becomes a `Failed` event.
"""

from engine.protocol import Failed, Fault


class EngineError(Exception):
    """A failure that was understood."""

    title = "The work could not be done"
    fault = Fault.SERVICE

    def __init__(self, code: str, detail: str, remedy: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.remedy = remedy

    def event(self) -> Failed:
        """The last event of a job that ends with this error."""
        return Failed(code=self.code, title=self.title, detail=self.detail, remedy=self.remedy, fault=self.fault)


class ModelRejected(EngineError):
    title = "The model was not accepted"
    fault = Fault.USER


class DataRejected(EngineError):
    title = "The data was not accepted"
    fault = Fault.USER


class StepFailed(EngineError):
    title = "A step failed"
