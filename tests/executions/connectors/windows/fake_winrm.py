"""A WinRM service over HTTPS that answers in the shapes Windows really sends, and is as strict about what it is sent.

Shells run the double of PowerShell as processes of this machine. As on Windows, a shell that nobody asks anything of is
ended with all that runs in it, and a program whose output nobody fetches has to wait.
"""

from __future__ import annotations

import base64
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

DOUBLE = Path(__file__).parent / "powershell_double.py"
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
CMD = f"{SHELL}/cmd"
NS = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "rsp": SHELL,
}
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
ROOM = 256 * 1024  # output that waits in the service before the program has to

ENVELOPE = (
    '<s:Envelope xml:lang="en-US" xmlns:s="{s}" xmlns:a="{a}" xmlns:x="' + TRANSFER + '" xmlns:w="{w}" '
    'xmlns:rsp="{rsp}"><s:Header><a:Action>{action}</a:Action><a:MessageID>uuid:{id}</a:MessageID>'
    "<a:To>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:To>"
    "<a:RelatesTo>{relates_to}</a:RelatesTo></s:Header><s:Body>{body}</s:Body></s:Envelope>"
)
FAULT = (
    "<s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>{subcode}</s:Value></s:Subcode></s:Code>"
    '<s:Reason><s:Text xml:lang="en-US">{text}</s:Text></s:Reason><s:Detail>'
    '<f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="{code}" Machine="win-1">'
    "<f:Message>{text}</f:Message></f:WSManFault></s:Detail></s:Fault>"
)


# What Windows says of a program that touched memory that is not its own.
ACCESS_VIOLATION = 0xC0000005


class Fault(Exception):
    def __init__(self, code: int, subcode: str, text: str) -> None:
        super().__init__(text)
        self.code, self.subcode, self.text = code, subcode, text


TIMED_OUT = Fault(
    2150858793,
    "w:TimedOut",
    "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.",
)
NOT_FOUND = Fault(
    2150858843,
    "w:InvalidSelectors",
    "The request for the Windows Remote Shell with ShellId failed because the shell was not found on the server.",
)
ACCESS_DENIED = Fault(5, "w:AccessDenied", "Access is denied.")
ABORTED = Fault(995, "w:InternalError", "The I/O operation has been aborted because of either a thread exit.")


@dataclass
class Shell:
    id: str
    environment: dict[str, str]
    idle_seconds: float
    asked_at: float = field(default_factory=time.monotonic)
    asking: int = 0
    command: Command | None = None


class Command:
    """A process with its output, fetched in pieces."""

    def __init__(self, program: list[str], environment: dict[str, str]) -> None:
        self.id = str(uuid.uuid4()).upper()
        self.process = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        self.changed = threading.Condition()
        self.waiting: list[tuple[str, bytes]] = []
        self.open_streams = 2
        self.input_has_ended = False
        self.was_terminated = False
        for name, pipe in (("stdout", self.process.stdout), ("stderr", self.process.stderr)):
            threading.Thread(target=self._read, args=(name, pipe), daemon=True).start()

    def _read(self, name: str, pipe: Any) -> None:
        while data := pipe.read1(65_536):
            with self.changed:
                self.changed.wait_for(lambda: sum(len(one) for _, one in self.waiting) < ROOM or self.was_terminated)
                self.waiting.append((name, data))
                self.changed.notify_all()
        pipe.close()
        with self.changed:
            self.open_streams -= 1
            self.changed.notify_all()

    def take(self, within_seconds: float) -> tuple[list[tuple[str, bytes]], int | None]:
        """Return output, and the exit code once there is no more. Raises TIMED_OUT."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.open_streams == 0, within_seconds)
            if self.was_terminated:
                raise ABORTED
            if not self.waiting and self.open_streams:
                raise TIMED_OUT
            pieces, self.waiting = self.waiting, []
            self.changed.notify_all()
            if self.open_streams:
                return pieces, None
        return pieces, self.process.wait()

    def kill(self) -> None:
        """All processes of the shell's job."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        with self.changed:
            self.was_terminated = True
            self.changed.notify_all()
        self.process.wait()
        if self.process.stdin is not None and not self.process.stdin.closed:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeWinRM
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.signed_in = False
        self.context: Any = None

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        assert self.path == "/wsman", self.path
        if not self.server.sign_in(self):
            return
        root = ElementTree.fromstring(body)
        action = _text(root, "s:Header/a:Action").rpartition("/")[2]
        self.server.seen.append((action, body))
        if (before := self.server.before.get(action)) is not None and before(self):
            return
        relates_to = _text(root, "s:Header/a:MessageID")
        try:
            status, answer = 200, self.server.answer(action, root)
        except Fault as fault:
            status = 500
            answer = FAULT.format(code=fault.code, subcode=fault.subcode, text=escape(fault.text))
        self.reply(status, relates_to, action, answer)

    def reply(self, status: int, relates_to: str, action: str, answer: str) -> None:
        text = ENVELOPE.format(
            **NS, action=f"{SHELL}/{action}Response", id=uuid.uuid4(), relates_to=relates_to, body=answer
        )
        self.send(status, text.encode(), "application/soap+xml;charset=UTF-8")

    def send(self, status: int, body: bytes, kind: str = "text/plain", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class FakeWinRM(ThreadingHTTPServer):
    """`before[action]` is called before a request is answered, and answers it itself when it returns true."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, tls: ssl.SSLContext, sign_in: Callable[[Handler], bool]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.sign_in = sign_in
        self.before: dict[str, Callable[[Handler], bool | None]] = {}
        self.seen: list[tuple[str, bytes]] = []
        self.shells: dict[str, Shell] = {}
        self.ended: list[str] = []
        self.longest_wait_seconds = 0.5
        self.shortest_idle_seconds = 60.0
        self.program = [sys.executable, "-I", str(DOUBLE)]
        self.environment: dict[str, str] = {}
        self.signed_in_as: list[str] = []
        self.exit_code: int | None = None  # what Windows would have said, where processes here cannot end so
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._own_threads = [
            threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}),
            threading.Thread(target=self._end_idle_shells),
        ]
        for thread in self._own_threads:
            thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients hang up as they like

    def actions(self) -> list[str]:
        return [action for action, _ in self.seen]

    def close(self) -> None:
        self._closing.set()
        self.shutdown()
        for thread in self._own_threads:
            thread.join()
        for shell_id in list(self.shells):
            self._remove(shell_id)
        self.server_close()

    # -- the protocol -------------------------------------------------------------------------------------------------

    def answer(self, action: str, root: ElementTree.Element) -> str:
        header = root.find("s:Header", NS)
        assert header is not None
        assert _text(root, "s:Header/w:ResourceURI") == CMD
        assert _text(root, "s:Header/a:To").startswith("https://")
        body = root.find("s:Body", NS)
        assert body is not None
        if action == "Create":
            return self._create(header, body)
        shell = self.shells.get(_text(header, "w:SelectorSet/w:Selector[@Name='ShellId']"))
        if shell is None:
            raise NOT_FOUND
        with self._lock:
            shell.asking += 1
        try:
            handler: Callable[..., str] = getattr(self, f"_{action.lower()}")
            return handler(shell, header, body)
        finally:
            with self._lock:
                shell.asking -= 1
                shell.asked_at = time.monotonic()

    def _create(self, header: ElementTree.Element, body: ElementTree.Element) -> str:
        options = {one.get("Name"): one.text for one in header.iterfind("w:OptionSet/w:Option", NS)}
        assert options == {"WINRS_CODEPAGE": "65001"}, options
        assert _text(body, "rsp:Shell/rsp:InputStreams") == "stdin"
        assert _text(body, "rsp:Shell/rsp:OutputStreams") == "stdout stderr"
        # Windows takes less than a minute for a minute.
        idle = max(self.shortest_idle_seconds, _seconds(_text(body, "rsp:Shell/rsp:IdleTimeOut"))) / 60
        shell = Shell(str(uuid.uuid4()).upper(), {}, idle * self.shortest_idle_seconds)
        self.shells[shell.id] = shell
        return (
            f"<x:ResourceCreated><a:Address>https://win-1:5986/wsman</a:Address><a:ReferenceParameters>"
            f'<w:ResourceURI>{CMD}</w:ResourceURI><w:SelectorSet><w:Selector Name="ShellId">{shell.id}</w:Selector>'
            f"</w:SelectorSet></a:ReferenceParameters></x:ResourceCreated><rsp:Shell><rsp:ShellId>{shell.id}"
            f"</rsp:ShellId><rsp:ResourceUri>{CMD}</rsp:ResourceUri><rsp:Owner>WIN-1\\ops</rsp:Owner>"
            "<rsp:ClientIP>127.0.0.1</rsp:ClientIP><rsp:IdleTimeOut>PT60.000S</rsp:IdleTimeOut>"
            "<rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>stdout stderr</rsp:OutputStreams>"
            "<rsp:ShellRunTime>P0DT0H0M0S</rsp:ShellRunTime></rsp:Shell>"
        )

    def _command(self, shell: Shell, header: ElementTree.Element, body: ElementTree.Element) -> str:
        line = " ".join(
            one.text or ""
            for one in body.iterfind("rsp:CommandLine/*", NS)
            if one.tag.endswith(("Command", "Arguments"))
        )
        assert shell.command is None
        assert_cmd_takes_it_as_it_is(line)
        shell.command = Command(self.program, self.environment)
        return f"<rsp:CommandResponse><rsp:CommandId>{shell.command.id}</rsp:CommandId></rsp:CommandResponse>"

    def _send(self, shell: Shell, header: ElementTree.Element, body: ElementTree.Element) -> str:
        stream = body.find("rsp:Send/rsp:Stream", NS)
        command = shell.command
        assert stream is not None
        assert command is not None
        assert command.process.stdin is not None
        assert stream.get("CommandId") == command.id
        assert stream.get("Name") == "stdin"
        assert not command.input_has_ended
        try:
            command.process.stdin.write(base64.b64decode(stream.text or "", validate=True))
            command.process.stdin.flush()
            if stream.get("End", "").lower() == "true":
                command.input_has_ended = True
                command.process.stdin.close()
        except BrokenPipeError:
            raise Fault(232, "w:InternalError", "The pipe is being closed.") from None
        return "<rsp:SendResponse/>"

    def _receive(self, shell: Shell, header: ElementTree.Element, body: ElementTree.Element) -> str:
        command = shell.command
        stream = body.find("rsp:Receive/rsp:DesiredStream", NS)
        assert command is not None
        assert stream is not None
        assert stream.get("CommandId") == command.id
        within = min(_seconds(_text(header, "w:OperationTimeout")), self.longest_wait_seconds)
        pieces, code = command.take(within)
        text = "".join(
            f'<rsp:Stream Name="{name}" CommandId="{command.id}">{base64.b64encode(data).decode()}</rsp:Stream>'
            for name, data in pieces
        )
        if code is None:
            return (
                f'<rsp:ReceiveResponse>{text}<rsp:CommandState CommandId="{command.id}" '
                f'State="{SHELL}/CommandState/Running"/></rsp:ReceiveResponse>'
            )
        ends = "".join(
            f'<rsp:Stream Name="{one}" CommandId="{command.id}" End="true"/>' for one in ("stdout", "stderr")
        )
        return (
            f'<rsp:ReceiveResponse>{text}{ends}<rsp:CommandState CommandId="{command.id}" '
            f'State="{SHELL}/CommandState/Done"><rsp:ExitCode>{self.exit_code or code}</rsp:ExitCode>'
            "</rsp:CommandState></rsp:ReceiveResponse>"
        )

    def _signal(self, shell: Shell, header: ElementTree.Element, body: ElementTree.Element) -> str:
        assert _text(body, "rsp:Signal/rsp:Code") == f"{SHELL}/signal/Terminate"
        assert shell.command is not None
        shell.command.kill()
        return "<rsp:SignalResponse/>"

    def _delete(self, shell: Shell, header: ElementTree.Element, body: ElementTree.Element) -> str:
        self._remove(shell.id)
        return ""

    def _remove(self, shell_id: str) -> None:
        shell = self.shells.pop(shell_id, None)
        if shell is not None and shell.command is not None:
            shell.command.kill()
        self.ended.append(shell_id)

    def _end_idle_shells(self) -> None:
        while not self._closing.wait(0.02):
            for shell in list(self.shells.values()):
                with self._lock:
                    is_idle = not shell.asking and time.monotonic() - shell.asked_at > shell.idle_seconds
                if is_idle:
                    self._remove(shell.id)


def assert_cmd_takes_it_as_it_is(line: str) -> None:
    """cmd.exe changes nothing of it: no sign of its own outside of double quotes, no variable anywhere."""
    assert "%" not in line
    assert "!" not in line
    assert "\n" not in line
    assert len(line) < 8191
    pieces = line.split('"')
    assert len(pieces) % 2 == 1, "a double quote is left open"
    assert not re.search(r"[&|<>^()]", "".join(pieces[::2])), line
    assert line.startswith("powershell.exe ")
    assert " -NonInteractive " in line
    assert " -NoProfile " in line


def _text(element: ElementTree.Element, path: str) -> str:
    return element.findtext(path, "", NS)


def _seconds(duration: str) -> float:
    found = re.fullmatch(r"PT([0-9.]+)S", duration)
    assert found is not None, duration
    return float(found[1])
