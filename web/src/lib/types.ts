/** The parts of the server's answers that the UI reads. */

export type RunState = 'queued' | 'running' | 'success' | 'failed';
export type TaskState =
  | 'success' | 'failed' | 'running' | 'queued' | 'scheduled' | 'up_for_retry' | 'up_for_reschedule' | 'upstream_failed'
  | 'skipped' | 'deferred' | 'restarting' | 'awaiting_input' | 'removed';

export interface RunView {
  run_id: string;
  state: RunState;
  run_type: string;
  run_after: string;
  logical_date: string | null;
  queued_at: string | null;
  start_date: string | null;
  end_date: string | null;
  dag_version: number;
  note?: boolean;
}

export interface DagRow {
  dag_id: string;
  dag_display_name: string;
  description: string;
  is_paused: boolean;
  has_import_errors: boolean;
  tags: string[];
  owners: string[];
  timetable_summary: string;
  timetable_description: string;
  next_dagrun_run_after: string | null;
  recent_runs: RunView[];
}

export interface DagList {
  dags: DagRow[];
  total_entries: number;
  tags: string[];
  counts: { all: number; active: number; paused: number };
  truncated?: boolean;
}

export interface Param {
  value: unknown;
  schema: Schema;
  description: string | null;
}

export interface Schema {
  type?: string | string[];
  title?: string;
  description?: string;
  description_md?: string;
  enum?: unknown[];
  examples?: unknown[];
  values_display?: Record<string, string>;
  format?: string;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  section?: string;
  const?: unknown;
  items?: Schema;
}

export interface DagDetails {
  dag_id: string;
  dag_display_name: string;
  description: string | null;
  doc_md: string | null;
  is_paused: boolean;
  is_favorite: boolean;
  has_import_errors: boolean;
  owners: string[];
  owner_links: Record<string, string> | null;
  tags: { name: string }[];
  timetable_summary: string | null;
  timetable_description: string | null;
  timetable_periodic?: boolean;
  is_backfillable?: boolean;
  next_dagrun_run_after: string | null;
  next_dagrun_logical_date: string | null;
  active_runs_count: number;
  max_active_runs: number | null;
  params: Record<string, Param> | null;
  latest_dag_version: { version_number: number; created_at: string } | null;
  file_token: string;
  [more: string]: unknown;
}

export interface DagRun {
  dag_id: string;
  dag_display_name: string;
  dag_run_id: string;
  state: RunState;
  run_type: string;
  run_after: string;
  logical_date: string | null;
  data_interval_start: string | null;
  data_interval_end: string | null;
  queued_at: string | null;
  start_date: string | null;
  end_date: string | null;
  duration: number | null;
  conf: Record<string, unknown> | null;
  note: string | null;
  triggered_by: string | null;
  triggering_user_name: string | null;
  dag_versions: { version_number: number }[];
  [more: string]: unknown;
}

export interface TaskInstance {
  dag_id: string;
  dag_display_name: string;
  dag_run_id: string;
  task_id: string;
  task_display_name: string;
  map_index: number;
  rendered_map_index: string | null;
  state: TaskState | null;
  try_number: number;
  max_tries: number;
  operator: string | null;
  operator_name?: string | null;
  queued_when: string | null;
  scheduled_when: string | null;
  start_date: string | null;
  end_date: string | null;
  duration: number | null;
  run_after: string;
  logical_date: string | null;
  note: string | null;
  pool: string;
  queue: string | null;
  hostname: string | null;
  rendered_fields: Record<string, unknown>;
  [more: string]: unknown;
}

export interface Task {
  task_id: string;
  task_display_name: string | null;
  operator_name: string | null;
  trigger_rule: string | null;
  retries: number | null;
  is_mapped: boolean | null;
  owner: string | null;
  pool: string | null;
  queue: string | null;
  depends_on_past: boolean;
  doc_md: string | null;
  downstream_task_ids: string[] | null;
}

export interface Node {
  id: string;
  label: string;
  depth: number;
  parent: number;
  group?: boolean;
  mapped?: boolean;
  operator?: string;
  trigger_rule?: string;
  setup?: boolean;
  teardown?: boolean;
  downstream?: number[];
  tooltip?: string;
}

export interface Structure {
  dag_id: string;
  structure: string;
  version_number: number;
  nodes: Node[];
}

export interface Instance {
  task_id: string;
  map_index: number;
  rendered_map_index?: string;
  state: TaskState | null;
  try_number: number;
  operator: string;
  scheduled_when: string | null;
  queued_when: string | null;
  start_date: string | null;
  end_date: string | null;
  duration: number | null;
}

export interface Instances {
  run: RunView;
  instances: Instance[];
  counts: Record<string, number>;
  pending: boolean;
}

export interface LogLine {
  timestamp?: string | null;
  event: string;
  level?: string;
  logger?: string;
  [more: string]: unknown;
}

export interface Backfill {
  id: number;
  dag_id: string;
  from_date: string;
  to_date: string;
  is_paused: boolean;
  reprocess_behavior: string;
  max_active_runs: number;
  created_at: string;
  completed_at: string | null;
}

export interface EventLog {
  event_log_id: number | string;
  when: string;
  event: string;
  owner: string | null;
  dag_id: string | null;
  run_id: string | null;
  task_id: string | null;
  map_index: number | null;
  try_number: number | null;
  extra: string | null;
}

export interface Failure {
  dag_id: string;
  dag_display_name: string;
  run_id: string;
  run_state: RunState;
  run_after: string;
  task_id: string;
  map_index: number;
  try_number: number;
  end_date: string | null;
  error: string;
  more_tasks?: number;
}

export interface Home {
  dags: { all: number; active?: number; paused?: number };
  runs: Record<string, number>;
  running: number;
  queued: number;
  import_errors: number;
  pools: { name: string; slots: number; occupied_slots: number; deferred_slots: number; open_slots: number }[];
  failures: Failure[];
  failed_runs: number;
  hours: number;
  truncated?: boolean;
  pending: boolean;
}
