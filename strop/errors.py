"""What can go wrong between a user and the service.

    StropError
    ├── Unreachable            nothing answers at the URL, or no longer
    ├── ServiceError           the service answered with a problem
    │   ├── Unauthorized       the API key is missing or wrong
    │   ├── NotFound           no such job, model, data set or file
    │   ├── Conflict           not possible in the state that the job or file is in
    │   ├── InvalidRequest     the request or the uploaded file is wrong; the user can mend it
    │   │   └── Rejected       an uploaded file was inspected and refused
    │   └── Unavailable        the service is overloaded, full or restarting
    ├── JobFailed              a job ended without success
    │   └── JobCanceled        because somebody canceled it
    └── DigestMismatch         the bytes received are not the bytes that were sent

A client that waits too long raises the builtin TimeoutError; the job goes on meanwhile.
"""

from strop.models import Problem


class StropError(Exception):
    """Base of all; its text can be shown to a user as it is."""


class Unreachable(StropError):
    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no answer from {url} ({reason}); is `strop serve` running, or is the URL another one?")
        self.url = url


class ServiceError(StropError):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem

    @property
    def code(self) -> str:
        """The stable word for what went wrong."""
        return self.problem.code


class Unauthorized(ServiceError):
    pass


class NotFound(ServiceError):
    pass


class Conflict(ServiceError):
    pass


class InvalidRequest(ServiceError):
    pass


class Rejected(InvalidRequest):
    pass


class Unavailable(ServiceError):
    pass


class JobFailed(StropError):
    def __init__(self, job_id: str, problem: Problem) -> None:
        super().__init__(f"{job_id}: {problem}")
        self.job_id = job_id
        self.problem = problem


class JobCanceled(JobFailed):
    pass


class DigestMismatch(StropError):
    def __init__(self, name: str, expected: str, received: str) -> None:
        super().__init__(f"{name}: expected SHA-256 {expected}, received {received}; nothing was kept, try again")


#: Which class a caller gets for a status; any other status is a plain ServiceError.
BY_STATUS: dict[int, type[ServiceError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    411: InvalidRequest,
    412: Conflict,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
    507: Unavailable,
}


def error_for(problem: Problem) -> ServiceError:
    return BY_STATUS.get(problem.status, ServiceError)(problem)
