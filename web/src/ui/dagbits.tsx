import { useState } from 'react';
import { Link } from 'wouter';
import { api, patch, to } from '../lib/api';
import { useRefresh } from '../lib/query';
import { cssState } from '../lib/states';
import { formatTime, secondsBetween, shortDuration } from '../lib/time';
import type { RunView } from '../lib/types';
import { toast, toastError, useZone } from './base';

/** The pause switch. It shows the wish at once and goes back if the server refuses. */
export function PauseSwitch({ dag, paused }: { dag: string; paused: boolean }) {
  const refresh = useRefresh();
  const [wish, setWish] = useState<boolean | null>(null);
  const on = !(wish ?? paused);
  return (
    <input
      type="checkbox" role="switch" className="switch" checked={on} disabled={wish !== null}
      aria-label={`${dag} is ${on ? 'active' : 'paused'}`} title={on ? 'Active: click to pause' : 'Paused: click to unpause'}
      onChange={() => {
        setWish(on);
        patch(api.dag(dag) + '?update_mask=is_paused', { is_paused: on })
          .then(() => { toast(`${dag} is ${on ? 'paused' : 'active'} now.`); return refresh(); }, toastError)
          .finally(() => setWish(null));
      }}
    />
  );
}

/** The last runs as bars, oldest left, as high as they took long. */
export function RunBars({ dag, runs }: { dag: string; runs: RunView[] }) {
  const zone = useZone();
  const took = runs.map((r) => secondsBetween(r.start_date, r.end_date) ?? 0);
  const longest = Math.max(...took, 0.001);
  return (
    <span className="bars">
      {runs.map((r, i) => {
        const text = `${r.state}, ${formatTime(r.run_after, zone)}, ${r.start_date ? shortDuration(took[i]) : 'not started'}`;
        return (
          <Link key={r.run_id} href={to.run(dag, r.run_id)} aria-label={`Run ${text}`} title={text}>
            <i className={`s-${cssState(r.state)} ${r.state}`} style={{ height: 4 + Math.round((18 * (took[i] ?? 0)) / longest) }} />
          </Link>
        );
      }).reverse()}
    </span>
  );
}
