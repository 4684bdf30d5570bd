package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/timetable"
)

func (c *command) explainCommands() []*cobra.Command {
	return []*cobra.Command{c.explain(), c.replay()}
}

// finding is one reason why something does not move.
type finding struct {
	about   string // the DAG, a run or a task instance
	runID   airflow.RunID
	taskID  airflow.TaskID
	index   int
	state   string
	code    scheduler.Code
	text    string
	wakesBy string
	wakeAt  *time.Time
}

func (f finding) row() row {
	return row{
		{"about", f.about}, {"run_id", f.runID}, {"task_id", f.taskID}, {"map_index", f.index}, {"state", f.state}, {"code", f.code},
		{"reason", f.text}, {"wakes_by", f.wakesBy}, {"wake_at", f.wakeAt},
	}
}

// Codes of findings about a DAG that the scheduler has no word for.
const (
	codeNoServer   scheduler.Code = "no_server"
	codeNoSchedule scheduler.Code = "no_schedule"
	codeNextRun    scheduler.Code = "next_run"
	codeAssets     scheduler.Code = "waits_for_assets"
	codeTaskFailed scheduler.Code = "task_failed"
)

func (c *command) explain() *cobra.Command {
	return &cobra.Command{
		Use: "explain DAG_ID [LOGICAL_DATE_OR_RUN_ID]", Short: "Say why nothing moves: of a DAG, its runs and their tasks", Args: cobra.RangeArgs(1, 2),
		Long: `Says why a DAG starts no run, why a run does not go on, and for each task instance that is not finished what it waits for and what would wake it.
Without a run, the DAG and its unfinished runs are explained.`,
		Example: `  gust explain my_dag
  gust explain my_dag my_run -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			a, err := c.open(ctx)
			if err != nil {
				return err
			}
			var fs []finding
			m, err := a.Store.GetDag(ctx, airflow.DagID(args[0]))
			switch {
			case errors.Is(err, airflow.ErrNotFound):
				return c.explainUnknown(ctx, a, args[0])
			case err != nil:
				return err
			case len(args) == 1:
				if fs, err = c.explainDag(ctx, a, m); err != nil {
					return err
				}
			default:
				r, err := c.findRun(ctx, a, args[0], args[1])
				if err != nil {
					return err
				}
				if fs, err = c.explainRun(ctx, a, r); err != nil {
					return err
				}
			}
			if !a.Home.ServerRunning(ctx) {
				fs = append([]finding{{about: "home", index: airflow.Unmapped, code: codeNoServer, text: fmt.Sprintf("No server runs on %s: nothing is scheduled or run.", a.Home), wakesBy: c.env.Name + " standalone"}}, fs...)
			}
			return c.showFindings(fs)
		},
	}
}

func (c *command) showFindings(fs []finding) error {
	if c.output != "table" {
		rs := []row{}
		for _, f := range fs {
			rs = append(rs, f.row())
		}
		return c.rows(rs, "about", "state", "code", "reason", "wakes_by", "wake_at")
	}
	for _, f := range fs {
		state := ""
		if f.state != "" {
			state = " (" + c.paint(f.state, stateColor(f.state)) + ")"
		}
		c.say("%s%s: %s", f.about, state, f.text)
		switch {
		case f.wakeAt != nil && f.wakesBy != "" && f.wakesBy != "time":
			c.say("    moves by: %s, or at %s", f.wakesBy, iso(f.wakeAt))
		case f.wakeAt != nil:
			c.say("    moves at: %s%s", iso(f.wakeAt), c.in(*f.wakeAt))
		case f.wakesBy != "":
			c.say("    moves by: %s", f.wakesBy)
		}
	}
	if len(fs) == 0 {
		c.say("Nothing waits.")
	}
	return nil
}

// in says how far off a time is.
func (c *command) in(t time.Time) string {
	d := t.Sub(c.env.Now()).Round(time.Second)
	if d <= 0 {
		return ""
	}
	return fmt.Sprintf(" (in %s)", d)
}

// explainUnknown says why a DAG is not known.
func (c *command) explainUnknown(ctx context.Context, a *localapp.App, id string) error {
	es, err := a.Store.ListImportErrors(ctx)
	if err != nil {
		return err
	}
	var files []string
	for _, e := range es {
		files = append(files, e.Filename)
		for _, p := range e.Problems {
			if p.Field == id || strings.HasPrefix(p.Field, id+".") {
				return fmt.Errorf("DAG %q could not be loaded: %s", id, p)
			}
		}
	}
	ms, _, err := a.Store.ListDags(ctx, store.ListOptions{})
	if err != nil {
		return err
	}
	var names []string
	for _, m := range ms {
		names = append(names, string(m.DagID))
	}
	text := fmt.Sprintf("no DAG file that was read so far defines DAG %q", id)
	if near := nearest(id, names); near != "" {
		text += fmt.Sprintf("; did you mean %q?", near)
	}
	if len(files) > 0 {
		text += fmt.Sprintf("; it may be in a file with import errors: %s (see `%s dags list-import-errors`)", strings.Join(files, ", "), c.env.Name)
	}
	if len(names) == 0 {
		text += fmt.Sprintf("; home %s knows no DAG: start `%s standalone --dags-folder DIR`", a.Home, c.env.Name)
	}
	return fmt.Errorf("%w: %s", airflow.ErrNotFound, text)
}

// nearest returns the name that differs least from s, "" if all differ much.
func nearest(s string, names []string) string {
	best, at := max(2, len(s)/3)+1, ""
	for _, n := range names {
		if d := editDistance(s, n); d < best {
			best, at = d, n
		}
	}
	return at
}

// editDistance counts the insertions, deletions and replacements between two texts.
func editDistance(a, b string) int {
	line := make([]int, len(b)+1)
	for j := range line {
		line[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := line[0]
		line[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = line[j]
			line[j] = min(cost, line[j]+1, line[j-1]+1)
		}
	}
	return line[len(b)]
}

// explainedRuns bounds the unfinished runs that explain goes into.
const explainedRuns = 5

// explainDag says why a DAG starts no run, and explains its unfinished runs.
func (c *command) explainDag(ctx context.Context, a *localapp.App, m airflow.DagModel) ([]finding, error) {
	var fs []finding
	add := func(code scheduler.Code, wakesBy string, at *time.Time, format string, args ...any) {
		fs = append(fs, finding{about: string(m.DagID), index: airflow.Unmapped, code: code, text: fmt.Sprintf(format, args...), wakesBy: wakesBy, wakeAt: at})
	}
	if m.IsStale {
		add(scheduler.CodeDagStale, "defining it in a DAG file again", nil, "The DAG is stale: no DAG file defines it any more (it was in %s).", m.RelativeFileloc)
	}
	if m.HasImportErrors {
		add(scheduler.CodeImportErrors, "mending the file", nil, "Its file %s has import errors: running runs go on with the last good version, no new ones start (see `%s dags list-import-errors`).", m.RelativeFileloc, c.env.Name)
	}
	if m.IsPaused {
		add(scheduler.CodePaused, c.env.Name+" dags unpause "+string(m.DagID), nil, "The DAG is paused: no run is created or started.")
	}
	active, err := a.Store.ListActiveRuns(ctx, m.DagID)
	if err != nil {
		return nil, err
	}
	g, err := a.Engine.Graph(ctx, m.LatestHash)
	if err != nil {
		return nil, err
	}
	running := 0
	for _, r := range active {
		if r.State == airflow.RunRunning && r.BackfillID == 0 {
			running++
		}
	}
	tt, err := timetable.Parse(g.DAG.Timetable)
	if err != nil {
		return nil, err
	}
	var next *timetable.RunInfo
	if tt.CanBeScheduled() {
		runs, err := nextRuns(g.DAG, m, 1, c.env.Now().UTC())
		if err != nil {
			add(codeNextRun, "mending the schedule", nil, "Its next run cannot be computed: %v.", err)
		}
		if len(runs) > 0 {
			next = &runs[0]
		}
	}
	switch _, byAssets, err := scheduler.AssetConditionOf(g.DAG); {
	case err != nil:
		return nil, err
	case byAssets:
		queued, err := a.Store.ListQueuedAssets(ctx, m.DagID)
		if err != nil {
			return nil, err
		}
		var names []string
		for _, q := range queued {
			names = append(names, q.AssetName)
		}
		slices.Sort(names)
		have := "none was updated since its last run"
		if len(names) > 0 {
			have = "updated so far: " + strings.Join(slices.Compact(names), ", ")
		}
		add(codeAssets, "updates of its assets", nil, "It runs when its assets are updated (%s): %s.", m.TimetableSummary, have)
	case !tt.CanBeScheduled():
		add(codeNoSchedule, c.env.Name+" dags trigger "+string(m.DagID), nil, "It has no schedule: it runs when somebody or another DAG triggers it.")
	case running >= g.DAG.MaxActiveRuns && g.DAG.MaxActiveRuns > 0:
		add(scheduler.CodeMaxActiveRuns, "a run ending", nil, "max_active_runs = %d runs are running already.", g.DAG.MaxActiveRuns)
	case next != nil:
		what := "The next run"
		if next.LogicalDate != nil {
			what += " (logical date " + iso(next.LogicalDate) + ")"
		}
		switch {
		case !next.RunAfter.After(c.env.Now()):
			add(codeNextRun, "", nil, "%s is due by its schedule (%s).", what, m.TimetableSummary)
		case m.IsPaused || m.HasImportErrors || m.IsStale:
			add(codeNextRun, "time", &next.RunAfter, "%s would be created by its schedule (%s).", what, m.TimetableSummary)
		default:
			add(codeNextRun, "time", &next.RunAfter, "%s is created by its schedule (%s).", what, m.TimetableSummary)
		}
	default:
		add(codeNextRun, "", nil, "Its schedule (%s) has no next run: it is past its end_date, or ran as often as it should.", m.TimetableSummary)
	}
	slices.SortFunc(active, func(x, y airflow.DagRun) int { return y.RunAfter.Compare(x.RunAfter) })
	for i, r := range active {
		if i == explainedRuns {
			add("", "", nil, "… and %d more unfinished runs (see `%s dags list-runs %s`).", len(active)-i, c.env.Name, m.DagID)
			break
		}
		more, err := c.explainRun(ctx, a, r)
		if err != nil {
			return nil, err
		}
		if r.State == airflow.RunQueued {
			more = more[:min(1, len(more))] // its tasks all wait for its start
		}
		fs = append(fs, more...)
	}
	return fs, nil
}

// explainRun says why a run and its task instances do not move, or how it ended.
func (c *command) explainRun(ctx context.Context, a *localapp.App, r airflow.DagRun) ([]finding, error) {
	key := store.RunKey{DagID: r.DagID, RunID: r.RunID}
	if r.State.Finished() {
		return c.explainEnd(ctx, a, r)
	}
	reasons, err := a.Engine.Explain(ctx, key)
	if err != nil {
		return nil, err
	}
	about := "run " + string(r.RunID)
	var fs []finding
	for _, x := range reasons {
		f := finding{about: about, runID: r.RunID, taskID: x.Key.TaskID, index: x.Key.MapIndex, code: x.Code, text: x.Text, wakesBy: x.WakesBy}
		if !x.WakeAt.IsZero() {
			f.wakeAt = &x.WakeAt
		}
		if x.Pos >= 0 {
			f.about = about + ", " + airflow.TIName(x.Key.TaskID, x.Key.MapIndex)
			f.state = stateText(x.State)
		} else {
			f.state = string(r.State)
		}
		fs = append(fs, f)
	}
	return fs, nil
}

// explainEnd says how a run ended: what failed, and in a word why.
func (c *command) explainEnd(ctx context.Context, a *localapp.App, r airflow.DagRun) ([]finding, error) {
	about := "run " + string(r.RunID)
	end := finding{about: about, runID: r.RunID, index: airflow.Unmapped, state: string(r.State), text: fmt.Sprintf("Ended %s: nothing of it is scheduled any more.", iso(r.EndDate)),
		wakesBy: fmt.Sprintf("%s tasks clear %s --run-id '%s'", c.env.Name, r.DagID, r.RunID), code: scheduler.CodeRunFinished}
	fs := []finding{end}
	if r.State != airflow.RunFailed {
		return fs, nil
	}
	tis, err := a.Engine.TaskInstances(ctx, store.RunKey{DagID: r.DagID, RunID: r.RunID})
	if err != nil {
		return nil, err
	}
	var keys []airflow.TaskInstanceKey
	for _, ti := range tis {
		if ti.State == airflow.TIFailed {
			keys = append(keys, ti.TaskInstanceKey)
		}
	}
	rows, err := a.Store.GetAttempts(ctx, keys)
	if err != nil {
		return nil, err
	}
	for _, ti := range tis {
		f := finding{about: about + ", " + airflow.TIName(ti.TaskID, ti.MapIndex), runID: r.RunID, taskID: ti.TaskID, index: ti.MapIndex, state: stateText(ti.State), code: codeTaskFailed}
		switch ti.State {
		case airflow.TIFailed:
			f.text = fmt.Sprintf("Failed at try %d.", ti.TryNumber)
			if e := rows[ti.TaskInstanceKey].Error; e != "" {
				f.text = fmt.Sprintf("Failed at try %d: %s", ti.TryNumber, lastLine(e))
			}
			f.wakesBy = fmt.Sprintf("clearing it; its log: %s logs %s '%s' %s", c.env.Name, r.DagID, r.RunID, ti.TaskID)
			if ti.MapIndex >= 0 {
				f.wakesBy += fmt.Sprintf(" --map-index %d", ti.MapIndex)
			}
		case airflow.TIUpstreamFailed:
			f.code, f.text = scheduler.CodeTriggerRule, "Not run: its trigger rule was not met, because tasks above it failed."
		default:
			continue
		}
		fs = append(fs, f)
	}
	return fs, nil
}

// lastLine is what an error says in the end, under a traceback for instance.
func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
