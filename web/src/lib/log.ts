import { stripped } from './ansi';
import type { LogLine } from './types';

/** Log lines as rows: levels, search, and the groups that tasks write with ::group::. */

export interface Entry {
  no: number; // 1-based, as in the file
  line: LogLine;
  text: string; // without control sequences
  level: string;
  group?: number; // number of the line that opened the innermost group
  opens?: boolean;
}

export const levels = ['debug', 'info', 'warning', 'error', 'critical'] as const;

export function entriesOf(lines: LogLine[]): Entry[] {
  const out: Entry[] = [];
  const open: number[] = [];
  lines.forEach((line, i) => {
    const raw = typeof line === 'string' ? { event: line } : line;
    const event = String(raw.event ?? '');
    const text = stripped(event);
    const no = i + 1;
    if (/^::endgroup::/.test(text.trimStart())) {
      open.pop();
      return;
    }
    const e: Entry = { no, line: raw, text, level: String(raw.level ?? '').toLowerCase() };
    const top = open[open.length - 1];
    if (top !== undefined) e.group = top;
    const g = /^::group::(.*)/.exec(text.trimStart());
    if (g) {
      e.opens = true;
      e.text = g[1] ?? '';
      open.push(no);
    }
    out.push(e);
  });
  return out;
}

/** The rows in sight: level and source filters applied, closed groups left out. */
export function visible(entries: Entry[], level: string, source: string, closed: ReadonlySet<number>): Entry[] {
  const least = levels.indexOf(level as (typeof levels)[number]);
  const hidden = new Set<number>();
  return entries.filter((e) => {
    if (e.group !== undefined && (closed.has(e.group) || hidden.has(e.group))) {
      if (e.opens) hidden.add(e.no);
      return false;
    }
    if (least > 0 && !e.opens) {
      const at = levels.indexOf(e.level as (typeof levels)[number]);
      if (at < least) return false;
    }
    return !source || e.line.logger === source;
  });
}

/** All text, one line an entry, for download and copy. */
export function plain(entries: Entry[]): string {
  return entries.map((e) => `${e.line.timestamp ? `[${e.line.timestamp}] ` : ''}${e.level ? `${e.level.toUpperCase()} - ` : ''}${e.text}`).join('\n') + '\n';
}
