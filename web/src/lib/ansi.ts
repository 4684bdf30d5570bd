/** ANSI colours of log lines as spans; every other control sequence is dropped. Text stays text. */

export interface Span {
  text: string;
  className: string;
}

const sequence = /\u001b(?:\[([0-9;:?]*)[ -/]*([@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[PX^_][^\u001b]*(?:\u001b\\)?|[ -/]*[0-~])/g;
const control = /[\u0000-\u0008\u000b-\u001f\u007f]/g;

interface Style {
  fg: string;
  bg: string;
  bold: boolean;
  dim: boolean;
  italic: boolean;
  underline: boolean;
}

const plain: Style = { fg: '', bg: '', bold: false, dim: false, italic: false, underline: false };

function classOf(s: Style): string {
  return [s.fg && `fg-${s.fg}`, s.bg && `bg-${s.bg}`, s.bold && 'bold', s.dim && 'dim', s.italic && 'italic', s.underline && 'underline'].filter(Boolean).join(' ');
}

function apply(s: Style, codes: number[]): Style {
  let out = { ...s };
  for (let i = 0; i < codes.length; i++) {
    const c = codes[i] ?? 0;
    if (c === 0) out = { ...plain };
    else if (c === 1) out.bold = true;
    else if (c === 2) out.dim = true;
    else if (c === 3) out.italic = true;
    else if (c === 4) out.underline = true;
    else if (c === 22) out.bold = out.dim = false;
    else if (c === 23) out.italic = false;
    else if (c === 24) out.underline = false;
    else if (c >= 30 && c <= 37) out.fg = String(c - 30);
    else if (c === 39) out.fg = '';
    else if (c >= 40 && c <= 47) out.bg = String(c - 40);
    else if (c === 49) out.bg = '';
    else if (c >= 90 && c <= 97) out.fg = String(c - 82);
    else if (c >= 100 && c <= 107) out.bg = String(c - 92);
    else if (c === 38 || c === 48) {
      if (codes[i + 1] === 5) {
        const n = codes[i + 2] ?? 0;
        const near = n < 16 ? String(n) : '';
        if (c === 38) out.fg = near;
        else out.bg = near;
        i += 2;
      } else if (codes[i + 1] === 2) i += 4;
    }
  }
  return out;
}

export function spans(line: string): Span[] {
  if (!line.includes('\u001b')) return [{ text: line.replace(control, ''), className: '' }];
  const out: Span[] = [];
  let style = plain;
  let at = 0;
  const push = (text: string) => {
    const clean = text.replace(control, '');
    if (clean) out.push({ text: clean, className: classOf(style) });
  };
  for (const m of line.matchAll(sequence)) {
    push(line.slice(at, m.index));
    at = m.index + m[0].length;
    if (m[2] === 'm') style = apply(style, (m[1] || '0').split(/[;:]/).map(Number));
  }
  push(line.slice(at));
  return out;
}

/** A line without any control sequence, for search, copy and download. */
export function stripped(line: string): string {
  return line.replace(sequence, '').replace(control, '');
}
