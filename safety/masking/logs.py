"""The log sink: every record is masked before any handler formats it, and so is every traceback that Python prints.

The filter sits on each handler: those of LOGGING by configuration, all others by `install`, and those that are added
later at the moment they are (`manage.py check` looks whether one has slipped through).
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from safety.masking import known
from safety.masking.text import mask_data, mask_text

_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_DONE = "_is_masked"
_UNMASKABLE = "A log record was left out: it could not be masked."
_FORMATTER = logging.Formatter()


class MaskingFilter(logging.Filter):
    """Lets every record pass, masked: message with its arguments, extras, exception and stack."""

    def filter(self, record: logging.LogRecord) -> bool:
        mask_record(record)
        return True


def mask_record(record: logging.LogRecord) -> None:
    """Mask a record in place, once. One that cannot be masked loses what it says, never the masking."""
    if getattr(record, _DONE, False):
        return
    try:
        _mask(record)
    except Exception as error:  # the log is where errors are told: nothing may be raised out of it
        record.msg, record.args = f"{_UNMASKABLE} ({type(error).__name__})", ()
        record.exc_info = record.exc_text = record.stack_info = None
        for name in _extras(record):
            delattr(record, name)
    setattr(record, _DONE, True)


def _mask(record: logging.LogRecord) -> None:
    values = known.everything()
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):  # arguments that do not fit: logging would print both as they are
        message = f"{record.msg} {record.args!r}"
    record.msg, record.args = mask_text(message, values), ()
    if record.exc_info and not record.exc_text:
        record.exc_text = _FORMATTER.formatException(_as_tuple(record.exc_info))
    if record.exc_text:
        # Without exc_info no formatter makes the text anew from the exception, whose message is not masked.
        record.exc_text, record.exc_info = mask_text(record.exc_text, values), None
    if record.stack_info:
        record.stack_info = mask_text(record.stack_info, values)
    for name in _extras(record):
        setattr(record, name, _extra(name, getattr(record, name)))


def _as_tuple(exc_info: Any) -> Any:
    return exc_info if isinstance(exc_info, tuple) else sys.exc_info()


def _extras(record: logging.LogRecord) -> list[str]:
    return [name for name in vars(record) if name not in _USUAL and name != _DONE]


def _extra(name: str, value: Any) -> Any:
    """An extra as it may be shown: one of another type than data only if its repr says no secret."""
    values = known.everything()
    masked = mask_data({name: value}, values)[name]
    if masked is not value or value is None or isinstance(value, bool | int | float):
        return masked
    shown = repr(value)
    safe = mask_text(shown, values)
    return value if safe == shown else safe


def guard(handler: logging.Handler) -> None:
    """Put the filter on a handler, if it has none."""
    if not is_guarded(handler):
        handler.addFilter(MaskingFilter())


def is_guarded(handler: logging.Handler) -> bool:
    return any(isinstance(one, MaskingFilter) for one in handler.filters)


def all_handlers() -> Iterator[tuple[str, logging.Handler]]:
    """Every handler of this process, with the name of its logger."""
    yield from (("root", handler) for handler in logging.getLogger().handlers)
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger):
            yield from ((name, handler) for handler in logger.handlers)
    if logging.lastResort is not None:
        yield "lastResort", logging.lastResort


_add_handler = logging.Logger.addHandler


def _add_guarded(self: logging.Logger, hdlr: logging.Handler) -> None:
    guard(hdlr)
    _add_handler(self, hdlr)


def install() -> None:
    """Guard all handlers, those to come, and the tracebacks of what nobody catches. Installing again does no harm."""
    for _, handler in all_handlers():
        guard(handler)
    logging.Logger.addHandler = _add_guarded  # type: ignore[method-assign]
    sys.excepthook = print_masked
    threading.excepthook = _of_a_thread
    sys.unraisablehook = _unraisable


def print_masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What Python's own hook prints, masked."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    text = "".join(traceback.format_exception(kind, error, trace))
    print(mask_text(text, known.everything()), end="", file=sys.stderr)


def _of_a_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit or args.exc_value is None:
        return
    print(f"Exception in thread {args.thread.name if args.thread else '?'}:", file=sys.stderr)
    print_masked(args.exc_type, args.exc_value, args.exc_traceback)


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    if args.exc_value is None:
        return
    where = mask_text(repr(args.object), known.everything())
    print(f"{args.err_msg or 'Exception ignored in'}: {where}", file=sys.stderr)
    print_masked(args.exc_type, args.exc_value, args.exc_traceback)
