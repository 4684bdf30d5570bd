import { useState } from 'react';
import { Link } from 'wouter';
import { query, to } from '../lib/api';
import { useGet } from '../lib/query';
import { cssState, stateLabel } from '../lib/states';
import { Failed, Loading } from './base';

interface Days {
  days: { date: string; counts: Record<string, number> }[];
  truncated?: boolean;
}

const worst = ['failed', 'running', 'queued', 'success'];

/** Twelve months of runs by day (UTC); a day leads to its runs. */
export default function Calendar({ dag }: { dag: string }) {
  const [year, setYear] = useState(() => new Date().getUTCFullYear());
  const from = `${year}-01-01T00:00:00Z`;
  const until = `${year}-12-31T23:59:59Z`;
  const list = useGet<Days>(`ui/dags/${encodeURIComponent(dag)}/days` + query({ from, to: until }), { keep: true });
  if (list.isError) return <Failed error={list.error} />;
  if (!list.data) return <Loading />;
  const byDate = new Map(list.data.days.map((d) => [d.date, d.counts]));
  const month = (m: number) => {
    const first = new Date(Date.UTC(year, m, 1));
    const lead = (first.getUTCDay() + 6) % 7;
    const count = new Date(Date.UTC(year, m + 1, 0)).getUTCDate();
    const weeks: (number | null)[][] = [];
    for (let i = -lead; i < count; i += 7) weeks.push(Array.from({ length: 7 }, (_, k) => (i + k >= 0 && i + k < count ? i + k + 1 : null)));
    return weeks;
  };
  return (
    <div className="stack">
      <div className="row">
        <button type="button" className="btn" onClick={() => setYear(year - 1)} aria-label="Earlier year">‹</button><h2>{year}</h2><button type="button" className="btn" onClick={() => setYear(year + 1)} aria-label="Later year">›</button>
        <span className="muted small">Days in UTC. Colour and letter: the worst state of the day; hover for the counts.</span>
        {list.data.truncated && <span className="pill warn">not all runs are counted</span>}
      </div>
      <div className="cal">
        {Array.from({ length: 12 }, (_, m) => (
          <table key={m}>
            <caption className="small">{new Date(Date.UTC(year, m, 1)).toLocaleString('en', { month: 'long', timeZone: 'UTC' })}</caption>
            <thead><tr>{['Mo', 'Tu', 'We', 'Th', 'Fr', 'Sa', 'Su'].map((d) => <th key={d} scope="col">{d}</th>)}</tr></thead>
            <tbody>
              {month(m).map((w, i) => (
                <tr key={i}>
                  {w.map((day, k) => {
                    if (day === null) return <td key={k} className="none" />;
                    const date = `${year}-${String(m + 1).padStart(2, '0')}-${String(day).padStart(2, '0')}`;
                    const counts = byDate.get(date);
                    if (!counts) return <td key={k}>{day}</td>;
                    const state = worst.find((s) => counts[s]) ?? 'success';
                    const text = `${date}: ` + Object.entries(counts).map(([s, n]) => `${n} ${stateLabel(s)}`).join(', ');
                    return <td key={k}><Link href={to.dag(dag, 'runs') + query({ run_after_gte: date + 'T00:00:00Z', run_after_lte: date + 'T23:59:59Z' })} title={text} aria-label={text} style={{ background: `var(--t-${cssState(state)})`, color: `var(--x-${cssState(state)})` }}>{state === 'failed' ? <b>{day}!</b> : day}</Link></td>;
                  })}
                </tr>
              ))}
            </tbody>
          </table>
        ))}
      </div>
    </div>
  );
}
