import type { ReactNode } from 'react';
import { cssState, stateLabel } from '../lib/states';

/** Icons of states, Airflow's by kind; the shape carries the meaning where colours do not. */
const shapes: Record<string, ReactNode> = {
  success: <path d="m2 6.500 2.700 2.700L10 3.500" />,
  failed: <path d="m3 3 6 6M9 3l-6 6" />,
  running: <path d="M1 6h2.500L5 2.500 7 9.500 8.500 6H11" />,
  queued: <path d="M2 3h8M2 6h5M2 9h3M8.500 6v4M7 8.500l1.500 1.500L10 8.500" />,
  scheduled: <><circle cx="6" cy="6" r="4.300" /><path d="M6 3.500V6l1.700 1.200" /></>,
  'up-for-retry': <path d="M10 6a4 4 0 1 1-1.200-2.800M10 1.500v2.300H7.700" />,
  'up-for-reschedule': <path d="M2 3h8v7H2zM2 5h8M5 8h3M6.700 6.700 8 8 6.700 9.300" />,
  'upstream-failed': <><circle cx="6" cy="6" r="4.500" strokeDasharray="2 1.300" /><path d="M6 8.500v-5M4.200 5 6 3.200 7.800 5" /></>,
  skipped: <path d="m2.500 3 3 3-3 3M6.500 3l3 3-3 3" />,
  deferred: <><circle cx="6" cy="6" r="4.500" /><path d="M4.800 4.300v3.400M7.200 4.300v3.400" /></>,
  restarting: <path d="M2 6a4 4 0 0 1 7-2.600M9.200 1v2.500H6.700M10 6a4 4 0 0 1-7 2.600M2.800 11V8.500h2.500" />,
  'awaiting-input': <><circle cx="4.500" cy="3.500" r="1.700" /><path d="M1.500 10c.3-2.300 1.400-3.300 3-3.300M7 9.800l3.700-3.700" /></>,
  removed: <><circle cx="6" cy="6" r="4.500" /><path d="m4.500 4.500 3 3M7.500 4.500l-3 3" /></>,
  none: <circle cx="6" cy="6" r="4" strokeDasharray="1.600 1.600" />,
};

export function StateShape({ state }: { state: string | null | undefined }) {
  return (
    <svg viewBox="0 0 12 12" fill="none" stroke="currentColor" strokeWidth="1.600" strokeLinecap="round" strokeLinejoin="round" aria-hidden="true">
      {shapes[cssState(state)] ?? shapes['none']}
    </svg>
  );
}

/** A state as a tinted pill with icon and word. */
export function StateBadge({ state, count }: { state: string | null | undefined; count?: number }) {
  const s = cssState(state);
  return (
    <span className="badge" data-state={state ?? 'none'} style={{ background: `var(--t-${s})`, color: `var(--x-${s})` }}>
      <StateShape state={state} />
      {count !== undefined && <b>{count}</b>}
      <span>{count !== undefined && ' '}{stateLabel(state)}</span>
    </span>
  );
}

/** A small filled square with the icon; label says what it stands for. */
export function StateDot({ state, label }: { state: string | null | undefined; label?: string }) {
  return (
    <span className={`dot s-${cssState(state)}`} role="img" aria-label={label ?? stateLabel(state)} title={label ?? stateLabel(state)}>
      <StateShape state={state} />
    </span>
  );
}
