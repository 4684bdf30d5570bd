package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// bundleName is the name of the one DAG bundle of a home, as in Airflow.
const bundleName = "dags-folder"

func (c *command) dagsCommands() []*cobra.Command {
	dags := group("dags", "Manage DAGs",
		c.dagsList(), c.dagsDetails(), c.dagsListImportErrors(), c.dagsListRuns(), c.dagsState(), c.dagsNextExecution(),
		c.dagsPause(true), c.dagsPause(false), c.dagsTrigger(), c.dagsDelete(), c.dagsShow(), c.dagsTest(),
		c.dagsReserialize(), c.dagsValidate(), c.dagsSync(), c.dagsReport())
	dags.PersistentFlags().VarP(bundleFlag{}, "bundle-name", "B", "")
	_ = dags.PersistentFlags().MarkHidden("bundle-name")
	return []*cobra.Command{dags}
}

// bundleFlag accepts Airflow's --bundle-name: a home has one bundle.
type bundleFlag struct{}

func (bundleFlag) String() string { return "" }
func (bundleFlag) Type() string   { return "string" }
func (bundleFlag) Set(s string) error {
	if s != bundleName {
		return fmt.Errorf("there is no DAG bundle %q: expected %s", s, bundleName)
	}
	return nil
}

// dagRow is what lists show of a DAG: Airflow's DAGResponse as far as it is
// known without the DAG's document.
func dagRow(m airflow.DagModel) row {
	nonNil := func(s []string) []string {
		if s == nil {
			return []string{}
		}
		return s
	}
	return row{
		{"dag_id", m.DagID}, {"dag_display_name", m.DagDisplayName}, {"is_paused", m.IsPaused}, {"is_stale", m.IsStale},
		{"has_import_errors", m.HasImportErrors}, {"last_parsed_time", m.LastParsedTime}, {"bundle_name", bundleName}, {"bundle_version", m.BundleHash},
		{"relative_fileloc", m.RelativeFileloc}, {"fileloc", m.Fileloc}, {"owners", nonNil(m.Owners)}, {"tags", nonNil(m.Tags)}, {"description", m.Description},
		{"timetable_summary", m.TimetableSummary}, {"timetable_description", m.TimetableDescription},
		{"next_dagrun_logical_date", m.NextDagRunLogicalDate}, {"next_dagrun_data_interval_start", m.NextDagRunDataIntervalStart},
		{"next_dagrun_data_interval_end", m.NextDagRunDataIntervalEnd}, {"next_dagrun_run_after", m.NextDagRunRunAfter},
		{"latest_dag_version", m.LatestVersion},
	}
}

func rowKeys(r row) []string {
	var out []string
	for _, p := range r {
		out = append(out, p.key)
	}
	return out
}

func (c *command) dagsList() *cobra.Command {
	var cols []string
	var stale, local bool
	cmd := &cobra.Command{
		Use: "list", Short: "List all the DAGs", Args: cobra.NoArgs,
		Example: `  gust dags list
  gust dags list --columns dag_id,is_paused,next_dagrun_run_after
  gust dags list -o json | jq -r '.[].dag_id'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := columns(cols, rowKeys(dagRow(airflow.DagModel{}))); err != nil {
				return err
			}
			a, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			if local {
				return c.listLocal(cmd.Context(), a, cols)
			}
			ms, _, err := a.Store.ListDags(cmd.Context(), store.ListOptions{})
			if err != nil {
				return err
			}
			errs, err := a.Store.ListImportErrors(cmd.Context())
			if err != nil {
				return err
			}
			if len(errs) > 0 {
				c.hint("%s: %d DAG files could not be loaded; see `%s dags list-import-errors`", c.paintErr("error"), len(errs), c.env.Name)
			}
			var rs []row
			for _, m := range ms {
				if m.IsStale && !stale {
					continue
				}
				r := dagRow(m)
				if len(cols) > 0 {
					r = r.only(cols)
				}
				rs = append(rs, r)
			}
			keys := cols
			if len(keys) == 0 {
				keys = []string{"dag_id", "fileloc", "owners", "is_paused", "bundle_name", "bundle_version"}
			}
			return c.rows(rs, keys...)
		},
	}
	cmd.Flags().StringSliceVar(&cols, "columns", nil, "columns to show, divided by commas")
	cmd.Flags().BoolVar(&stale, "stale", false, "also DAGs whose file no longer defines them")
	cmd.Flags().BoolVarP(&local, "local", "l", false, "the DAGs of the DAG folder as it is now, not those registered")
	return cmd
}

// listLocal lists what the DAG folder holds without registering it.
func (c *command) listLocal(ctx context.Context, a *localapp.App, cols []string) error {
	reports, err := dagprocessor.Validate(ctx, dagprocessor.ValidateConfig{Loader: a.Options.Loader, Scan: a.Options.Scan, Root: a.Options.DagsFolder}, []string{a.Options.DagsFolder})
	if err != nil {
		return err
	}
	var rs []row
	for _, f := range reports {
		for _, d := range f.Dags {
			r := row{{"dag_id", d.DagID}, {"dag_display_name", d.DisplayName}, {"fileloc", f.File}, {"timetable_summary", d.Schedule}, {"task_num", d.TaskNum}}
			if len(cols) > 0 {
				r = r.only(cols)
			}
			rs = append(rs, r)
		}
	}
	slices.SortFunc(rs, func(a, b row) int {
		x, _ := a.get("dag_id")
		y, _ := b.get("dag_id")
		return strings.Compare(cell(x), cell(y))
	})
	return c.rows(rs)
}

func (c *command) dagsDetails() *cobra.Command {
	return &cobra.Command{
		Use: "details DAG_ID", Short: "Show all that is known of a DAG", Args: cobra.ExactArgs(1),
		Example: "  gust dags details my_dag -o yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			m, err := c.dag(cmd.Context(), a, args[0])
			if err != nil {
				return err
			}
			g, err := a.Engine.Graph(cmd.Context(), m.LatestHash)
			if err != nil {
				return err
			}
			d := g.DAG
			limits := false
			for _, t := range d.Tasks {
				limits = limits || t.MaxActiveTIsPerDag > 0 || t.MaxActiveTIsPerDagRun > 0
			}
			r := append(dagRow(m), row{
				{"max_active_tasks", d.MaxActiveTasks}, {"max_active_runs", d.MaxActiveRuns}, {"max_consecutive_failed_dag_runs", d.MaxConsecutiveFailedDagRuns},
				{"has_task_concurrency_limits", limits}, {"catchup", d.Catchup}, {"start_date", d.StartDate}, {"end_date", d.EndDate},
				{"dagrun_timeout", seconds(d.DagrunTimeout)}, {"timezone", d.Timezone}, {"doc_md", d.DocMD}, {"task_num", len(d.Tasks)},
				{"render_template_as_native_obj", d.RenderTemplateAsNativeObj}, {"fail_fast", d.FailFast}, {"warnings", d.Gust.Warnings},
			}...)
			// Airflow prints a list with one DAG.
			if c.output == "json" || c.output == "yaml" {
				return c.rows([]row{r})
			}
			return c.details(r)
		},
	}
}

func seconds(d time.Duration) any {
	if d == 0 {
		return nil
	}
	return d.Seconds()
}

func (c *command) dagsListImportErrors() *cobra.Command {
	var local bool
	cmd := &cobra.Command{
		Use: "list-import-errors", Short: "List the DAG files that could not be loaded, and why", Args: cobra.NoArgs,
		Long:    "Lists the DAG files that could not be loaded. Ends with 1 if there are any.",
		Example: "  gust dags list-import-errors -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			var rs []row
			add := func(file string, at *time.Time, ps []airflow.Problem, dags []airflow.DagID) {
				text := (&airflow.InvalidError{Problems: ps}).Error()
				rs = append(rs, row{{"bundle_name", bundleName}, {"filepath", file}, {"error", text}, {"timestamp", at}, {"problems", ps}, {"dag_ids", dags}})
			}
			if local {
				reports, err := dagprocessor.Validate(cmd.Context(), dagprocessor.ValidateConfig{Loader: a.Options.Loader, Scan: a.Options.Scan, Root: a.Options.DagsFolder}, []string{a.Options.DagsFolder})
				if err != nil {
					return err
				}
				for _, r := range reports {
					if !r.OK() {
						add(r.File, nil, r.Problems, nil)
					}
				}
			} else {
				errs, err := a.Store.ListImportErrors(cmd.Context())
				if err != nil {
					return err
				}
				for _, e := range errs {
					add(e.Filename, &e.Timestamp, e.Problems, e.DagIDs)
				}
			}
			if c.output == "table" && len(rs) > 0 {
				for _, r := range rs {
					file, _ := r.get("filepath")
					text, _ := r.get("error")
					c.say("%s", c.paint(fmt.Sprint(file), "\x1b[1m"))
					c.say("  %s", strings.ReplaceAll(fmt.Sprint(text), "\n", "\n  "))
				}
			} else if err := c.rows(rs, "bundle_name", "filepath", "error"); err != nil {
				return err
			}
			if len(rs) > 0 {
				return exitError(ExitFailed)
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&local, "local", "l", false, "load the DAG folder now instead of reading what was registered")
	return cmd
}

// paint colours text on a terminal.
func (c *command) paint(s, code string) string {
	if !c.color() {
		return s
	}
	return code + s + "\x1b[0m"
}

// runRow is a run as Airflow's CLI lists it, with more fields for scripts.
func runRow(r airflow.DagRun) row {
	return row{
		{"dag_id", r.DagID}, {"run_id", r.RunID}, {"state", r.State}, {"run_after", iso(&r.RunAfter)}, {"logical_date", iso(r.LogicalDate)},
		{"start_date", iso(r.StartDate)}, {"end_date", iso(r.EndDate)}, {"dag_run_id", r.RunID}, {"run_type", r.RunType}, {"triggered_by", r.TriggeredBy},
		{"data_interval_start", iso(r.DataIntervalStart)}, {"data_interval_end", iso(r.DataIntervalEnd)}, {"queued_at", iso(r.QueuedAt)},
		{"conf", conf(r)}, {"note", r.Note}, {"dag_version", r.DagVersion}, {"bundle_version", r.BundleHash},
	}
}

// conf is a run's conf, {} if it has none.
func conf(r airflow.DagRun) json.RawMessage {
	if len(r.Conf) == 0 || string(r.Conf) == "null" {
		return json.RawMessage("{}")
	}
	return r.Conf
}

func (c *command) dagsListRuns() *cobra.Command {
	var noBackfill bool
	var state, start, end, dagFlag string
	var limit int
	cmd := &cobra.Command{
		Use: "list-runs DAG_ID", Short: "List the runs of a DAG, newest first", Args: cobra.MaximumNArgs(1),
		Example: `  gust dags list-runs my_dag --state failed --limit 10
  gust dags list-runs my_dag --start-date 2026-01-01 -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			id := dagFlag
			if len(args) == 1 {
				id = args[0]
			}
			if id == "" {
				return usagef("which DAG? expected %s dags list-runs DAG_ID", c.env.Name)
			}
			if state != "" {
				if _, err := airflow.ParseDagRunState(strings.ToLower(state)); err != nil {
					return usagef("--state: %w", err)
				}
			}
			from, err := c.parseDate("--start-date", start)
			if err != nil {
				return err
			}
			to, err := c.parseDate("--end-date", end)
			if err != nil {
				return err
			}
			a, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			if _, err := c.dag(cmd.Context(), a, id); err != nil {
				return err
			}
			var rs []row
			err = eachRun(cmd.Context(), a, airflow.DagID(id), func(r airflow.DagRun) bool {
				if state != "" && string(r.State) != strings.ToLower(state) || noBackfill && r.RunType == airflow.RunTypeBackfill ||
					from != nil && (r.LogicalDate == nil || r.LogicalDate.Before(*from)) || to != nil && (r.LogicalDate == nil || r.LogicalDate.After(*to)) {
					return true
				}
				rs = append(rs, runRow(r))
				return limit == 0 || len(rs) < limit
			})
			if err != nil {
				return err
			}
			return c.rows(rs, "dag_id", "run_id", "state", "run_after", "logical_date", "start_date", "end_date")
		},
	}
	cmd.Flags().StringVarP(&dagFlag, "dag-id", "d", "", "the DAG (Airflow 2's spelling)")
	cmd.Flags().BoolVar(&noBackfill, "no-backfill", false, "leave runs of backfills out")
	cmd.Flags().StringVar(&state, "state", "", "only runs in this state: queued, running, success or failed")
	cmd.Flags().StringVarP(&start, "start-date", "s", "", "only runs with a logical date from this one on")
	cmd.Flags().StringVarP(&end, "end-date", "e", "", "only runs with a logical date up to this one")
	cmd.Flags().IntVar(&limit, "limit", 0, "at most so many runs")
	return cmd
}

// eachRun calls f with the runs of a DAG, newest first, until it returns false.
func eachRun(ctx context.Context, a *localapp.App, dag airflow.DagID, f func(airflow.DagRun) bool) error {
	o := store.ListOptions{Descending: true, Limit: 500}
	for {
		page, next, err := a.Store.ListRuns(ctx, dag, o)
		if err != nil {
			return err
		}
		for _, r := range page {
			if !f(r) {
				return nil
			}
		}
		if next == "" {
			return nil
		}
		o.Cursor = next
	}
}

// findRun returns a run by its id or its logical date.
func (c *command) findRun(ctx context.Context, a *localapp.App, dag, value string) (airflow.DagRun, error) {
	id := airflow.DagID(dag)
	r, err := a.Store.GetRun(ctx, store.RunKey{DagID: id, RunID: airflow.RunID(value)})
	if !errors.Is(err, airflow.ErrNotFound) {
		return r, err
	}
	if _, derr := taskrunner.ParseTime(value); derr == nil {
		at, err := c.parseDate("logical date", value)
		if err != nil {
			return r, err
		}
		if run, err := a.Store.RunOfLogicalDate(ctx, id, *at); err == nil {
			return a.Store.GetRun(ctx, store.RunKey{DagID: id, RunID: run})
		}
	}
	return r, fmt.Errorf("DAG %q has no run with the run_id or logical date %q: %w (%s dags list-runs %s shows what there is)", dag, value, airflow.ErrNotFound, c.env.Name, dag)
}

func (c *command) dagsState() *cobra.Command {
	return &cobra.Command{
		Use: "state DAG_ID LOGICAL_DATE_OR_RUN_ID", Short: "Show the state of a run, and its conf", Args: cobra.ExactArgs(2),
		Example: "  gust dags state my_dag manual__2026-01-31T08:00:00+00:00",
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			if _, err := c.dag(cmd.Context(), a, args[0]); err != nil {
				return err
			}
			r, err := c.findRun(cmd.Context(), a, args[0], args[1])
			if errors.Is(err, airflow.ErrNotFound) && c.output == "table" {
				c.say("None") // Airflow's answer
				return nil
			}
			if err != nil {
				return err
			}
			if c.output == "json" || c.output == "yaml" {
				return c.details(runRow(r))
			}
			text := string(r.State)
			if string(conf(r)) != "{}" {
				text += ", " + string(conf(r))
			}
			c.say("%s", text)
			return nil
		},
	}
}

func (c *command) dagsPause(pause bool) *cobra.Command {
	verb, short := "unpause", "Let a DAG's runs start again"
	if pause {
		verb, short = "pause", "Start no new runs or tasks of a DAG; what runs goes on"
	}
	var asRegex, yes bool
	cmd := &cobra.Command{
		Use: verb + " DAG_ID", Short: short, Args: cobra.ExactArgs(1),
		Long:    short + ".\nShows the state before, as Airflow does.",
		Example: fmt.Sprintf("  gust dags %s my_dag\n  gust dags %s --treat-dag-id-as-regex '^etl_' --yes", verb, verb),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			a, err := c.open(ctx)
			if err != nil {
				return err
			}
			var matched []airflow.DagModel
			if asRegex {
				re, err := regexp.Compile(args[0])
				if err != nil {
					return usagef("DAG_ID is no regular expression: %w", err)
				}
				all, _, err := a.Store.ListDags(ctx, store.ListOptions{})
				if err != nil {
					return err
				}
				for _, m := range all {
					if re.MatchString(string(m.DagID)) && m.IsPaused != pause {
						matched = append(matched, m)
					}
				}
			} else {
				m, err := c.dag(ctx, a, args[0])
				if err != nil {
					return err
				}
				if m.IsPaused != pause {
					matched = append(matched, m)
				}
			}
			if len(matched) == 0 {
				was := "paused"
				if pause {
					was = "unpaused"
				}
				if c.output != "table" {
					return c.rows(nil)
				}
				c.say("No %s DAGs were found", was)
				return nil
			}
			if asRegex {
				var ids []string
				for _, m := range matched {
					ids = append(ids, string(m.DagID))
				}
				ok, err := c.confirm(yes, "You are about to %s %d DAGs:\n%s\n\nAre you sure?", verb, len(ids), strings.Join(ids, ","))
				if err != nil {
					return err
				}
				if !ok {
					c.say("Operation cancelled by user")
					return nil
				}
			}
			var rs []row
			var n localapp.Notice
			for _, m := range matched {
				if _, err := a.Engine.SetPaused(ctx, m.DagID, pause, c.env.User); err != nil {
					return err
				}
				n.Dags = append(n.Dags, m.DagID)
				rs = append(rs, row{{"dag_id", m.DagID}, {"is_paused", m.IsPaused}})
			}
			if err := c.notify(ctx, a, n); err != nil {
				return err
			}
			return c.rows(rs)
		},
	}
	cmd.Flags().BoolVar(&asRegex, "treat-dag-id-as-regex", false, "all DAGs whose id matches the regular expression DAG_ID")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (c *command) dagsTrigger() *cobra.Command {
	var runID, confText, logical, note string
	var keepMicros, wait bool
	cmd := &cobra.Command{
		Use: "trigger DAG_ID", Short: "Start a run of a DAG", Args: cobra.ExactArgs(1),
		Long: "Creates a run. If the DAG is paused, the run stays queued until it is unpaused.",
		Example: `  gust dags trigger my_dag
  gust dags trigger my_dag -r backfill_of_monday -c '{"day": "2026-01-05"}' -o json
  gust dags trigger my_dag --wait            ends with 1 if the run fails`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			runConf, err := parseConf("--conf", confText)
			if err != nil {
				return err
			}
			at, err := c.parseDate("--logical-date", logical)
			if err != nil {
				return err
			}
			if err := c.checkRunID(runID); err != nil {
				return err
			}
			a, err := c.open(ctx)
			if err != nil {
				return err
			}
			m, err := c.dag(ctx, a, args[0])
			if err != nil {
				return err
			}
			r, err := a.Engine.Trigger(ctx, engine.TriggerOptions{
				DagID: m.DagID, RunID: airflow.RunID(runID), LogicalDate: at, ReplaceMicroseconds: !keepMicros, Conf: runConf, Note: note,
				TriggeredBy: airflow.TriggeredByCLI, User: c.env.User, Validate: taskrunner.CheckParams,
			})
			if errors.Is(err, airflow.ErrAlreadyExists) {
				return fmt.Errorf("DAG %q: a run with this run_id or logical date %w: %s", m.DagID, airflow.ErrAlreadyExists, r.RunID)
			}
			if err != nil {
				return err
			}
			if err := c.tell(ctx, a, localapp.Notice{Discover: true, Dags: []airflow.DagID{m.DagID}}, "the run starts"); err != nil {
				return err
			}
			if m.IsPaused {
				c.hint("DAG %q is paused: the run stays queued until `%s dags unpause %s`", m.DagID, c.env.Name, m.DagID)
			}
			if wait {
				if r, err = c.waitForRun(ctx, a, r); err != nil {
					return err
				}
			}
			out := row{
				{"conf", conf(r)}, {"dag_id", r.DagID}, {"dag_run_id", r.RunID}, {"data_interval_start", r.DataIntervalStart}, {"data_interval_end", r.DataIntervalEnd},
				{"end_date", r.EndDate}, {"last_scheduling_decision", r.LastSchedulingDecision}, {"logical_date", r.LogicalDate}, {"run_type", r.RunType},
				{"start_date", r.StartDate}, {"state", r.State}, {"triggering_user_name", r.TriggeringUserName}, {"run_after", r.RunAfter}, {"run_id", r.RunID},
			}
			if err := c.rows([]row{out}, "conf", "dag_id", "dag_run_id", "data_interval_start", "data_interval_end", "logical_date", "run_type", "state"); err != nil {
				return err
			}
			if wait && r.State == airflow.RunFailed {
				return exitError(ExitFailed)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&runID, "run-id", "r", "", "the run's id (default: made of its type and date)")
	cmd.Flags().StringVarP(&confText, "conf", "c", "", "the run's conf, a JSON object")
	cmd.Flags().StringVarP(&logical, "logical-date", "l", "", "the run's logical date (default: none given, now)")
	cmd.Flags().StringVarP(&logical, "exec-date", "e", "", "Airflow 2's name of --logical-date")
	_ = cmd.Flags().MarkHidden("exec-date")
	cmd.Flags().BoolVar(&keepMicros, "no-replace-microseconds", false, "keep the microseconds of the logical date")
	cmd.Flags().StringVar(&note, "note", "", "a note for people")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the run has ended")
	return cmd
}

// checkRunID applies [scheduler] allowed_run_id_pattern, which can only narrow
// what the engine takes.
func (c *command) checkRunID(id string) error {
	cfg, err := c.config()
	if err != nil || id == "" {
		return err
	}
	// Airflow's pattern has to match at the beginning; $ is up to the pattern.
	re, err := regexp.Compile("^(?:" + cfg.Scheduler.AllowedRunIDPattern + ")")
	if err != nil || !re.MatchString(id) {
		return usagef("run_id %q does not match [scheduler] allowed_run_id_pattern %s", id, cfg.Scheduler.AllowedRunIDPattern)
	}
	return nil
}

// waitForRun waits until a run has ended.
func (c *command) waitForRun(ctx context.Context, a *localapp.App, r airflow.DagRun) (airflow.DagRun, error) {
	if !a.Home.ServerRunning(ctx) {
		return r, fmt.Errorf("no server runs on %s: nothing would run what --wait waits for; start one with %s standalone", a.Home, c.env.Name)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := a.Store.GetRun(ctx, store.RunKey{DagID: r.DagID, RunID: r.RunID})
		if err != nil || now.State.Finished() {
			return now, err
		}
		select {
		case <-ctx.Done():
			return now, ctx.Err()
		case <-tick.C:
		}
	}
}

func (c *command) dagsDelete() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete DAG_ID", Short: "Delete everything that is stored of a DAG: runs, task instances, XComs, versions", Args: cobra.ExactArgs(1),
		Long:    "Deletes everything that is stored of a DAG. While its file is in the DAG folder, it comes back as a new DAG.",
		Example: "  gust dags delete old_dag --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			a, err := c.open(ctx)
			if err != nil {
				return err
			}
			m, err := c.dag(ctx, a, args[0])
			if err != nil {
				return err
			}
			ok, err := c.confirm(yes, "This will drop all existing records related to the DAG %s. Proceed?", m.DagID)
			if err != nil {
				return err
			}
			if !ok {
				c.say("Cancelled")
				return nil
			}
			if _, err := a.Engine.SetPaused(ctx, m.DagID, true, c.env.User); err != nil {
				return err
			}
			if err := c.notify(ctx, a, localapp.Notice{Dags: []airflow.DagID{m.DagID}}); err != nil {
				return err
			}
			var keys, running []store.RunKey
			if err := eachRun(ctx, a, m.DagID, func(r airflow.DagRun) bool {
				k := store.RunKey{DagID: r.DagID, RunID: r.RunID}
				keys = append(keys, k)
				if r.State == airflow.RunRunning {
					running = append(running, k)
				}
				return true
			}); err != nil {
				return err
			}
			for _, k := range running { // their tasks must stop before their rows go
				if _, err := a.Engine.MarkRun(ctx, k, airflow.RunFailed, c.env.User); err != nil {
					return err
				}
			}
			if err := c.notify(ctx, a, localapp.Notice{Runs: running}); err != nil {
				return err
			}
			for _, k := range keys {
				if err := a.Engine.DeleteRun(ctx, k); err != nil {
					return err
				}
				if err := a.Home.DeleteRecords(k); err != nil {
					return err
				}
			}
			if err := a.Store.DeleteDag(ctx, m.DagID); err != nil {
				return err
			}
			if _, err := c.logs(a).DeleteDag(ctx, m.DagID, false); err != nil {
				return err
			}
			if err := c.notify(ctx, a, localapp.Notice{Runs: keys, Dags: []airflow.DagID{m.DagID}}); err != nil {
				return err
			}
			if c.output == "json" || c.output == "yaml" {
				return c.rows([]row{{{"dag_id", m.DagID}, {"dag_runs", len(keys)}}})
			}
			c.say("Removed DAG %s with %d runs", m.DagID, len(keys))
			return nil
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}
