package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagdraw"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/tasklog"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

type dagTest struct {
	dag, file, conf, pattern, save string
	at                             *time.Time
	showDot, noLogs                bool
}

func (c *command) dagsTest() *cobra.Command {
	var t dagTest
	var useExecutor, imgcat bool
	cmd := &cobra.Command{
		Use: "test DAG_ID [LOGICAL_DATE]", Short: "Run a DAG once, now, and show what happens", Args: cobra.RangeArgs(1, 2),
		Long: `Runs one run of a DAG in a store of its own that is thrown away afterwards: the
home, its server and their runs are not touched. Variables, connections and
pools are those of the home and the environment. Ends with 1 if the run fails.`,
		Example: `  gust dags test my_dag
  gust dags test my_dag 2026-01-31 -c '{"day": 1}'
  gust dags test my_dag -f dags/my_dag.yml --mark-success-pattern 'wait_.*'
  gust dags test my_dag --save-dagrun run.svg`,
		RunE: func(cmd *cobra.Command, args []string) error {
			t.dag = args[0]
			if imgcat {
				return usagef("--imgcat-dagrun is not supported: use --save-dagrun run.svg")
			}
			if len(args) == 2 {
				var err error
				if t.at, err = c.parseDate("LOGICAL_DATE", args[1]); err != nil {
					return err
				}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return c.testDag(ctx, t)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&t.file, "dagfile-path", "f", "", "the DAG file, inside or outside of the DAG folder")
	f.StringVarP(&t.conf, "conf", "c", "", "the run's conf, a JSON object")
	f.StringVar(&t.pattern, "mark-success-pattern", "", "do not run tasks whose id matches: mark them success")
	f.BoolVar(&t.showDot, "show-dagrun", false, "print the run as DOT at the end")
	f.StringVar(&t.save, "save-dagrun", "", "write a drawing of the run to this file (.svg, .dot, .mmd, .txt)")
	f.BoolVar(&t.noLogs, "no-logs", false, "do not print the logs of the tasks")
	f.BoolVar(&useExecutor, "use-executor", false, "accepted for Airflow's sake: tasks always run through the executor")
	f.BoolVar(&imgcat, "imgcat-dagrun", false, "")
	_ = f.MarkHidden("imgcat-dagrun")
	return cmd
}

// homeSecrets looks variables and connections up in the environment and then in
// the store of another home.
type homeSecrets struct {
	env engine.Secrets
	s   *store.Store
}

func (h homeSecrets) Variable(ctx context.Context, key string) (airflow.Variable, bool, error) {
	if v, ok, err := h.env.Variable(ctx, key); ok || err != nil {
		return v, ok, err
	}
	v, err := h.s.GetVariable(ctx, key)
	if errors.Is(err, airflow.ErrNotFound) {
		return v, false, nil
	}
	return v, err == nil, err
}

func (h homeSecrets) Connection(ctx context.Context, id string) (airflow.Connection, bool, error) {
	if v, ok, err := h.env.Connection(ctx, id); ok || err != nil {
		return v, ok, err
	}
	v, err := h.s.GetConnection(ctx, id)
	if errors.Is(err, airflow.ErrNotFound) {
		return v, false, nil
	}
	return v, err == nil, err
}

// oneFile is a Loader that loads only one file of a folder.
type oneFile struct {
	dagprocessor.Loader
	path string // relative to the folder, with slashes
}

func (l oneFile) Load(ctx context.Context, r dagprocessor.LoadRequest) dagprocessor.LoadResult {
	if r.Path != l.path {
		return dagprocessor.LoadResult{}
	}
	return l.Loader.Load(ctx, r)
}

func (c *command) testDag(ctx context.Context, t dagTest) error {
	runConf, err := parseConf("--conf", t.conf)
	if err != nil {
		return err
	}
	var pattern *regexp.Regexp
	if t.pattern != "" {
		if pattern, err = regexp.Compile("^(?:" + t.pattern + ")"); err != nil {
			return usagef("--mark-success-pattern: %w", err)
		}
	}
	home, err := c.open(ctx)
	if err != nil {
		return err
	}
	folder := ""
	if t.file != "" {
		if t.file, err = filepath.Abs(t.file); err != nil {
			return err
		}
		if st, err := os.Stat(t.file); err != nil || st.IsDir() {
			return usagef("--dagfile-path %s: expected a DAG file", t.file)
		}
		folder = home.Options.DagsFolder
		if rel, err := filepath.Rel(folder, t.file); err != nil || strings.HasPrefix(rel, "..") {
			folder = filepath.Dir(t.file)
		}
	}
	o, err := c.options(folder, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if t.file != "" {
		rel, err := filepath.Rel(o.DagsFolder, t.file)
		if err != nil {
			return err
		}
		o.Loader = oneFile{o.Loader, filepath.ToSlash(rel)}
	}
	tmp, err := os.MkdirTemp("", "gust-test-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	paused, schedule := true, false
	o.Home, o.LogFolder, o.PausedAtCreation, o.Engine.UseJobSchedule = tmp, filepath.Join(tmp, "logs"), &paused, &schedule
	o.Secrets = homeSecrets{o.Secrets, home.Store}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var app *localapp.App
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- localapp.Serve(ctx, o, localapp.ServeOptions{
			Opened: func(a *localapp.App) { app = a },
			Ready:  func(string, dagprocessor.Summary) { close(ready) },
		})
	}()
	select {
	case err := <-ended:
		if err == nil {
			err = ctx.Err()
		}
		return err
	case <-ready:
	}
	runErr := c.runTest(ctx, app, home, t, runConf, pattern)
	cancel()
	return errors.Join(runErr, <-ended)
}

func (c *command) runTest(ctx context.Context, a, home *localapp.App, t dagTest, runConf []byte, pattern *regexp.Regexp) error {
	pools, err := home.Store.ListPools(ctx)
	if err != nil {
		return err
	}
	for _, p := range pools {
		if err := a.Engine.PutPool(ctx, p); err != nil {
			return err
		}
	}
	id := airflow.DagID(t.dag)
	all, _, err := a.Store.ListDags(ctx, store.ListOptions{})
	if err != nil {
		return err
	}
	found := false
	for _, m := range all {
		found = found || m.DagID == id
		if !m.IsPaused {
			if _, err := a.Engine.SetPaused(ctx, m.DagID, true, c.env.User); err != nil {
				return err
			}
		}
	}
	if !found {
		return c.noSuchDag(ctx, a, t)
	}
	at := t.at
	if at == nil {
		now := c.env.Now().UTC()
		at = &now
	}
	r, err := a.Engine.Trigger(ctx, engine.TriggerOptions{DagID: id, LogicalDate: at, Conf: runConf, TriggeredBy: airflow.TriggeredByTest, User: c.env.User, Validate: taskrunner.CheckParams})
	if err != nil {
		return err
	}
	key := store.RunKey{DagID: id, RunID: r.RunID}
	if pattern != nil {
		g, err := a.Engine.Graph(ctx, r.DagHash)
		if err != nil {
			return err
		}
		var sel []scheduler.TaskSelection
		for _, task := range g.DAG.Tasks {
			if pattern.MatchString(string(task.TaskID)) {
				sel = append(sel, scheduler.TaskSelection{TaskID: task.TaskID})
			}
		}
		if len(sel) > 0 {
			if _, err := a.Engine.MarkTask(ctx, key, scheduler.MarkOptions{Selection: scheduler.Selection{Tasks: sel}, State: airflow.TISuccess}, c.env.User); err != nil {
				return err
			}
		}
	}
	c.progress("%s: run %s", id, r.RunID)
	if _, err := a.Engine.SetPaused(ctx, id, false, c.env.User); err != nil {
		return err
	}
	w := &testWatch{c: c, a: a, key: key, logs: c.logs(a), quiet: t.noLogs, seen: map[string]airflow.TaskInstance{}, offsets: map[string]int64{}}
	if r, err = w.watch(ctx); err != nil {
		return err
	}
	return c.testSummary(ctx, a, t, r, w.tis)
}

// progress prints a line about the test, beside the data of -o json.
func (c *command) progress(format string, args ...any) {
	out := c.env.Stdout
	if c.output == "json" || c.output == "yaml" {
		out = c.env.Stderr
	}
	fmt.Fprintf(out, format+"\n", args...)
}

// noSuchDag explains why a DAG is not there: most often its file is broken.
func (c *command) noSuchDag(ctx context.Context, a *localapp.App, t dagTest) error {
	es, err := a.Store.ListImportErrors(ctx)
	if err != nil {
		return err
	}
	msg := fmt.Sprintf("DAG %q could not be found in %s", t.dag, a.Options.DagsFolder)
	if t.file != "" {
		msg = fmt.Sprintf("DAG %q could not be found in %s", t.dag, t.file)
	}
	for _, e := range es {
		msg += "\n" + (&airflow.InvalidError{Problems: e.Problems}).Error()
	}
	return errors.New(msg)
}

// testWatch prints what happens in a run while it happens.
type testWatch struct {
	c       *command
	a       *localapp.App
	key     store.RunKey
	logs    *tasklog.Logs
	quiet   bool
	seen    map[string]airflow.TaskInstance
	offsets map[string]int64
	tis     []airflow.TaskInstance
	moved   time.Time
	hinted  bool
}

func (w *testWatch) watch(ctx context.Context) (airflow.DagRun, error) {
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	w.moved = time.Now()
	for {
		// Ask before reading: what was written before the end is then read.
		r, err := w.a.Store.GetRun(ctx, w.key)
		if err == nil {
			err = w.look(ctx)
		}
		if err != nil {
			return r, err
		}
		if r.State.Finished() {
			return r, nil
		}
		if !w.hinted && time.Since(w.moved) > 5*time.Second {
			w.explain(ctx)
		}
		select {
		case <-ctx.Done():
			return r, errors.New("stopped before the run ended")
		case <-tick.C:
		}
	}
}

// look prints the changes of states since the last look, and new lines of logs.
func (w *testWatch) look(ctx context.Context) error {
	tis, err := w.a.Engine.TaskInstances(ctx, w.key)
	if err != nil {
		return err
	}
	w.tis = tis
	for _, ti := range tis {
		name := airflow.TIName(ti.TaskID, ti.MapIndex)
		was, known := w.seen[name]
		changed := !known && ti.State != airflow.TINone || known && (was.State != ti.State || was.TryNumber != ti.TryNumber)
		w.seen[name] = ti
		if ti.TryNumber > 0 && !w.quiet && (changed || !ti.State.Finished()) {
			if err := w.log(ti, name); err != nil {
				return err
			}
		}
		if !changed || ti.State == airflow.TIScheduled || ti.State == airflow.TIQueued {
			continue
		}
		w.moved, w.hinted = time.Now(), false
		line := w.c.paint(ti.State.String(), stateColor(ti.State.String()))
		if ti.State.Finished() && ti.Duration != nil {
			line += " after " + dagdraw.Duration(time.Duration(*ti.Duration*float64(time.Second)))
		}
		if ti.TryNumber > 1 {
			line += fmt.Sprintf(" (try %d)", ti.TryNumber)
		}
		w.c.progress("%s %s %s", w.c.env.Now().Format("15:04:05.000"), name, line)
	}
	return nil
}

// log prints the new lines of the log of an instance's try.
func (w *testWatch) log(ti airflow.TaskInstance, name string) error {
	id := fmt.Sprintf("%s#%d", name, ti.TryNumber)
	next, err := w.logs.Read(ti.TaskInstanceKey, ti.TryNumber, w.offsets[id], func(e tasklog.Entry) error {
		level := ""
		if e.Level != "" && e.Level != "info" {
			level = strings.ToUpper(e.Level) + " - "
		}
		for _, line := range strings.Split(e.Event, "\n") {
			w.c.progress("  %s %s%s", w.c.paint(name+" |", "\x1b[90m"), level, line)
		}
		return nil
	})
	if errors.Is(err, airflow.ErrNotFound) {
		return nil
	}
	if err == nil {
		w.offsets[id] = next
	}
	return err
}

// explain says once why nothing moves.
func (w *testWatch) explain(ctx context.Context) {
	w.hinted = true
	reasons, err := w.a.Engine.Explain(ctx, w.key)
	if err != nil {
		return
	}
	for _, r := range reasons {
		if r.State == airflow.TIRunning || r.Text == "" {
			continue
		}
		name := "the run"
		if r.Key.TaskID != "" {
			name = airflow.TIName(r.Key.TaskID, r.Key.MapIndex)
		}
		w.c.progress("  %s: %s", name, r.Text)
	}
}

// testSummary prints what became of the run.
func (c *command) testSummary(ctx context.Context, a *localapp.App, t dagTest, r airflow.DagRun, tis []airflow.TaskInstance) error {
	switch c.output {
	case "json", "yaml":
		out := append(runRow(r), pair{"task_instances", tis})
		if err := c.rows([]row{out}); err != nil {
			return err
		}
	default:
		if _, err := io.WriteString(c.env.Stdout, "\n"+dagdraw.Gantt(tis, c.env.Now(), c.env.Width, c.color())); err != nil {
			return err
		}
		counts := map[airflow.TIState]int{}
		for _, ti := range tis {
			counts[ti.State]++
		}
		var parts []string
		for s := range airflow.NumTIStates {
			if n := counts[airflow.TIState(s)]; n > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", n, airflow.TIState(s)))
			}
		}
		took := ""
		if r.StartDate != nil && r.EndDate != nil {
			took = " after " + dagdraw.Duration(r.EndDate.Sub(*r.StartDate))
		}
		c.say("\nrun %s%s: %s", c.paint(string(r.State), stateColor(string(r.State))), took, strings.Join(parts, ", "))
	}
	if t.save != "" || t.showDot {
		g, err := a.Engine.Graph(ctx, r.DagHash)
		if err != nil {
			return err
		}
		if t.showDot {
			c.progress("%s", dagdraw.DOT(g.DAG, taskStates(tis)))
		}
		if t.save != "" {
			out, err := c.drawing(strings.TrimPrefix(filepath.Ext(t.save), "."), g.DAG, taskStates(tis), false)
			if err != nil {
				return err
			}
			if err := os.WriteFile(t.save, []byte(out), 0o644); err != nil {
				return err
			}
			c.progress("File %s saved", t.save)
		}
	}
	if r.State == airflow.RunFailed {
		return exitError(ExitFailed)
	}
	return nil
}
