package cli

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/tasklog"
)

func (c *command) tasksCommands() []*cobra.Command {
	return []*cobra.Command{group("tasks", "Manage tasks and their instances",
		c.tasksList(), c.tasksState(), c.tasksStates(), c.tasksFailedDeps(), c.tasksClear(), c.tasksRender(), c.tasksTest(), c.tasksRun(), c.tasksLogs()),
		c.tasksLogs()}
}

func (c *command) tasksList() *cobra.Command {
	var tree bool
	var folder string
	cmd := &cobra.Command{
		Use: "list DAG_ID", Short: "List the tasks of a DAG", Args: cobra.ExactArgs(1),
		Example: "  gust tasks list my_dag\n  gust tasks list my_dag --tree",
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			dag, err := c.latestDag(cmd.Context(), a, args[0], folder)
			if err != nil {
				return err
			}
			if c.output == "json" || c.output == "yaml" {
				var rs []row
				for _, t := range dag.Tasks {
					rs = append(rs, taskRow(t))
				}
				return c.rows(rs)
			}
			if tree {
				c.taskTree(dag)
				return nil
			}
			ids := make([]string, 0, len(dag.Tasks))
			for _, t := range dag.Tasks {
				ids = append(ids, string(t.TaskID))
			}
			slices.Sort(ids)
			for _, id := range ids {
				c.say("%s", id)
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&tree, "tree", "t", false, "show what follows what")
	dagsFolderFlag(cmd, &folder)
	return cmd
}

// dagsFolderFlag adds --dags-folder and Airflow 2's -S.
func dagsFolderFlag(cmd *cobra.Command, folder *string) {
	cmd.Flags().StringVar(folder, "dags-folder", "", "folder (or file) to read the DAG from (default: where it was registered from)")
	cmd.Flags().StringVarP(folder, "subdir", "S", "", "Airflow 2's name of --dags-folder")
	_ = cmd.Flags().MarkHidden("subdir")
}

func taskRow(t *airflow.Task) row {
	return row{
		{"task_id", t.TaskID}, {"operator_name", t.OperatorName}, {"class_ref", row{{"module_path", t.TaskModule}, {"class_name", t.TaskType}}},
		{"trigger_rule", t.TriggerRule}, {"downstream_task_ids", nonNil(t.Downstream)}, {"upstream_task_ids", nonNil(t.Upstream)}, {"owner", t.Owner},
		{"retries", t.Retries}, {"retry_delay", t.RetryDelay.Seconds()}, {"queue", t.Queue}, {"pool", t.Pool}, {"pool_slots", t.PoolSlots},
		{"priority_weight", t.PriorityWeight}, {"weight_rule", t.WeightRule}, {"depends_on_past", t.DependsOnPast}, {"wait_for_downstream", t.WaitForDownstream},
		{"is_mapped", t.IsMapped}, {"is_setup", t.IsSetup}, {"is_teardown", t.IsTeardown}, {"task_group_id", t.Group}, {"template_fields", nonNil(t.TemplateFields)},
	}
}

func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// taskTree prints the tasks as Airflow's tree view: each below what it follows. A
// task that was shown with what follows it is not unfolded again.
func (c *command) taskTree(dag *airflow.DAG) {
	shown := map[airflow.TaskID]bool{}
	var walk func(t *airflow.Task, depth int)
	walk = func(t *airflow.Task, depth int) {
		more := ""
		again := shown[t.TaskID] && len(t.Downstream) > 0
		if again {
			more = " …"
		}
		c.say("%s<Task(%s): %s>%s", strings.Repeat("    ", depth), t.OperatorName, t.TaskID, more)
		if again {
			return
		}
		shown[t.TaskID] = true
		for _, id := range t.Downstream {
			if d := dag.Task(id); d != nil {
				walk(d, depth+1)
			}
		}
	}
	for _, t := range dag.Tasks {
		if len(t.Upstream) == 0 {
			walk(t, 0)
		}
	}
}

// instance finds an instance of a run.
func (c *command) instance(ctx context.Context, a *localapp.App, dag, task, runOrDate string, mapIndex int) (airflow.DagRun, airflow.TaskInstance, error) {
	r, err := c.findRun(ctx, a, dag, runOrDate)
	if err != nil {
		return r, airflow.TaskInstance{}, err
	}
	tis, err := a.Engine.TaskInstances(ctx, store.RunKey{DagID: r.DagID, RunID: r.RunID})
	if err != nil {
		return r, airflow.TaskInstance{}, err
	}
	var ids []string
	mapped := 0
	for _, ti := range tis {
		if string(ti.TaskID) != task {
			ids = append(ids, string(ti.TaskID))
			continue
		}
		if ti.MapIndex == mapIndex {
			return r, ti, nil
		}
		mapped++
	}
	if mapped > 0 {
		return r, airflow.TaskInstance{}, fmt.Errorf("task %q has %d mapped instances in run %s, none with map_index %d: give one with --map-index: %w", task, mapped, r.RunID, mapIndex, airflow.ErrNotFound)
	}
	slices.Sort(ids)
	return r, airflow.TaskInstance{}, fmt.Errorf("task %q is not in run %s of DAG %q: %w; it has %s", task, r.RunID, dag, airflow.ErrNotFound, strings.Join(slices.Compact(ids), ", "))
}

func instanceRow(r airflow.DagRun, ti airflow.TaskInstance) row {
	var duration any
	if ti.Duration != nil {
		duration = *ti.Duration
	}
	return row{
		{"dag_id", ti.DagID}, {"logical_date", r.LogicalDate}, {"task_id", ti.TaskID}, {"state", ti.State}, {"start_date", ti.StartDate}, {"end_date", ti.EndDate},
		{"map_index", ti.MapIndex}, {"run_id", ti.RunID}, {"dag_run_id", ti.RunID}, {"try_number", ti.TryNumber}, {"max_tries", ti.MaxTries}, {"duration", duration},
		{"operator", ti.Operator}, {"pool", ti.Pool}, {"pool_slots", ti.PoolSlots}, {"queue", ti.Queue}, {"priority_weight", ti.PriorityWeight},
		{"scheduled_when", ti.ScheduledWhen}, {"queued_when", ti.QueuedWhen}, {"hostname", ti.Hostname}, {"pid", ti.PID}, {"rendered_map_index", ti.RenderedMapIndex},
	}
}

func mapIndexFlag(cmd *cobra.Command, i *int) {
	cmd.Flags().IntVar(i, "map-index", airflow.Unmapped, "which instance of a mapped task")
}

func (c *command) tasksState() *cobra.Command {
	var index int
	cmd := &cobra.Command{
		Use: "state DAG_ID TASK_ID LOGICAL_DATE_OR_RUN_ID", Short: "Show the state of a task instance", Args: cobra.ExactArgs(3),
		Example: "  gust tasks state my_dag my_task my_run",
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			r, ti, err := c.instance(cmd.Context(), a, args[0], args[1], args[2], index)
			if err != nil {
				return err
			}
			if c.output == "json" || c.output == "yaml" {
				return c.details(instanceRow(r, ti))
			}
			c.say("%s", stateText(ti.State))
			return nil
		},
	}
	mapIndexFlag(cmd, &index)
	return cmd
}

func (c *command) tasksStates() *cobra.Command {
	return &cobra.Command{
		Use: "states-for-dag-run DAG_ID LOGICAL_DATE_OR_RUN_ID", Short: "Show the states of all task instances of a run", Args: cobra.ExactArgs(2),
		Example: "  gust tasks states-for-dag-run my_dag my_run -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			r, err := c.findRun(cmd.Context(), a, args[0], args[1])
			if err != nil {
				return err
			}
			tis, err := a.Engine.TaskInstances(cmd.Context(), store.RunKey{DagID: r.DagID, RunID: r.RunID})
			if err != nil {
				return err
			}
			keys := []string{"dag_id", "logical_date", "task_id", "state", "start_date", "end_date"}
			var rs []row
			for _, ti := range tis {
				rs = append(rs, instanceRow(r, ti))
				if ti.MapIndex >= 0 && len(keys) == 6 {
					keys = append(keys, "map_index")
				}
			}
			return c.rows(rs, keys...)
		},
	}
}

func (c *command) tasksFailedDeps() *cobra.Command {
	var index int
	cmd := &cobra.Command{
		Use: "failed-deps DAG_ID TASK_ID LOGICAL_DATE_OR_RUN_ID", Short: "Show what keeps a task instance from being scheduled", Args: cobra.ExactArgs(3),
		Example: "  gust tasks failed-deps my_dag my_task my_run",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			a, err := c.open(ctx)
			if err != nil {
				return err
			}
			r, ti, err := c.instance(ctx, a, args[0], args[1], args[2], index)
			if err != nil {
				return err
			}
			var failed []row
			add := func(dep, reason string) { failed = append(failed, row{{"dependency", dep}, {"reason", reason}}) }
			if ti.State.Finished() {
				add("Task Instance State", fmt.Sprintf("Task is in the '%s' state.", ti.State))
			}
			reasons, err := a.Engine.Explain(ctx, store.RunKey{DagID: r.DagID, RunID: r.RunID})
			if err != nil {
				return err
			}
			for _, x := range reasons {
				if x.Pos < 0 || x.Key.TaskID == ti.TaskID && x.Key.MapIndex == ti.MapIndex && x.Code != scheduler.CodeDepsMet {
					add(string(x.Code), x.Text)
				}
			}
			if c.output != "table" {
				return c.rows(failed)
			}
			if len(failed) == 0 {
				c.say("Task instance dependencies are all met.")
				return nil
			}
			c.say("Task instance dependencies not met:")
			for _, f := range failed {
				c.say("%s: %s", f[0].value, f[1].value)
			}
			return nil
		},
	}
	mapIndexFlag(cmd, &index)
	return cmd
}

type clearFlags struct {
	regex, start, end, runID                                              string
	downstream, upstream, onlyFailed, onlyRunning, yes, dagRegex, dryOnly bool
	latest, latestSet                                                     bool
}

func (c *command) tasksClear() *cobra.Command {
	var f clearFlags
	cmd := &cobra.Command{
		Use: "clear DAG_ID", Short: "Clear task instances, so that they run again", Args: cobra.ExactArgs(1),
		Long: "Clears the task instances of the runs between two logical dates, of all runs if none is given. Shows what will be cleared and asks.",
		Example: `  gust tasks clear my_dag -t '^load' -d -s 2026-01-01 -e 2026-01-31
  gust tasks clear my_dag --run-id my_run --only-failed -y`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.latestSet = cmd.Flags().Changed("run-on-latest-version")
			return c.clear(cmd.Context(), args[0], f)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.regex, "task-regex", "t", "", "only tasks whose id matches the regular expression")
	fl.StringVarP(&f.start, "start-date", "s", "", "only runs from this logical date on")
	fl.StringVarP(&f.end, "end-date", "e", "", "only runs up to this logical date")
	fl.StringVar(&f.runID, "run-id", "", "only this run")
	fl.BoolVarP(&f.downstream, "downstream", "d", false, "with all tasks below them")
	fl.BoolVarP(&f.upstream, "upstream", "u", false, "with all tasks above them")
	fl.BoolVarP(&f.onlyFailed, "only-failed", "f", false, "only failed instances")
	fl.BoolVarP(&f.onlyRunning, "only-running", "r", false, "only running instances")
	fl.BoolVarP(&f.dagRegex, "dag-regex", "R", false, "take DAG_ID as a regular expression")
	fl.BoolVar(&f.dryOnly, "dry-run", false, "show what would be cleared and change nothing")
	fl.BoolVar(&f.latest, "run-on-latest-version", false, "run again on the newest version of the DAG")
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	return cmd
}

// clearing is what is to be cleared of one run.
type clearing struct {
	key    store.RunKey
	sel    scheduler.ClearOptions
	latest bool // on the newest version of the DAG
}

// onLatest says whether runs of a DAG run again on its newest version where the
// command line does not: the DAG's rerun_with_latest_version, else [core]'s.
func (c *command) onLatest(ctx context.Context, a *localapp.App, m airflow.DagModel) (bool, error) {
	g, err := a.Engine.Graph(ctx, m.LatestHash)
	if err != nil {
		return false, err
	}
	if g.DAG.RerunWithLatestVersion != nil {
		return *g.DAG.RerunWithLatestVersion, nil
	}
	cfg, err := c.config()
	if err != nil {
		return false, err
	}
	return cfg.Core.RerunWithLatestVersion, nil
}

func (c *command) clear(ctx context.Context, dagArg string, f clearFlags) error {
	var re, dagRE *regexp.Regexp
	var err error
	if re, err = regexp.Compile(f.regex); err != nil {
		return usagef("--task-regex: %w", err)
	}
	if dagRE, err = regexp.Compile(dagArg); f.dagRegex && err != nil {
		return usagef("DAG_ID is no regular expression: %w", err)
	}
	from, err := c.parseDate("--start-date", f.start)
	if err != nil {
		return err
	}
	to, err := c.parseDate("--end-date", f.end)
	if err != nil {
		return err
	}
	a, err := c.open(ctx)
	if err != nil {
		return err
	}
	var models []airflow.DagModel
	if f.dagRegex {
		all, _, err := a.Store.ListDags(ctx, store.ListOptions{})
		if err != nil {
			return err
		}
		for _, m := range all {
			if !m.IsStale && dagRE.MatchString(string(m.DagID)) {
				models = append(models, m)
			}
		}
	} else {
		m, err := c.dag(ctx, a, dagArg)
		if err != nil {
			return err
		}
		models = append(models, m)
	}
	var todo []clearing
	var rs []row
	for _, m := range models {
		latest := f.latest
		if !f.latestSet {
			if latest, err = c.onLatest(ctx, a, m); err != nil {
				return fmt.Errorf("DAG %q: %w", m.DagID, err)
			}
		}
		var runs []airflow.DagRun
		if f.runID != "" {
			r, err := c.findRun(ctx, a, string(m.DagID), f.runID)
			if err != nil {
				return err
			}
			runs = append(runs, r)
		} else if err := eachRun(ctx, a, m.DagID, func(r airflow.DagRun) bool {
			at := r.RunAfter
			if r.LogicalDate != nil {
				at = *r.LogicalDate
			}
			if (from == nil || !at.Before(*from)) && (to == nil || !at.After(*to)) {
				runs = append(runs, r)
			}
			return true
		}); err != nil {
			return err
		}
		for _, r := range runs {
			x := clearing{key: store.RunKey{DagID: r.DagID, RunID: r.RunID}, latest: latest}
			x.sel = scheduler.ClearOptions{OnlyFailed: f.onlyFailed, OnlyRunning: f.onlyRunning, ResetDagRun: true}
			x.sel.Upstream, x.sel.Downstream = f.upstream, f.downstream
			g, err := a.Engine.Graph(ctx, r.DagHash)
			if err != nil {
				return err
			}
			if f.regex != "" {
				for _, t := range g.DAG.Tasks {
					if re.MatchString(string(t.TaskID)) {
						x.sel.Tasks = append(x.sel.Tasks, scheduler.TaskSelection{TaskID: t.TaskID})
					}
				}
				if len(x.sel.Tasks) == 0 {
					continue
				}
			}
			found, err := c.wouldClear(ctx, a, r, x)
			if err != nil {
				return err
			}
			if len(found) > 0 {
				todo, rs = append(todo, x), append(rs, found...)
			}
		}
	}
	keys := []string{"dag_id", "run_id", "task_id", "map_index", "state"}
	if len(rs) == 0 {
		if c.output != "table" {
			return c.rows(rs)
		}
		c.say("Nothing to clear.")
		return nil
	}
	if f.dryOnly {
		return c.rows(rs, keys...)
	}
	if !f.yes {
		var lines []string
		for _, r := range rs {
			run, _ := r.get("run_id")
			lines = append(lines, fmt.Sprintf("%v.%v %v (%s)", r[0].value, r[2].value, run, cell(r[4].value)))
		}
		ok, err := c.confirm(false, "You are about to clear these %d task instances:\n%s\n\nAre you sure?", len(rs), strings.Join(lines, "\n"))
		if err != nil {
			return err
		}
		if !ok {
			c.say("Cancelled, nothing was cleared.")
			return nil
		}
	}
	n := localapp.Notice{}
	for _, x := range todo {
		if _, err := a.Engine.Clear(ctx, x.key, engine.ClearRequest{ClearOptions: x.sel, LatestVersion: x.latest, User: c.env.User}); err != nil {
			return fmt.Errorf("run %s: %w", x.key, err)
		}
		n.Runs = append(n.Runs, x.key)
	}
	if err := c.tell(ctx, a, n, "the tasks run again"); err != nil {
		return err
	}
	if c.output != "table" {
		return c.rows(rs)
	}
	c.say("Cleared %d task instances in %d runs.", len(rs), len(todo))
	return nil
}

// wouldClear lists the instances that a clearing concerns, as they are now.
func (c *command) wouldClear(ctx context.Context, a *localapp.App, r airflow.DagRun, x clearing) ([]row, error) {
	res, err := a.Engine.Clear(ctx, x.key, engine.ClearRequest{ClearOptions: x.sel, DryRun: true})
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", x.key, err)
	}
	tis, err := a.Engine.TaskInstances(ctx, x.key)
	if err != nil {
		return nil, err
	}
	var rs []row
	for _, pos := range res.Affected {
		if pos < len(tis) {
			ti := tis[pos]
			rs = append(rs, row{{"dag_id", ti.DagID}, {"run_id", ti.RunID}, {"task_id", ti.TaskID}, {"map_index", ti.MapIndex}, {"state", ti.State}, {"logical_date", r.LogicalDate}})
		}
	}
	return rs, nil
}

func (c *command) tasksLogs() *cobra.Command {
	var index, try int
	var follow bool
	cmd := &cobra.Command{
		Use: "logs DAG_ID LOGICAL_DATE_OR_RUN_ID TASK_ID", Short: "Show the log of a task instance", Args: cobra.ExactArgs(3),
		Example: `  gust logs my_dag my_run my_task
  gust logs my_dag my_run my_task --try-number 1
  gust logs my_dag my_run my_task -f           until it has ended`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			a, err := c.open(ctx)
			if err != nil {
				return err
			}
			r, ti, err := c.instance(ctx, a, args[0], args[2], args[1], index)
			if err != nil {
				return err
			}
			show := func(e tasklog.Entry) error {
				if c.output == "json" || c.output == "yaml" {
					return writeJSON(c.env.Stdout, e)
				}
				_, err := fmt.Fprintln(c.env.Stdout, e.Text())
				return err
			}
			which := try
			if which == 0 {
				which = max(ti.TryNumber, 1)
			}
			logs := tasklog.New(a.Options.LogFolder, tasklog.Options{})
			if follow {
				key := store.RunKey{DagID: r.DagID, RunID: r.RunID}
				return logs.Follow(ctx, ti.TaskInstanceKey, which, func(ctx context.Context) (bool, error) {
					_, now, err := c.instance(ctx, a, args[0], args[2], string(key.RunID), index)
					return now.State.Finished() || now.TryNumber > which || now.State == airflow.TIUpForRetry, err
				}, show)
			}
			if ti.TryNumber == 0 && try == 0 {
				return fmt.Errorf("%s has not started: it is %s (see `%s explain %s %s`): %w", ti.TaskInstanceKey, stateText(ti.State), c.env.Name, r.DagID, r.RunID, airflow.ErrNotFound)
			}
			_, err = logs.Read(ti.TaskInstanceKey, which, 0, show)
			return err
		},
	}
	mapIndexFlag(cmd, &index)
	cmd.Flags().IntVar(&try, "try-number", 0, "which try (default: the newest)")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "show what is still to be written, until the try has ended")
	return cmd
}
