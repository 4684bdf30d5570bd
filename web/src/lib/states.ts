import type { RunState, TaskState } from './types';

/** Letters of the grid's columns, as package uiapi writes them. */
const byLetter: Record<string, TaskState | null> = {
  '.': null, s: 'success', f: 'failed', r: 'running', q: 'queued', c: 'scheduled', y: 'up_for_retry', h: 'up_for_reschedule',
  u: 'upstream_failed', k: 'skipped', d: 'deferred', e: 'restarting', x: 'removed',
};

/** The state of a letter; undefined where the run does not have the task. */
export function stateOfLetter(letter: string | undefined): TaskState | null | undefined {
  return letter === undefined ? undefined : byLetter[letter];
}

export const taskStates: readonly TaskState[] = [
  'success', 'failed', 'running', 'queued', 'scheduled', 'up_for_retry', 'up_for_reschedule', 'upstream_failed', 'skipped', 'deferred', 'restarting', 'removed',
];

export const runStates: readonly RunState[] = ['queued', 'running', 'success', 'failed'];

/** Which of several states a group or a mapped task shows: the one that asks most for attention. */
const weightiest: readonly (TaskState | null)[] = [
  'failed', 'upstream_failed', 'up_for_retry', 'up_for_reschedule', 'queued', 'scheduled', 'deferred', 'running', 'restarting', null, 'success', 'skipped', 'removed',
];

export function combined(states: Iterable<TaskState | null | undefined>): TaskState | null | undefined {
  let best = weightiest.length;
  for (const s of states) {
    if (s === undefined) continue;
    const i = weightiest.indexOf(s);
    if (i >= 0 && i < best) best = i;
  }
  return best < weightiest.length ? weightiest[best] : undefined;
}

export function stateLabel(s: string | null | undefined): string {
  return s ? s.replaceAll('_', ' ') : 'no status';
}

export function cssState(s: string | null | undefined): string {
  return s ? s.replaceAll('_', '-') : 'none';
}

const finished: ReadonlySet<string> = new Set(['success', 'failed', 'upstream_failed', 'skipped', 'removed']);

/** Whether a task instance may still move by itself. */
export function unfinished(s: TaskState | null | undefined): boolean {
  return s !== undefined && (s === null || !finished.has(s));
}
