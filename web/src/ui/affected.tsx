import type { TaskInstance } from '../lib/types';
import { StateBadge } from './state';

export const instanceKey = (t: TaskInstance) => `${t.dag_run_id}/${t.task_id}/${t.map_index}`;

/** The task instances that an action would touch, each with a box to leave it out where that is possible. */
export function Affected({ list, left, onToggle }: { list: TaskInstance[]; left?: ReadonlySet<string>; onToggle?: ((key: string) => void) | undefined }) {
  const manyRuns = new Set(list.map((t) => t.dag_run_id)).size > 1;
  const shown = list.slice(0, 500);
  return (
    <div className="scroll" style={{ maxHeight: 320 }} tabIndex={0} role="region" aria-label="What is affected">
      <table className="t">
        <thead><tr>{onToggle && <th scope="col"><span className="visually-hidden">Include</span></th>}<th scope="col">Task</th><th scope="col">State now</th>{manyRuns && <th scope="col">Run</th>}</tr></thead>
        <tbody>
          {shown.map((t) => {
            const key = instanceKey(t);
            return (
              <tr key={key}>
                {onToggle && <td><input type="checkbox" aria-label={`Include ${t.task_id}`} checked={!left?.has(key)} onChange={() => onToggle(key)} /></td>}
                <td>{t.task_id}{t.map_index >= 0 && ` [${t.rendered_map_index ?? t.map_index}]`}</td>
                <td><StateBadge state={t.state} /></td>
                {manyRuns && <td>{t.dag_run_id}</td>}
              </tr>
            );
          })}
        </tbody>
      </table>
      {list.length > shown.length && <p className="muted">and {list.length - shown.length} more</p>}
    </div>
  );
}
