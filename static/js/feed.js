// Everything an execution says, past and live, once and in order: over the socket or, while there is none, by asking.
import { Socket } from "./socket.js";

const POLL_AFTER = 3; // attempts to connect that failed
const POLL_EVERY = 3000;

export class Feed {
  /** onItems(items): the next ones; onState(state): connecting, live, reconnecting, polling, ended. */
  constructor({ id, onItems, onState }) {
    Object.assign(this, { id, onItems, onState, cursor: 0, caughtUp: false, ended: false, removed: "" });
    this.socket = new Socket({
      address: () => `/ws/executions/${id}/?after=${this.cursor}&batch=1`,
      onMessage: (items) => this.take(items),
      onState: (state, code) => this.connection(state, code),
      watch: true,
    });
  }

  take(items) {
    const fresh = [];
    for (const item of items) {
      if (item.kind === "caught_up") this.caughtUp = true;
      else if (item.kind === "end") this.ended = true;
      else if (item.kind === "removed") {
        // Retention has removed what comes after the cursor: the sentence stands for it.
        this.removed = item.notice;
        this.cursor = item.seq;
      }
      else if (item.seq === this.cursor + 1) {
        this.cursor = item.seq;
        fresh.push(item);
      } else if (item.seq > this.cursor) {
        // A hole: show nothing that comes after it, fetch from the cursor again.
        this.deliver(fresh);
        this.socket.again();
        return;
      }
    }
    this.deliver(fresh);
  }

  deliver(fresh) {
    if (this.ended) {
      this.socket.stop();
      clearTimeout(this.poller);
    }
    if (this.caughtUp || this.ended) this.show(this.ended ? "ended" : this.polling ? "polling" : "live");
    this.onItems(fresh);
  }

  connection(state, code) {
    if (state === "open") {
      this.polling = false;
      clearTimeout(this.poller);
      if (this.caughtUp) this.show("live");
    }
    if (state !== "lost" || this.ended) return;
    if (code === 4401 || code === 4404) {
      // Signed out, or not for this user any more: let the server say what is to be seen.
      this.socket.stop();
      location.reload();
      return;
    }
    if (!this.polling) this.show("reconnecting");
    if (this.socket.failures >= POLL_AFTER && !this.polling) {
      this.polling = true;
      this.poll();
    }
  }

  async poll() {
    if (!this.polling || this.ended) return;
    try {
      const answer = await fetch(`/executions/${this.id}/feed/?after=${this.cursor}`, { redirect: "error" });
      if (answer.ok && this.polling) {
        const { items, more, ended, removed } = await answer.json();
        this.caughtUp = this.caughtUp || !more;
        this.removed = removed;
        this.ended = ended;
        this.show("polling");
        this.take(items);
        if (more) return this.poll();
      } else if (!answer.ok) this.show("reconnecting");
    } catch {
      this.show("reconnecting");
    }
    this.poller = setTimeout(() => this.poll(), POLL_EVERY);
  }

  show(state) {
    if (state !== this.state) this.onState((this.state = state));
  }
}
