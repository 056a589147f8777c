"""Files of assets: reading CSV, and checking every row before anything is written.

A format is one function from the file's bytes to raw rows (see inventory_formats.py); checking knows no format.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError

from executions.connections import Connection, connection_names
from executions.models import Asset
from safety.secrets import check_path

SEPARATOR = ";"  # between the tags, and between the groups, of one cell

COLUMNS = (
    "name", "hostname", "ip_address", "description", "connection", "port", "username", "domain", "credential",
    "host_key", "device_type", "os_type", "os_version", "status", "environment", "criticality", "service_type",
    "is_secure", "credential_type", "secondary_service_type", "secondary_port", "owner", "support_contact", "is_active",
    "external_id", "tags", "groups",
)  # fmt: skip

# A word outside these is refused: a misspelt environment would ask for the wrong approval.
WORDS = {
    "connection": frozenset(connection_names()),
    "os_type": frozenset({"windows", "linux", "unix", "macos", "other"}),
    "status": frozenset({"active", "inactive", "maintenance", "decommissioned"}),
    "environment": frozenset({"production", "staging", "development", "test"}),
    "criticality": frozenset({"low", "medium", "high", "critical"}),
    "credential_type": frozenset({"username_password", "ssh_key", "api_key", "bearer_token", "certificate"}),
}
CONNECTION_OF_SERVICE = {
    "ssh": Connection.SSH.value,
    "winrm": Connection.POWERSHELL.value,
    "http": Connection.API.value,
    "https": Connection.API.value,
}
SECRET_COLUMNS = frozenset(
    {"password", "private_key", "api_key", "bearer_token", "passphrase", "certificate", "secret"}
)
YES_NO = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class RowProblem:
    """Why a line of the file cannot be imported. Line 0: the file as a whole."""

    line: int
    message: str
    source: str = ""  # the file, where there are several

    def __str__(self) -> str:
        place = ", ".join([*([self.source] if self.source else []), *([f"line {self.line}"] if self.line else [])])
        return f"{place}: {self.message}" if place else self.message


@dataclass(frozen=True, slots=True)
class RawRow:
    """One asset as the file has it. `cells` holds what was given in COLUMNS: no empty ones."""

    line: int
    cells: Mapping[str, str]
    source: str = ""


@dataclass(frozen=True, slots=True)
class AssetRecord:
    """One asset, checked. `fields` holds the columns of Asset that the file gives; groups None: not given."""

    line: int
    name: str
    fields: Mapping[str, Any]
    groups: tuple[str, ...] | None
    source: str = ""

    @property
    def connection(self) -> str | None:
        """How a new asset is reached: as given, or as its service implies; None when neither says it."""
        return self.fields.get("connection") or CONNECTION_OF_SERVICE.get(self.fields.get("service_type", ""))


@dataclass(slots=True)
class FileContent:
    """What could be read of a file, and what could not."""

    rows: list[RawRow] = field(default_factory=list)
    problems: list[RowProblem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # what was left out

    def refuse(self, line: int, message: str) -> None:
        self.problems.append(RowProblem(line, message))


# --- reading


def read_csv(content: bytes) -> FileContent:
    """Read CSV: UTF-8, a header line of COLUMNS, one asset a row. A problem's line is the one the row begins in."""
    result = FileContent()
    text = decoded(content, result.refuse)
    if text is None:
        return result
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        for message in _header_problems(header):
            result.refuse(1, message)
        begins = reader.line_num + 1
        for cells in reader:
            line, begins = begins, reader.line_num + 1
            _add_row(result, line, header, [cell.strip() for cell in cells])
    except csv.Error as error:
        result.refuse(reader.line_num, f"This is not CSV: {error}.")
    return result


def decoded(content: bytes, refuse: Callable[[int, str], None]) -> str | None:
    """Return the text of a file; None when it is none, which `refuse` is told with the line."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        refuse(content[: error.start].count(b"\n") + 1, "This is not UTF-8 text. Save the file as UTF-8.")
        return None
    if "\0" in text:
        refuse(text[: text.index("\0")].count("\n") + 1, "There is a NUL character. Is this a text file?")
        return None
    return text


def _add_row(result: FileContent, line: int, header: Sequence[str], cells: Sequence[str]) -> None:
    if not any(cells):
        return
    if len(cells) != len(header):
        result.refuse(line, f"It has {len(cells)} cells; the header has {len(header)} columns.")
        return
    given = {column: cell for column, cell in zip(header, cells, strict=True) if cell and column in COLUMNS}
    result.rows.append(RawRow(line, given))


def _header_problems(header: Sequence[str]) -> Iterator[str]:
    if "name" not in header:
        yield "The header line needs the column name."
    for column in dict.fromkeys(column for column in header if header.count(column) > 1):
        yield f"The column {column!r} is there twice."
    for column in dict.fromkeys(header):
        if column.lower() in SECRET_COLUMNS:
            yield (
                f"The column {column!r} would bring in a secret. Keep it with `manage.py set_secret PATH` and give its"
                " path in the column credential."
            )
        elif column not in COLUMNS:
            yield f"The column {column!r} is not known; the columns are {', '.join(COLUMNS)}."


# --- checking


def check_rows(content: FileContent) -> tuple[list[AssetRecord], list[RowProblem]]:
    """Return the rows that are good as records, and every problem of the others, with those of reading."""
    problems = list(content.problems)
    records: list[AssetRecord] = []
    places: dict[str, RawRow] = {}
    if not content.rows and not problems:
        problems.append(RowProblem(0, "The file has no assets."))
    for row in content.rows:
        record, messages = _check_row(row)
        first = places.setdefault(record.name, row)
        if record.name and first is not row:
            messages.append(f"The name {record.name!r} is there already, in line {first.line}.")
        problems += [RowProblem(row.line, message, row.source) for message in messages]
        if not messages:
            records.append(record)
    return records, problems


def _check_row(row: RawRow) -> tuple[AssetRecord, list[str]]:
    messages: list[str] = []
    fields: dict[str, Any] = {}
    for column, cell in row.cells.items():
        try:
            if column == "tags":
                fields["tags"] = _split(cell)
            elif column != "groups":
                fields[column] = _value(column, cell)
        except ValueError as error:
            messages.append(str(error))
    groups = _split(row.cells["groups"]) if "groups" in row.cells else None
    if "name" not in row.cells:
        messages.append("The name is missing.")
    messages += [f"The group name {name!r} is longer than 120 characters." for name in groups or () if len(name) > 120]
    if any(not is_storable(cell) for cell in row.cells.values()):
        messages.append("There is a NUL character in it, or half of a surrogate pair.")
    messages += _clean(fields)
    name = row.cells.get("name", "")
    return AssetRecord(row.line, name, fields, None if groups is None else tuple(groups), row.source), messages


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can keep the text."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def check_credential(text: str) -> str:
    """Return the path of a secret. Raises ValueError, which does not repeat it: it may well be the secret itself."""
    try:
        return check_path(text)
    except ValueError:
        raise ValueError(
            "credential must be the path of a secret, such as db/orders/backup, never the secret."
        ) from None


def _value(column: str, cell: str) -> Any:
    """Return a cell as its column's value. Raises ValueError with a sentence."""
    if column in ("is_active", "is_secure"):
        if cell.lower() not in YES_NO:
            raise ValueError(f"{column} must be true or false, not {cell!r}.")
        return YES_NO[cell.lower()]
    if column in ("port", "secondary_port"):
        if not re.fullmatch(r"[0-9]{1,5}", cell) or not 1 <= int(cell) <= 65535:
            raise ValueError(f"{column} must be a number from 1 to 65535, not {cell!r}.")
        return int(cell)
    return check_credential(cell) if column == "credential" else check_word(column, cell)


def check_word(column: str, text: str) -> str:
    """Return a word as it is stored. Raises ValueError for one that its column does not have."""
    if column in WORDS:
        words = WORDS[column] | (set(settings.DEVELOPMENT_ENVIRONMENTS) if column == "environment" else set())
        if text.lower() not in words:
            raise ValueError(f"{column} must be one of {', '.join(sorted(words))}, not {text[:60]!r}.")
        return text.lower()
    return text.lower() if column in ("service_type", "secondary_service_type") else text


def _split(cell: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in cell.split(SEPARATOR) if part.strip()))


def _clean(fields: dict[str, Any]) -> Iterator[str]:
    """Put the values into the form in which they are stored; yield what the model refuses: lengths, addresses."""
    asset = Asset(**fields)
    try:
        asset.clean_fields(exclude={column.name for column in Asset._meta.get_fields()} - set(fields))
    except ValidationError as error:
        for column, messages in error.message_dict.items():
            yield f"{column}: {' '.join(messages)}"
    fields.update({column: getattr(asset, column) for column in fields})
