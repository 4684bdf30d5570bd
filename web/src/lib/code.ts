/** Colouring of YAML, Python, SQL and shell by the line, and a line diff; read-only text needs no editor. */

export interface Token {
  text: string;
  kind: '' | 'key' | 'str' | 'num' | 'com' | 'kw';
}

const python = /(#.*$)|("""(?:.|\n)*?"""|'''(?:.|\n)*?'''|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|\b(def|class|return|import|from|as|if|elif|else|for|while|with|try|except|finally|raise|in|is|not|and|or|lambda|yield|pass|None|True|False|async|await|del|global|assert|break|continue)\b|\b(\d[\d_.]*)\b/g;

export function tokens(line: string, language: 'yaml' | 'python'): Token[] {
  const out: Token[] = [];
  const push = (text: string, kind: Token['kind']) => {
    if (text) out.push({ text, kind });
  };
  if (language === 'yaml') {
    const m = /^(\s*(?:- )*)(?:("(?:\\.|[^"\\])*"|'[^']*'|[^\s#'"&*!|>][^#:]*?)(:)(?=\s|$))?(.*)$/.exec(line);
    if (!m) return [{ text: line, kind: '' }];
    push(m[1] ?? '', '');
    if (m[2] !== undefined) {
      push(m[2], 'key');
      push(':', '');
    }
    const rest = m[4] ?? '';
    const v = /^(\s*)("(?:\\.|[^"\\])*"|'(?:''|[^'])*'|-?\d[\d_.:]*(?=\s|$)|true|false|null|~)?(.*?)(\s#.*|^#.*)?$/.exec(rest);
    if (!v) push(rest, '');
    else {
      push(v[1] ?? '', '');
      const t = v[2] ?? '';
      push(t, /^["']/.test(t) ? 'str' : /^-?\d/.test(t) ? 'num' : 'kw');
      push(v[3] ?? '', '');
      push(v[4] ?? '', 'com');
    }
    return out;
  }
  let at = 0;
  for (const m of line.matchAll(python)) {
    push(line.slice(at, m.index), '');
    push(m[0], m[1] ? 'com' : m[2] ? 'str' : m[3] ? 'kw' : 'num');
    at = m.index + m[0].length;
  }
  push(line.slice(at), '');
  return out;
}

export interface DiffLine {
  kind: ' ' | '+' | '-';
  text: string;
}

/** Line diff by longest common subsequence; of very long texts only the middle that differs is compared. */
export function diffLines(a: string, b: string): DiffLine[] {
  const x = a.split('\n');
  const y = b.split('\n');
  let start = 0;
  while (start < x.length && start < y.length && x[start] === y[start]) start++;
  let end = 0;
  while (end < x.length - start && end < y.length - start && x[x.length - 1 - end] === y[y.length - 1 - end]) end++;
  const xm = x.slice(start, x.length - end);
  const ym = y.slice(start, y.length - end);
  const out: DiffLine[] = x.slice(0, start).map((text) => ({ kind: ' ', text }));
  if (xm.length * ym.length > 4_000_000) {
    out.push(...xm.map((text): DiffLine => ({ kind: '-', text })), ...ym.map((text): DiffLine => ({ kind: '+', text })));
  } else {
    const w = ym.length + 1;
    const t = new Uint32Array((xm.length + 1) * w);
    for (let i = xm.length - 1; i >= 0; i--) for (let j = ym.length - 1; j >= 0; j--) t[i * w + j] = xm[i] === ym[j] ? (t[(i + 1) * w + j + 1] ?? 0) + 1 : Math.max(t[(i + 1) * w + j] ?? 0, t[i * w + j + 1] ?? 0);
    let i = 0;
    let j = 0;
    while (i < xm.length || j < ym.length) {
      if (i < xm.length && j < ym.length && xm[i] === ym[j]) {
        out.push({ kind: ' ', text: xm[i] ?? '' });
        i++;
        j++;
      } else if (j >= ym.length || (i < xm.length && (t[(i + 1) * w + j] ?? 0) >= (t[i * w + j + 1] ?? 0))) out.push({ kind: '-', text: xm[i++] ?? '' });
      else out.push({ kind: '+', text: ym[j++] ?? '' });
    }
  }
  out.push(...x.slice(x.length - end).map((text): DiffLine => ({ kind: ' ', text })));
  return out;
}
