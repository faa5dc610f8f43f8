"""Store driver: an object store with conditional writes (S3-compatible, GCS, Azure), through `obstore`."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import from_url

from infra.record.errors import ConfigError, ConflictError, NotFoundError, StoreUnavailableError
from infra.record.store import Stored, check_key

if TYPE_CHECKING:
    from obstore import PutMode, UpdateVersion
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

_Result = TypeVar("_Result")

# Asked for credentials when the environment has none.
_METADATA_SERVICE = "169.254.169.254"
_TRIES = 4
_FIRST_PAUSE = 0.1
_SEPARATOR = "\n"


def _to_version(e_tag: str | None, version: str | None) -> str:
    return f"{e_tag or ''}{_SEPARATOR}{version or ''}"


def _from_version(version: str) -> UpdateVersion:
    e_tag, _, number = version.partition(_SEPARATOR)
    named: UpdateVersion = {}
    if e_tag:
        named["e_tag"] = e_tag
    if number:
        named["version"] = number
    return named


def _reason(error: Exception) -> str:
    """What the store answered, in one line, without the client's dump of the request."""
    text = str(error).partition("\n\nDebug source")[0]
    code = re.search(r"<Code>(.*?)</Code>", text)
    if code:
        message = re.search(r"<Message>(.*?)</Message>", text)
        return f"{code[1]}: {message[1]}" if message else code[1]
    if _METADATA_SERVICE in text:
        return "no credentials: set the provider's ordinary environment variables (S3: AWS_ACCESS_KEY_ID, …)"
    inner = re.findall(r'message: "([^"]+)"', str(error))
    summary = " ".join(text.split())
    return f"{summary} ({inner[-1]})" if inner else summary


def _missing_bucket(error: Exception) -> bool:
    return "<Code>NoSuchBucket</Code>" in str(error)


_DENIED = (PermissionDeniedError, UnauthenticatedError)
_REFUSED = (AlreadyExistsError, PreconditionError, FileNotFoundError)


class ObjectStoreDriver:
    """Objects of a bucket below a prefix.

    Credentials come from the provider's ordinary environment variables or instance identity. The client's
    own retries are off: a conditional write whose answer was lost must be looked at before it is reported,
    since its second try meets the first one's object and seems to have lost.
    """

    def __init__(
        self, url: str, *, endpoint: str | None = None, region: str | None = None, ca: str | None = None
    ) -> None:
        self._url = url
        retry: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(seconds=60)}
        client: ClientConfig = {"connect_timeout": "5s", "timeout": "30s"}
        if endpoint and endpoint.startswith("http://"):
            client["allow_http"] = True
        if ca:
            client["root_certificate"] = ca
        options = {"endpoint": endpoint, "region": region} if url.startswith("s3://") else {}
        given = {name: value for name, value in options.items() if value}
        try:
            self._store: ObjectStore = from_url(url, client_options=client, retry_config=retry, **given)  # type: ignore[call-overload]
        except (BaseError, ValueError) as error:
            raise ConfigError(
                f"record: {url} can't be opened as an object store: {_reason(error)}"
            ) from error

    @property
    def url(self) -> str:
        """URL of bucket and prefix."""
        return self._url

    def get(self, key: str) -> Stored:
        """See `Store.get`."""
        check_key(key)

        def read() -> Stored:
            answer = obstore.get(self._store, key)
            meta = answer.meta
            return Stored(bytes(answer.bytes()), _to_version(meta["e_tag"], meta["version"]))

        try:
            return self._retry(read)
        except FileNotFoundError:
            raise NotFoundError(f"{self._url} has no object {key}") from None

    def put_if_absent(self, key: str, data: bytes) -> str:
        """See `Store.put_if_absent`."""
        return self._put(key, data, "create", f"{key} exists already in {self._url}")

    def put_if_match(self, key: str, data: bytes, version: str) -> str:
        """See `Store.put_if_match`."""
        message = f"{key} in {self._url} is no longer the version that was read"
        return self._put(key, data, _from_version(version), message)

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        check_key(key)

        def remove() -> None:
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError as error:
                # Some stores answer with it where there is no such object, all where there is no bucket.
                if _missing_bucket(error):
                    raise

        self._retry(remove)

    def list(self, prefix: str) -> list[str]:
        """See `Store.list`."""
        if prefix:
            check_key(prefix)

        def read() -> list[str]:
            return sorted(
                meta["path"] for chunk in obstore.list(self._store, prefix or None) for meta in chunk
            )

        return self._retry(read)

    def _put(self, key: str, data: bytes, mode: PutMode, conflict: str) -> str:
        check_key(key)
        uncertain = False

        def write() -> str:
            nonlocal uncertain
            try:
                answer = obstore.put(self._store, key, data, mode=mode, use_multipart=False)
                return _to_version(answer["e_tag"], answer["version"])
            except _REFUSED:
                raise
            except BaseError:
                uncertain = True
                raise

        try:
            return self._retry(write)
        except _REFUSED:
            if uncertain:
                stored = self.get(key)
                if stored.data == data:
                    return stored.version
            raise ConflictError(conflict) from None

    def _retry(self, action: Callable[[], _Result]) -> _Result:
        pause = _FIRST_PAUSE
        for last in (False,) * (_TRIES - 1) + (True,):
            try:
                return action()
            except _REFUSED as error:
                if _missing_bucket(error):
                    raise self._unavailable(error) from None
                raise
            except (BaseError, OSError) as error:
                if last or isinstance(error, _DENIED):
                    raise self._unavailable(error) from None
                time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                pause *= 2
        raise AssertionError("unreachable")

    def _unavailable(self, error: Exception) -> StoreUnavailableError:
        return StoreUnavailableError(f"store {self._url} is not available: {_reason(error)}")
