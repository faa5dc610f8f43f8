"""Switches (CFG-2): from the environment, and from a file that may change while the service runs."""

from __future__ import annotations

from pathlib import Path

from .config import SWITCHES, Settings
from .errors import SwitchedOffError
from .logs import get_logger

_VALUES = {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}


class SwitchesFileError(ValueError):
    """The switches file has a line that can't be understood."""


def parse(text: str) -> dict[str, bool]:
    """Parse lines `NAME=true|false`; other variables, comments and blank lines are left alone."""
    found: dict[str, bool] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name, separator, value = line.strip().partition("=")
        if name not in SWITCHES:
            continue
        key = value.strip().strip("\"'").lower()
        if not separator or key not in _VALUES:
            raise SwitchesFileError(f"line {number}: {name} must be true or false")
        found[name] = _VALUES[key]
    return found


class Switches:
    """The state of the switches; the file, where given, wins over the environment.

    The file is looked at on each question, read when it changed, and kept as last understood when it can't be
    read or parsed.
    """

    def __init__(self, settings: Settings) -> None:
        self._environment = {name: bool(getattr(settings, name.lower())) for name in SWITCHES}
        self._path: Path | None = settings.switches_file
        self._seen: tuple[int, int, int] | None = None
        self._file: dict[str, bool] = {}

    def state(self) -> dict[str, bool]:
        """Return every switch."""
        self._reread()
        return {**self._environment, **self._file}

    def enabled(self, name: str) -> bool:
        """Tell whether one switch is on."""
        return self.state()[name]

    def require(self, *names: str) -> None:
        """Raise SwitchedOffError for the first of `names` that is off."""
        state = self.state()
        for name in names:
            if not state[name]:
                raise SwitchedOffError(name)

    def _reread(self) -> None:
        if self._path is None:
            return
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if seen == self._seen:
                return
            self._file = parse(self._path.read_text(encoding="utf-8"))
            self._seen = seen
            get_logger().info("switches.read", **self._file)
        except FileNotFoundError:
            if self._seen is not None:
                self._seen = None
                get_logger().warning("switches.file_gone", path=str(self._path))
        except (OSError, UnicodeDecodeError, SwitchesFileError) as error:
            get_logger().error("switches.unreadable", path=str(self._path), problem=str(error))
