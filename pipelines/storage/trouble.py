"""What a failed operation means: whom it concerns, and whether another try may mend it.

Storage clients are known by the names of their errors' classes and by the servers' codes, so that none is imported for
a local path. Of an error that says nothing of its own scope, the object's neighbors decide
(`pipelines.storage.neighbors`).
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from condgen.errors import AccessError, MissingError, StorageError

__all__ = ["ShortReadError", "Trouble", "s3_code", "trouble_of"]


class ShortReadError(OSError):
    """Fewer bytes came than were asked for, of an object that has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What is known of a failure.

    Attributes:
        code: the storage's own code (`HTTP 410`, `S3 InvalidObjectState`, `EACCES`), or the kind (`TLS`, `Timeout`).
        summary: what it means, the same in every run: without addresses, times and local paths.
        scope: `object` where it is that object's own, `storage` where every other would fail as well, else `unclear`.
        passes: whether another try may succeed.
        error: class of error that it becomes.
    """

    code: str
    summary: str
    scope: str = "unclear"
    passes: bool = False
    error: type[StorageError] = StorageError


_PASSING_ERRNOS = frozenset(
    {
        errno.EAGAIN, errno.EBUSY, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH,
        errno.EINTR, errno.EIO, errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH, errno.EPIPE, errno.ESTALE,
        errno.ETIMEDOUT, getattr(errno, "EREMOTEIO", errno.EIO),
    }
)  # fmt: skip
_OBJECT_ERRNOS = frozenset({errno.ENAMETOOLONG, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.EILSEQ})
_STORAGE_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

_PASSING_NAMES = frozenset(
    {
        "HTTPClientError", "EndpointConnectionError", "ConnectionClosedError", "ConnectTimeoutError",
        "ReadTimeoutError",
        "ClientPayloadError", "ClientConnectionError", "IncompleteRead", "IncompleteReadError",
        "ResponseParserError", "FlexibleChecksumError",
    }
)  # fmt: skip
_CREDENTIAL_NAMES = frozenset(
    {
        "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound",
        "TokenRetrievalError", "SSOError", "NoAuthTokenError",
    }
)  # fmt: skip
_TLS_NAMES = frozenset(
    {"ClientSSLError", "ClientConnectorSSLError", "ClientConnectorCertificateError", "ServerFingerprintMismatch",
     "SSLError"}
)  # fmt: skip
_BAD_NAMES = frozenset(
    {"InvalidURL", "NonHttpUrlClientError", "InvalidUrlClientError", "TooManyRedirects", "ParamValidationError",
     "UnicodeError"}
)  # fmt: skip

_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_UNCLEAR_STATUS = frozenset({401, 403, 407, 408, 425, 429})

# Codes of S3 that concern the request's signer or the bucket, and so every object.
_S3_STORAGE = frozenset(
    {
        "AccountProblem", "AllAccessDisabled", "AuthorizationHeaderMalformed", "ExpiredToken", "InvalidAccessKeyId",
        "InvalidBucketName", "InvalidSecurity", "InvalidToken", "NoSuchBucket", "NotSignedUp", "PermanentRedirect",
        "RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired", "UserSuspended",
    }
)  # fmt: skip
_S3_OBJECT = frozenset(
    {
        "InvalidObjectState", "InvalidRange", "InvalidURI", "KeyTooLongError", "MethodNotAllowed", "NoSuchKey",
        "NoSuchVersion", "404", "405", "410", "416",
    }
)  # fmt: skip
_S3_SUMMARIES = {"InvalidObjectState": "the object is in an archive class: restore it, then try again"}


def trouble_of(error: Exception) -> Trouble:
    """Return what a storage client's error means."""
    names = {cls.__name__ for cls in type(error).__mro__}
    told = s3_code(error)
    if told:
        return _of_s3(error, told)
    status = getattr(error, "status", None)
    if isinstance(status, int) and status:
        return _of_http(status)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Trouble(code="Missing", summary="nothing is there", scope="object", error=MissingError)
    if names & _CREDENTIAL_NAMES:
        return Trouble(code="Credentials", summary="there are no credentials", scope="storage", error=AccessError)
    if isinstance(error, PermissionError):
        return Trouble(code="EACCES", summary="permission denied", error=AccessError)
    if names & _TLS_NAMES or any(isinstance(cause, ssl.SSLError) for cause in _causes(error)):
        return Trouble(code="TLS", summary="no safe connection can be made: the certificate or the protocol is refused")
    if names & _BAD_NAMES or (isinstance(error, ValueError) and not isinstance(error, OSError)):
        return Trouble(code=_kind(error), summary="the name or address is none that can be asked for", scope="object")
    return _of_system(error, names)


def _of_s3(error: Exception, code: str) -> Trouble:
    summary = _S3_SUMMARIES.get(code, "the storage refused it")
    if code.isdecimal():
        summary = _phrase(int(code))
    scope = "object" if code in _S3_OBJECT else "storage" if code in _S3_STORAGE else "unclear"
    kind: type[StorageError] = StorageError
    if isinstance(error, FileNotFoundError):
        code, summary, kind = ("Missing", "nothing is there", MissingError) if scope == "object" else (
            f"S3 {code}", "there is no such bucket", MissingError)  # fmt: skip
        return Trouble(code=code, summary=summary, scope=scope, error=kind)
    if code != "InvalidObjectState" and (isinstance(error, PermissionError) or code in ("401", "403")):
        kind = AccessError
    return Trouble(code=f"S3 {code}", summary=summary, scope=scope, passes=_is_passing(error, set()), error=kind)


def _of_http(status: int) -> Trouble:
    if status == 404:
        return Trouble(code="Missing", summary="nothing is there", scope="object", error=MissingError)
    is_unclear = status in _UNCLEAR_STATUS or status >= 500
    return Trouble(
        code=f"HTTP {status}",
        summary=_phrase(status),
        scope="unclear" if is_unclear else "object",
        passes=status in _PASSING_STATUS,
        error=AccessError if status in (401, 403, 407) else StorageError,
    )


def _of_system(error: Exception, names: set[str]) -> Trouble:
    """Return the trouble of an error of the network or of the operating system."""
    passes = _is_passing(error, names)
    if isinstance(error, ShortReadError):
        return Trouble(code="ShortRead", summary="the storage gave fewer bytes than it says there are", passes=True)
    if isinstance(error, TimeoutError) or names & {"ConnectTimeoutError", "ReadTimeoutError"}:
        return Trouble(code="Timeout", summary="no answer in time", passes=True)
    resolving = next((cause for cause in _causes(error) if isinstance(cause, socket.gaierror)), None)
    if resolving is not None or "ClientConnectorDNSError" in names:
        return Trouble(code="DNS", summary="the host's name is not known", passes=True)
    number = next((cause.errno for cause in _causes(error) if isinstance(cause, OSError) and cause.errno), None)
    if number is not None and number in errno.errorcode:
        scope = "object" if number in _OBJECT_ERRNOS else "storage" if number in _STORAGE_ERRNOS else "unclear"
        return Trouble(code=errno.errorcode[number], summary=os.strerror(number).lower(), scope=scope, passes=passes)
    return Trouble(code=_kind(error), summary="the storage's client failed", passes=passes)


def _is_passing(error: Exception, names: set[str]) -> bool:
    if isinstance(error, TimeoutError | ConnectionError | ShortReadError):
        return True
    return (isinstance(error, OSError) and error.errno in _PASSING_ERRNOS) or bool(names & _PASSING_NAMES)


def s3_code(error: Exception) -> str:
    """Return the code of an S3 server's answer, which s3fs keeps in the cause of its own error; empty for none."""
    for cause in _causes(error):
        response: Any = getattr(cause, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code") or "")
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, the system's own error of a connection too."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop(0)
        if cause is None or cause in seen:
            continue
        seen.append(cause)
        yield cause
        inner = getattr(cause, "os_error", None)
        waiting += [inner if isinstance(inner, BaseException) else None, cause.__cause__]


def _phrase(status: int) -> str:
    try:
        return f"the server answers {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"the server answers {status}"


def _kind(error: Exception) -> str:
    return type(error).__name__.removesuffix("Error") or "Error"
