package scheduler

// Code is a machine-readable reason; String-typed so that it can be stored and shown as it is.
type Code string

// Why an instance or a run moved.
const (
	CodeTriggerRule      Code = "trigger_rule"
	CodeSetup            Code = "setup"
	CodePreviouslySkip   Code = "previously_skipped"
	CodeMappedUpstream   Code = "mapped_upstream"
	CodeExpanded         Code = "expanded"
	CodeNotExpandable    Code = "expansion_length_unknown"
	CodeEmptyExpansion   Code = "expanded_to_nothing"
	CodeShrunk           Code = "expansion_shrank"
	CodeDepsMet          Code = "dependencies_met"
	CodeNoWorkNeeded     Code = "no_work_needed"
	CodeStartFromTrigger Code = "start_from_trigger"
	CodeReported         Code = "reported"
	CodeBranch           Code = "skipped_by_branch"
	CodeFailFast         Code = "fail_fast"
	CodeTimedOut         Code = "timed_out"
	CodeTriggerTimeout   Code = "trigger_timeout"
	CodeQueuedTimeout    Code = "queued_timeout"
	CodeRetry            Code = "retry"
	CodeRunFinished      Code = "run_finished"
	CodeAdmitted         Code = "admitted"
	CodeCleared          Code = "cleared"
	CodeMarked           Code = "marked"
	CodeTaskGone         Code = "task_not_in_dag"
	CodeTaskBack         Code = "task_back_in_dag"
	CodeTaskAdded        Code = "task_added_to_dag"

	CodeSuccess     Code = "success"
	CodeTaskFailure Code = "task_failure"
	CodeDeadlocked  Code = "all_tasks_deadlocked"
)

// Why an instance or a run does not move.
const (
	CodeUpstream          Code = "upstream_not_done"
	CodeSetupNotDone      Code = "setup_not_done"
	CodePast              Code = "depends_on_past"
	CodeRetryDelay        Code = "retry_delay"
	CodeReschedule        Code = "reschedule_date"
	CodeDeferred          Code = "deferred"
	CodeRunning           Code = "running"
	CodeRestarting        Code = "restarting"
	CodeWaitsForWorker    Code = "queued"
	CodePaused            Code = "dag_paused"
	CodeRunQueued         Code = "dag_run_queued"
	CodeFuture            Code = "logical_date_in_future"
	CodePoolMissing       Code = "pool_missing"
	CodePoolTooSmall      Code = "pool_too_small"
	CodePoolFull          Code = "pool_full"
	CodeMaxActiveTasks    Code = "max_active_tasks"
	CodeMaxTIsPerDag      Code = "max_active_tis_per_dag"
	CodeMaxTIsPerDagRun   Code = "max_active_tis_per_dagrun"
	CodeExecutorFull      Code = "executor_full"
	CodeWaitsForSlot      Code = "waits_for_slot"
	CodeNotLookedAt       Code = "behind_max_tis"
	CodeMaxActiveRuns     Code = "max_active_runs"
	CodeBackfillPaused    Code = "backfill_paused"
	CodeDagStale          Code = "dag_stale"
	CodeImportErrors      Code = "import_errors"
	CodeRunTypeNotAllowed Code = "run_type_not_allowed"
	CodeStuck             Code = "stuck"
	CodeUpstreamAbsent    Code = "upstream_has_no_instance"
	CodeExpansionUnsolved Code = "mapped_upstream_not_done"
	CodeFailing           Code = "step_failing" // deciding about the run fails: corrupt state or a bug
)
