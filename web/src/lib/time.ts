/** Times in the chosen zone, durations as Airflow writes them. */

const formatters = new Map<string, Intl.DateTimeFormat>();

function formatter(zone: string): Intl.DateTimeFormat {
  let f = formatters.get(zone);
  if (!f) {
    f = new Intl.DateTimeFormat('en-GB', {
      timeZone: zone, hourCycle: 'h23', year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit',
    });
    formatters.set(zone, f);
  }
  return f;
}

/** The zone that the browser is in. */
export function localZone(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC';
}

export function zoneName(choice: string): string {
  return choice === 'local' ? localZone() : choice;
}

interface Parts { year: string; month: string; day: string; hour: string; minute: string; second: string }

export function partsOf(t: Date, zone: string): Parts {
  const out: Record<string, string> = {};
  for (const p of formatter(zone).formatToParts(t)) out[p.type] = p.value;
  return out as unknown as Parts;
}

/** YYYY-MM-DD HH:mm:ss in a zone; '' for no time. */
export function formatTime(t: string | Date | null | undefined, zone: string): string {
  if (!t) return '';
  const d = typeof t === 'string' ? new Date(t) : t;
  if (Number.isNaN(d.getTime())) return String(t);
  const p = partsOf(d, zone);
  return `${p.year}-${p.month}-${p.day} ${p.hour}:${p.minute}:${p.second}`;
}

/** Offset of a zone from UTC at a moment, such as +02:00. */
export function offsetOf(zone: string, at: Date = new Date()): string {
  const p = partsOf(at, zone);
  const wall = Date.UTC(+p.year, +p.month - 1, +p.day, +p.hour, +p.minute, +p.second);
  const minutes = Math.round((wall - Math.floor(at.getTime() / 1000) * 1000) / 60000);
  const abs = Math.abs(minutes);
  return (minutes < 0 ? '-' : '+') + String(Math.floor(abs / 60)).padStart(2, '0') + ':' + String(abs % 60).padStart(2, '0');
}

/** HH:MM:SS.mmm of seconds; days in front if there are any. */
export function formatDuration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return '';
  const ms = Math.max(0, Math.round(seconds * 1000));
  const p = (n: number, w = 2) => String(n).padStart(w, '0');
  const s = Math.floor(ms / 1000);
  const days = Math.floor(s / 86400);
  return (days ? `${days} d ` : '') + `${p(Math.floor(s / 3600) % 24)}:${p(Math.floor(s / 60) % 60)}:${p(s % 60)}.${p(ms % 1000, 3)}`;
}

/** Short form for dense places: 850 ms, 12 s, 3 m 5 s, 2 h 4 m, 3 d 2 h. */
export function shortDuration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return '';
  const s = Math.max(0, seconds);
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  const whole = Math.round(s);
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} m`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** Seconds between two times; the present stands for a missing end. */
export function secondsBetween(start: string | null | undefined, end: string | null | undefined, now = Date.now()): number | null {
  if (!start) return null;
  return ((end ? new Date(end).getTime() : now) - new Date(start).getTime()) / 1000;
}

/** "5 m ago", "in 3 h". */
export function ago(t: string | null | undefined, now = Date.now()): string {
  if (!t) return '';
  const s = (now - new Date(t).getTime()) / 1000;
  const abs = Math.abs(s);
  const text = abs < 60 ? `${Math.round(abs)} s` : abs < 3600 ? `${Math.round(abs / 60)} m` : abs < 86400 * 2 ? `${Math.round(abs / 3600)} h` : `${Math.round(abs / 86400)} d`;
  return s >= 0 ? `${text} ago` : `in ${text}`;
}
