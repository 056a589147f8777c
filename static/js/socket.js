// A socket that comes back: with a growing pause, and at once when the network or the page returns.

const PAUSES = [250, 500, 1000, 2000, 4000];
const SILENCE = 50_000; // the server says something every 15 s on sockets that ask for it

export class Socket {
  /** address(): path with query of the next connection; onMessage(value); onState("connecting" | "open" | "lost", code). */
  constructor({ address, onMessage, onState, watch = false }) {
    Object.assign(this, { address, onMessage, onState, watch, failures: 0, done: false });
    addEventListener("online", () => this.now());
    document.addEventListener("visibilitychange", () => document.hidden || this.now());
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.onState("connecting");
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = (this.socket = new WebSocket(`${scheme}//${location.host}${this.address()}`));
    socket.onmessage = (event) => {
      if (socket !== this.socket) return;
      this.failures = 0;
      this.heard();
      this.onMessage(JSON.parse(event.data));
    };
    socket.onopen = () => {
      this.heard();
      this.onState("open");
    };
    socket.onclose = (event) => socket === this.socket && this.lost(event.code);
  }

  heard() {
    clearTimeout(this.silence);
    if (this.watch) this.silence = setTimeout(() => this.again(), SILENCE);
  }

  lost(code) {
    clearTimeout(this.silence);
    this.socket = null;
    if (this.done) return;
    this.onState("lost", code);
    if (this.done) return;
    const pause = PAUSES[Math.min(this.failures, PAUSES.length - 1)];
    this.failures += 1;
    this.timer = setTimeout(() => this.open(), pause * (0.7 + 0.6 * Math.random()));
  }

  /** Give the present connection up and make another one. */
  again() {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    this.lost(0);
  }

  now() {
    if (!this.done && !this.socket) this.open();
  }

  /** Do not come back. */
  stop() {
    this.done = true;
    clearTimeout(this.timer);
    clearTimeout(this.silence);
  }
}
