import Events from '../ui/eventlist';
import { SearchField, useFilters } from './dags';

export default function EventsPage() {
  const [params, set] = useFilters();
  const filter: Record<string, string | undefined> = {};
  for (const k of ['event', 'dag_id', 'run_id', 'task_id', 'owner', 'dag_id_pattern', 'task_id_pattern', 'run_id_pattern', 'owner_pattern', 'event_pattern', 'before', 'after']) filter[k] = params.get(k) ?? undefined;
  return (
    <div className="page">
      <h1>Audit log</h1>
      <div className="filters" role="search">
        <SearchField label="Search DAGs" value={params.get('dag_id_pattern') ?? ''} onChange={(v) => set({ dag_id_pattern: v || null })} />
        <SearchField label="Search events" value={params.get('event_pattern') ?? ''} onChange={(v) => set({ event_pattern: v || null })} />
        <SearchField label="Search people" value={params.get('owner_pattern') ?? ''} onChange={(v) => set({ owner_pattern: v || null })} />
      </div>
      <Events key={params.toString()} filter={filter} />
    </div>
  );
}
