// The lines of a log, from the items of the feed: a piece of output may end within a line, and go on much later.

/** Events that are worth a line between the output. */
const SHOWN = /^(step|target|execution|approval|rollback)\./;
const ROLLBACK = { started: "running", finished: "succeeded", let_stand: "skipped" };

/** What undoes a step has its id. */
const named = ({ step, kind }) => (step && kind === "rollback" ? `undo ${step}` : step);
const BAD = new Set(["failed", "timed_out", "unknown"]);

/** As which status a line about a wave is shown. */
function ofWave(verb, { passed }) {
  return verb === "wave_started" ? "running" : passed === false ? "failed" : "succeeded";
}

export class Lines {
  constructor() {
    this.all = []; // {seq, at, text, source, stream | event, status}
    this.sources = new Map(); // key -> {step, target, id}
    this.hosts = new Set();
    this.open = new Map(); // source and stream -> the line that is not finished
    this.failures = []; // indices of lines that tell of a failure
  }

  /** Take the next items; returns the index of the first line that is new, and the set of older lines that grew. */
  take(items) {
    const first = this.all.length;
    const grown = new Set();
    for (const item of items) {
      if (item.kind === "output") this.output(item, first, grown);
      else if (SHOWN.test(item.kind)) this.event(item);
    }
    return { first, grown };
  }

  output(item, first, grown) {
    const { step_target: id, target, stream, text } = item.data;
    const step = named(item.data);
    let source = this.sources.get(id);
    if (!source) {
      this.sources.set(id, (source = { id, step, target, label: target ? `${target} · ${step}` : step }));
      this.hosts.add(target);
    }
    const key = `${id} ${stream}`;
    const parts = text.split("\n");
    const rest = parts.pop();
    for (let n = 0; n <= parts.length; n += 1) {
      const last = n === parts.length;
      const part = last ? rest : parts[n];
      if (last && part === "") break;
      const open = this.open.get(key);
      if (open !== undefined) {
        this.all[open].text += part;
        if (open < first) grown.add(open);
      } else {
        this.all.push({ seq: item.seq, at: item.at, text: part, source, stream });
      }
      if (last) this.open.set(key, open ?? this.all.length - 1);
      else this.open.delete(key);
    }
  }

  event(item) {
    const { target, step_target: id, exit_code: code, error, to } = item.data;
    const step = named(item.data);
    const [family, verb] = item.kind.split(".");
    let status = verb.startsWith("wave_") ? ofWave(verb, item.data) : verb === "submitted" || verb === "claimed" ? "queued" : to || verb;
    if (family === "rollback") status = item.data.complete === false ? "failed" : ROLLBACK[verb];
    const subject = family === "step" || family === "target" ? [target, step].filter(Boolean).join(" · ") : family;
    const why = [code !== undefined && code !== null ? `exit code ${code}` : "", error || "", item.reason || ""].filter(Boolean).join(" · ");
    if (BAD.has(verb) && family !== "execution") this.failures.push(this.all.length);
    const source = id ? this.sources.get(id) || { id, step, target, label: subject } : { id: 0, step, target, label: "" };
    this.all.push({ seq: item.seq, at: item.at, text: `${subject} ${verb.replaceAll("_", " ")}`, why: why.split("\n")[0].slice(0, 300), source, event: item.kind, status });
  }
}
