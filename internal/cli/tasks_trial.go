package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/tasklog"
	"github.com/gustflow/gust/internal/timetable"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// latestDag reads a DAG from its file as it is now, without registering it; if
// there is no such file, the newest registered version.
func (c *command) latestDag(ctx context.Context, a *localapp.App, id, folder string) (*airflow.DAG, error) {
	dag, _, err := c.dagWithFiles(ctx, a, id, folder)
	return dag, err
}

// dagWithFiles is latestDag with the folder of the DAG's files.
func (c *command) dagWithFiles(ctx context.Context, a *localapp.App, id, folder string) (*airflow.DAG, string, error) {
	m, merr := a.Store.GetDag(ctx, airflow.DagID(id))
	if merr != nil && !errors.Is(merr, airflow.ErrNotFound) {
		return nil, "", merr
	}
	root, first := a.Options.DagsFolder, ""
	switch {
	case folder != "":
		abs, err := filepath.Abs(folder)
		if err != nil {
			return nil, "", err
		}
		fi, err := os.Stat(abs)
		if err != nil {
			return nil, "", usagef("--dags-folder: %w", err)
		}
		root = abs
		if !fi.IsDir() {
			root, first = filepath.Dir(abs), filepath.Base(abs)
		}
	case merr == nil:
		if top, ok := strings.CutSuffix(filepath.ToSlash(m.Fileloc), "/"+m.RelativeFileloc); ok {
			root = filepath.FromSlash(top)
		}
		first = m.RelativeFileloc
	}
	dag, err := c.dagFromFiles(ctx, root, first, airflow.DagID(id))
	if dag != nil || err != nil {
		return dag, root, err
	}
	if merr != nil || folder != "" {
		return nil, "", fmt.Errorf("DAG %q: %w in %s and in home %s: give its folder with --dags-folder", id, airflow.ErrNotFound, root, a.Home)
	}
	g, err := a.Engine.Graph(ctx, m.LatestHash)
	if err != nil {
		return nil, "", err
	}
	dir, err := a.Bundles.Materialize(ctx, m.BundleHash)
	return g.DAG, dir, err
}

// dagFromFiles looks for a DAG in a folder, in the file first (relative, may be
// "") before all others. nil: it is not there. A problem of the DAG's own file
// is the error.
func (c *command) dagFromFiles(ctx context.Context, root, first string, id airflow.DagID) (*airflow.DAG, error) {
	if _, err := os.Stat(root); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	cfg, err := c.config()
	if err != nil {
		return nil, err
	}
	loader := c.loader(cfg, root)
	read := func(rel string) (*airflow.DAG, error) {
		b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(rel)))
		if err != nil {
			return nil, err
		}
		res := loader.Load(ctx, dagprocessor.LoadRequest{Root: root, Path: rel, Content: b})
		for _, d := range res.DAGs {
			if d.DagID == id {
				return airflow.ParseDAG(d.Document)
			}
		}
		if len(res.Problems) > 0 {
			return nil, &airflow.InvalidError{Problems: res.Problems}
		}
		return nil, nil
	}
	if first != "" {
		if dag, err := read(first); dag != nil || err != nil && !errors.Is(err, os.ErrNotExist) {
			return dag, err
		}
	}
	reports, err := dagprocessor.Validate(ctx, dagprocessor.ValidateConfig{Loader: loader, Root: root}, []string{root})
	if err != nil {
		return nil, err
	}
	for _, r := range reports {
		if slices.ContainsFunc(r.Dags, func(d dagprocessor.DagReport) bool { return d.DagID == id }) {
			rel, err := filepath.Rel(root, filepath.FromSlash(r.File))
			if err != nil {
				return nil, err
			}
			return read(filepath.ToSlash(rel))
		}
	}
	return nil, nil
}

// trial is a control plane for one task that keeps nothing: what the task reads
// comes from the home, what it writes stays in here.
type trial struct {
	*engine.Backend
	tc *worker.TaskContext

	mu     sync.Mutex
	pushed map[string]json.RawMessage
	report *worker.Report
}

// Claim implements worker.Backend.
func (t *trial) Claim(context.Context, worker.Dispatch, worker.Identity) (*worker.TaskContext, error) {
	return t.tc, nil
}

// Heartbeat implements worker.Backend.
func (t *trial) Heartbeat(context.Context, worker.Dispatch, worker.Identity) error { return nil }

// SetXCom implements worker.Backend.
func (t *trial) SetXCom(_ context.Context, _ worker.Dispatch, xs []worker.XComPush) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range xs {
		t.pushed[x.Key] = x.Value
	}
	return nil
}

// Finish implements worker.Backend.
func (t *trial) Finish(ctx context.Context, d worker.Dispatch, r *worker.Report) error {
	t.report = r
	return t.SetXCom(ctx, d, r.XComs)
}

// Yield ends nothing: nobody else knows of the dispatch.
func (t *trial) Yield(context.Context, worker.Dispatch, worker.Identity) error { return nil }

// textLog prints a task's log for people.
type textLog struct {
	mu sync.Mutex
	w  io.Writer
}

// WriteRecord implements taskrunner.LogSink.
func (l *textLog) WriteRecord(r taskrunner.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := fmt.Fprintln(l.w, tasklog.Entry{Timestamp: r.Time.UTC().Format("2006-01-02T15:04:05.000000Z"), Level: string(r.Level), Logger: r.Logger, Event: r.Event}.Text())
	return err
}

// Close implements taskrunner.LogSink.
func (l *textLog) Close() error { return nil }

// trialContext makes what a task sees in a run that exists, or in one made up
// for a date (none = now).
func (c *command) trialContext(ctx context.Context, a *localapp.App, dagID, taskID, runOrDate string, index int, folder string) (worker.Dispatch, *worker.TaskContext, error) {
	var d worker.Dispatch
	dag, dir, err := c.dagWithFiles(ctx, a, dagID, folder)
	if err != nil {
		return d, nil, err
	}
	task := dag.Task(airflow.TaskID(taskID))
	if task == nil {
		return d, nil, fmt.Errorf("DAG %q has no task %q: %w; it has %s", dagID, taskID, airflow.ErrNotFound, strings.Join(taskIDs(dag), ", "))
	}
	tc := &worker.TaskContext{DAG: dag, Task: task, TryNumber: 1, MaxTries: task.Retries, StartDate: c.env.Now().UTC(), BundleDir: dir}
	run, err := c.findRun(ctx, a, dagID, runOrDate)
	switch {
	case runOrDate != "" && err == nil:
		tc.Run = run
	case runOrDate == "" || errors.Is(err, airflow.ErrNotFound):
		if tc.Run, err = c.madeUpRun(dag, runOrDate); err != nil {
			return d, nil, err
		}
		if from := expandsOver(task); from != "" {
			c.hint("task %s expands over the results of %s: name a run that has them, or the arguments will be missing", taskID, from)
		}
	default:
		return d, nil, err
	}
	if index >= 0 {
		tc.ExpandedTICount = index + 1
	} else if task.IsMapped {
		return d, nil, usagef("task %q is mapped: say which instance with --map-index", taskID)
	}
	d = worker.Dispatch{Key: airflow.TaskInstanceKey{DagID: dag.DagID, RunID: tc.Run.RunID, TaskID: task.TaskID, MapIndex: index}, DispatchSeq: 1}
	return d, tc, nil
}

// expandsOver names the tasks whose results a mapped task expands over.
func expandsOver(t *airflow.Task) string {
	var ids []string
	if t.Expand != nil {
		for _, a := range t.Expand.Args {
			a.XCom.Sources(func(id airflow.TaskID, _ string) { ids = append(ids, string(id)) })
		}
	}
	return strings.Join(ids, ", ")
}

func taskIDs(dag *airflow.DAG) []string {
	var out []string
	for _, t := range dag.Tasks {
		out = append(out, string(t.TaskID))
	}
	return out
}

// madeUpRun is a run that exists nowhere, of a date or of now.
func (c *command) madeUpRun(dag *airflow.DAG, date string) (airflow.DagRun, error) {
	now := c.env.Now().UTC().Truncate(time.Microsecond)
	at, err := c.parseDate("LOGICAL_DATE_OR_RUN_ID", date)
	if err != nil {
		return airflow.DagRun{}, fmt.Errorf("DAG %q has no run %q, and it is no date: %w", dag.DagID, date, airflow.ErrNotFound)
	}
	if at == nil {
		at = &now
	}
	tt, err := timetable.Parse(dag.Timetable)
	if err != nil {
		return airflow.DagRun{}, err
	}
	id := "__airflow_temporary_run_" + now.Format("2006-01-02T15:04:05.000000-07:00") + "__"
	m, err := timetable.TriggerDag(tt, &id, at, at, false, now)
	if err != nil {
		return airflow.DagRun{}, err
	}
	r := airflow.DagRun{
		DagID: dag.DagID, RunID: airflow.RunID(id), RunType: airflow.RunTypeManual, State: airflow.RunRunning, RunAfter: m.RunAfter.UTC(),
		LogicalDate: at, StartDate: &now, TriggeredBy: airflow.TriggeredByTest, Conf: json.RawMessage("{}"),
	}
	if m.LogicalDate != nil {
		start, end := m.DataInterval.Start.UTC(), m.DataInterval.End.UTC()
		r.DataIntervalStart, r.DataIntervalEnd = &start, &end
	}
	return r, nil
}

func (c *command) tasksRender() *cobra.Command {
	var index int
	var folder string
	cmd := &cobra.Command{
		Use: "render DAG_ID TASK_ID [LOGICAL_DATE_OR_RUN_ID]", Short: "Show a task's template fields, rendered", Args: cobra.RangeArgs(2, 3),
		Example: "  gust tasks render my_dag my_task 2026-01-01",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			a, err := c.open(ctx)
			if err != nil {
				return err
			}
			d, tc, err := c.trialContext(ctx, a, args[0], args[1], append(args, "")[2], index, folder)
			if err != nil {
				return err
			}
			t := &trial{Backend: a.Backend, tc: tc, pushed: map[string]json.RawMessage{}}
			w, stop := a.TrialWorker(t, nil)
			defer stop()
			fields, err := w.Rendered(ctx, d, tc)
			if err != nil {
				return err
			}
			if c.output != "table" && c.output != "plain" {
				return one(c, fields, nil)
			}
			for _, name := range tc.Task.TemplateFields {
				text := string(fields[name])
				var s *string
				if json.Unmarshal(fields[name], &s) == nil && s != nil {
					text = *s
				} else if s == nil && (text == "" || text == "null") {
					text = "None"
				}
				c.say("# %s\n# property: %s\n# %s\n%s\n", strings.Repeat("-", 58), name, strings.Repeat("-", 58), text)
			}
			return nil
		},
	}
	mapIndexFlag(cmd, &index)
	dagsFolderFlag(cmd, &folder)
	return cmd
}

func (c *command) tasksTest() *cobra.Command {
	var index int
	var folder, params string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "test DAG_ID TASK_ID [LOGICAL_DATE_OR_RUN_ID]", Short: "Run one task here and now, without recording it", Args: cobra.RangeArgs(2, 3),
		Long: `Runs one task in this process and shows its log. Its dependencies are not looked at, no server is needed, and nothing is recorded:
not its state, not its XComs. What the task reads (variables, connections, XComs of an existing run) comes from the home.`,
		Example: `  gust tasks test my_dag my_task
  gust tasks test my_dag my_task 2026-01-01 --dags-folder dags
  gust tasks test my_dag my_task --task-params '{"day": 1}'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			runConf, err := parseConf("--task-params", params)
			if err != nil {
				return err
			}
			a, err := c.open(ctx)
			if err != nil {
				return err
			}
			d, tc, err := c.trialContext(ctx, a, args[0], args[1], append(args, "")[2], index, folder)
			if err != nil {
				return err
			}
			if runConf != nil {
				tc.Run.Conf = runConf
			}
			out := c.env.Stdout
			if c.output != "table" && c.output != "plain" {
				out = c.env.Stderr
			}
			t := &trial{Backend: a.Backend, tc: tc, pushed: map[string]json.RawMessage{}}
			w, stop := a.TrialWorker(t, func(worker.Dispatch, *worker.TaskContext) (taskrunner.LogSink, error) { return &textLog{w: out}, nil })
			defer stop()
			if dryRun {
				fields, err := w.Rendered(ctx, d, tc)
				if err != nil {
					return err
				}
				return one(c, fields, nil)
			}
			state, err := t.run(ctx, w, d, func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) })
			if err != nil {
				return err
			}
			keys := []string{}
			for k := range t.pushed {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			if c.output != "table" && c.output != "plain" {
				err = c.details(row{{"dag_id", d.Key.DagID}, {"task_id", d.Key.TaskID}, {"run_id", d.Key.RunID}, {"map_index", d.Key.MapIndex}, {"state", state}, {"xcoms", t.pushed}})
			} else {
				for _, k := range keys {
					c.say("XCom %s: %s", k, t.pushed[k])
				}
				c.say("Task %s: %s", airflow.TIName(d.Key.TaskID, index), c.paint(state.String(), stateColor(state.String())))
			}
			if err == nil && state.FailedSet() {
				return exitError(ExitFailed)
			}
			return err
		},
	}
	mapIndexFlag(cmd, &index)
	dagsFolderFlag(cmd, &folder)
	cmd.Flags().StringVarP(&params, "task-params", "t", "", "params, a JSON object")
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "only show the template fields, rendered")
	return cmd
}

// run runs the task to an end, waiting here where a server would let it wait.
func (t *trial) run(ctx context.Context, w *taskrunner.Worker, d worker.Dispatch, say func(string, ...any)) (airflow.TIState, error) {
	for {
		t.report = nil
		if err := w.Run(ctx, d); err != nil {
			return airflow.TINone, err
		}
		r := t.report
		if r == nil {
			return airflow.TINone, errors.New("the task ended without a report")
		}
		tc := *t.tc
		at := r.RescheduleAt
		switch {
		case r.Outcome == worker.OutcomeUpForReschedule:
			if tc.FirstRescheduleStart == nil {
				start := tc.StartDate
				tc.FirstRescheduleStart = &start
			}
			tc.RescheduleCount++
		case r.Outcome == worker.OutcomeDeferred && !r.Deferral.Trigger.At.IsZero():
			at = r.Deferral.Trigger.At
			if r.Deferral.Trigger.EndState == airflow.TISuccess {
				say("deferred until %s, then success", iso(&at))
				return airflow.TISuccess, wait(ctx, at)
			}
			tc.NextMethod, tc.NextKwargs = r.Deferral.NextMethod, r.Deferral.NextKwargs
		case r.Outcome == worker.OutcomeDeferred:
			say("deferred: it now waits for its trigger, which only a server hosts")
			return airflow.TIDeferred, nil
		default:
			return r.Outcome.State(false), nil
		}
		say("waits until %s", iso(&at))
		if err := wait(ctx, at); err != nil {
			return airflow.TINone, err
		}
		t.tc = &tc
		d.DispatchSeq++
	}
}

// wait waits until a time.
func wait(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (c *command) tasksRun() *cobra.Command {
	var index int
	var force, success bool
	cmd := &cobra.Command{
		Use: "run DAG_ID TASK_ID LOGICAL_DATE_OR_RUN_ID", Short: "Run one task instance of an existing run again, and wait for it", Args: cobra.ExactArgs(3),
		Long: `Clears one task instance of a run, waits until it has run, shows its log and ends with 1 if it failed. Its state and results are recorded.
The server of the home runs it; without a server, this command is the server for as long as the instance takes.`,
		Example: `  gust tasks run my_dag my_task my_run
  gust tasks run my_dag my_task my_run --mark-success`,
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
			key := store.RunKey{DagID: r.DagID, RunID: r.RunID}
			sel := scheduler.Selection{Tasks: []scheduler.TaskSelection{{TaskID: ti.TaskID, MapIndexes: []int{index}}}}
			if success {
				if _, err := a.Engine.MarkTask(ctx, key, scheduler.MarkOptions{Selection: sel, State: airflow.TISuccess}, c.env.User); err != nil {
					return err
				}
				return c.notify(ctx, a, localapp.Notice{Runs: []store.RunKey{key}})
			}
			if ti.State.SuccessSet() && !force {
				return fmt.Errorf("%s is %s already: %w; run it again with --force", ti.TaskInstanceKey, ti.State, airflow.ErrNotAllowed)
			}
			if _, err := a.Engine.Clear(ctx, key, engine.ClearRequest{ClearOptions: scheduler.ClearOptions{Selection: sel, ResetDagRun: true}, User: c.env.User}); err != nil {
				return err
			}
			there, err := a.Home.Notify(ctx, localapp.Notice{Runs: []store.RunKey{key}})
			if err != nil {
				return err
			}
			ended := func(ctx context.Context) (airflow.TaskInstance, error) {
				for {
					_, now, err := c.instance(ctx, a, args[0], args[1], string(r.RunID), index)
					if err != nil || now.State.Finished() {
						return now, err
					}
					if err := wait(ctx, time.Now().Add(50*time.Millisecond)); err != nil {
						return now, err
					}
				}
			}
			now := ti
			if there {
				now, err = ended(ctx)
			} else {
				now, err = c.whileServing(ctx, ended)
			}
			if err != nil {
				return err
			}
			logs := tasklog.New(a.Options.LogFolder, tasklog.Options{})
			_, err = logs.Read(now.TaskInstanceKey, now.TryNumber, 0, func(e tasklog.Entry) error {
				if c.output == "table" || c.output == "plain" {
					c.say("%s", e.Text())
				}
				return nil
			})
			if err != nil && !errors.Is(err, airflow.ErrNotFound) { // an instance that never started has none
				return err
			}
			if err := c.rows([]row{instanceRow(r, now)}, "dag_id", "task_id", "run_id", "state", "try_number", "duration"); err != nil {
				return err
			}
			if now.State.FailedSet() {
				return exitError(ExitFailed)
			}
			return nil
		},
	}
	mapIndexFlag(cmd, &index)
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also an instance that has succeeded")
	cmd.Flags().BoolVarP(&success, "mark-success", "m", false, "mark the instance success instead of running it")
	return cmd
}

// whileServing runs f beside a server of the home that creates no runs of its own.
func (c *command) whileServing(ctx context.Context, f func(context.Context) (airflow.TaskInstance, error)) (airflow.TaskInstance, error) {
	o, err := c.options("", nil)
	if err != nil {
		return airflow.TaskInstance{}, err
	}
	never := false
	o.Engine.UseJobSchedule = &never
	ctx, cancel := context.WithCancel(ctx)
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- localapp.Serve(ctx, o, localapp.ServeOptions{NoProcessor: true, Ready: func(string, dagprocessor.Summary) { close(ready) }})
	}()
	defer cancel()
	select {
	case <-ready:
	case err := <-done:
		return airflow.TaskInstance{}, err
	}
	ti, err := f(ctx)
	cancel()
	return ti, errors.Join(err, <-done)
}
