// Terminal output as text nodes and classes: colours stay, everything else that would move a cursor is dropped.
// Nothing is ever parsed as HTML.

const SEQUENCE = /\x1b(?:\[([0-9;:]*)([ -/]*)([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])/g;
const CONTROL = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;
// Not seen, but they change how a line reads: shown as on all pages (visible_text.py).
const HIDDEN = /[\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]|\udb40[\udc00-\udc7f]/g;
const ANY = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]|\udb40[\udc00-\udc7f]/;

function visible(text) {
  return text.replace(CONTROL, "\ufffd").replace(HIDDEN, (one) => `[U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);
}

/** The text of a line without any control; what search looks at. */
export function plain(text) {
  if (!ANY.test(text)) return text;
  return visible(afterReturn(text).replace(SEQUENCE, ""));
}

/** A carriage return goes back to the begin of the line: what was printed last is what a terminal shows. */
function afterReturn(text) {
  const trimmed = text.replace(/\r+$/, "");
  const at = trimmed.lastIndexOf("\r");
  return at < 0 ? trimmed : trimmed.slice(at + 1);
}

/** The line as pieces [text, class names, colour, background]. */
export function pieces(text) {
  if (!text.includes("\x1b")) return [[plain(text), ""]];
  const line = afterReturn(text);
  const result = [];
  let style = {};
  let at = 0;
  const push = (end) => {
    if (end > at) result.push([visible(line.slice(at, end)), names(style), style.rgb, style.back]);
  };
  for (const match of line.matchAll(SEQUENCE)) {
    push(match.index);
    at = match.index + match[0].length;
    if (match[3] === "m") style = restyled(style, match[1]);
  }
  push(line.length);
  return result;
}

function names({ bold, dim, italic, under, strike, fore, ground }) {
  const list = [];
  if (bold) list.push("b");
  if (dim) list.push("d");
  if (italic) list.push("i");
  if (under) list.push("u");
  if (strike) list.push("x");
  if (fore !== undefined) list.push(`f${fore}`);
  if (ground !== undefined) list.push("g", `g${ground}`);
  return list.join(" ");
}

function restyled(old, parameters) {
  let style = { ...old };
  const codes = parameters.split(/[;:]/).map(Number);
  for (let n = 0; n < codes.length; n += 1) {
    const code = codes[n];
    if (code === 0) style = {};
    else if (code === 1) style.bold = true;
    else if (code === 2) style.dim = true;
    else if (code === 3) style.italic = true;
    else if (code === 4) style.under = true;
    else if (code === 9) style.strike = true;
    else if (code === 22) style.bold = style.dim = false;
    else if (code === 23) style.italic = false;
    else if (code === 24) style.under = false;
    else if (code === 29) style.strike = false;
    else if (code >= 30 && code <= 37) Object.assign(style, { fore: code - 30, rgb: undefined });
    else if (code >= 90 && code <= 97) Object.assign(style, { fore: code - 82, rgb: undefined });
    else if (code === 39) Object.assign(style, { fore: undefined, rgb: undefined });
    else if (code >= 40 && code <= 47) Object.assign(style, { ground: code - 40, back: undefined });
    else if (code >= 100 && code <= 107) Object.assign(style, { ground: code - 92, back: undefined });
    else if (code === 49) Object.assign(style, { ground: undefined, back: undefined });
    else if (code === 38 || code === 48) {
      const [value, used] = extended(codes, n + 1);
      n += used;
      const named = typeof value === "number";
      if (code === 38) Object.assign(style, { fore: named ? value : undefined, rgb: named ? undefined : value });
      else Object.assign(style, { ground: named ? value : undefined, back: named ? undefined : value });
    }
  }
  return style;
}

function extended(codes, at) {
  if (codes[at] === 5) {
    const n = codes[at + 1] ?? 0;
    if (n < 16) return [n, 2];
    if (n >= 232) return [rgb(8 + (n - 232) * 10, 8 + (n - 232) * 10, 8 + (n - 232) * 10), 2];
    const level = (part) => (part ? 55 + part * 40 : 0);
    return [rgb(level(Math.floor((n - 16) / 36)), level(Math.floor((n - 16) / 6) % 6), level((n - 16) % 6)), 2];
  }
  if (codes[at] === 2) return [rgb(...codes.slice(at + 1, at + 4)), 4];
  return [undefined, 1];
}

const rgb = (...parts) => `rgb(${[0, 1, 2].map((n) => Math.max(0, Math.min(255, parts[n] || 0))).join(" ")})`;
